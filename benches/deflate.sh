#!/usr/bin/env bash
# What compressing costs: 1,000 subscribers that negotiated permessage-deflate, 4 KiB of JSON of which deflate makes about a
# quarter, each publication another. Fanfare compresses a publication once; beside it stand those who compress it for each
# subscriber: Fanfare's own engine by direct sends, and npm `ws`. Each is compared with uncompressed Fanfare in turns (`loadgen ab`),
# so all ratios are to the same. The last rows have rates that those can keep.
#
#   cargo build --release -p fanfare -p loadgen -p fanfare-benches && npm install --prefix benches/peers
#   benches/deflate.sh [DIRECTORY]
#
# PAIRS (20) and SUBSCRIBERS (1000) can be set. Exits with 1 if compressing once costs more than 1.1 times the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$PWD/target/release
out=${1:-target/deflate}
pairs=${PAIRS:-20}
mkdir -p "$out"
ulimit -n "$(ulimit -Hn)"

fanfare="$bin/fanfare --listen 127.0.0.1:0 --shards 1 --log warn"
# ab NAME B-COMMAND ARGUMENT…: plain Fanfare against another server with clients that offer compression. Only
# the server's CPU is looked at, on which it has no bearing how long the load generator had to wait for its core.
ab() {
  local name=$1 b=$2
  shift 2
  rm -rf "${out:?}/$name"
  printf '== %s\n' "$name"
  "$bin/loadgen" ab --a "$fanfare" --b "$b" --a-name 'plain' --b-name "$name" --b-set target.deflate=true \
    --name "$name" --server-cores 0 --pin 1 --subscribers "${SUBSCRIBERS:-1000}" --payload-bytes 4KiB --filler json \
    --warmup 1s --slice 500ms --figure server-cpu --set client.lag_max=10s --out "$out/$name" "$@" >"$out/$name.txt" 2>&1 || {
    tail -n 5 "$out/$name.txt"
    return 1
  }
}

ab once "$fanfare --deflate" --pairs "$pairs" --rate 100
ab once-saturated "$fanfare --deflate" --pairs "$pairs" --in-flight 64 \
  --set client.cpu_share_max=1
ab direct-sends "$bin/direct --listen 127.0.0.1:0 --deflate-level 3" --b-preset plain --pairs "$((pairs / 2))" --rate 10
# What direct sends cost without compression, so that the two can be told apart.
ab direct-plain "$bin/direct --listen 127.0.0.1:0" --b-preset plain --pairs "$((pairs / 2))" --rate 10
rows=("once, 100/s|$out/once|1.1|compressed" "once, 64 in flight|$out/once-saturated|1.1|compressed"
  "for each: direct sends, 10/s|$out/direct-sends||compressed" "direct sends, uncompressed|$out/direct-plain|")
if [ -d benches/peers/node_modules/ws ]; then
  ab npm-ws 'node benches/peers/node-ws-deflate.mjs' --b-preset node-ws --pairs "$((pairs / 2))" --rate 2
  rows+=("for each: npm ws, 2/s|$out/npm-ws||compressed")
else
  echo 'npm ws is left out: npm install --prefix benches/peers'
fi
benches/verdict.py "${rows[@]}" | tee "$out/verdict.txt"
