#!/usr/bin/env bash
# What TLS costs: Fanfare in the clear against Fanfare over TLS 1.3, 1,000 subscribers, 128 bytes, in turns (`loadgen ab`): at
# 100 publications a second, which is judged, and as fast as it goes.
#
#   cargo build --release -p fanfare -p loadgen && benches/tls.sh [DIRECTORY]
#
# PAIRS (30) and SUBSCRIBERS (1000) can be set. Exits with 1 if a delivery over TLS costs more than 1.4 times the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/certificate.sh
bin=$PWD/target/release
out=${1:-target/tls}
pairs=${PAIRS:-30}
mkdir -p "$out"
ulimit -n "$(ulimit -Hn)"
make_certificate "$out"

fanfare="$bin/fanfare --listen 127.0.0.1:0 --shards 1 --log warn"
# Only the server's CPU is looked at, on which it has no bearing how long the load generator had to wait for its core.
ab() {
  local name=$1
  shift
  rm -rf "${out:?}/$name"
  printf '== %s\n' "$name"
  "$bin/loadgen" ab --a "$fanfare" --b "$fanfare --tls-cert '$out/certificate.pem' --tls-key '$out/key.pem'" \
    --a-name plain --b-name tls --b-set "target.tls.ca=$out/certificate.pem" --name "$name" --server-cores 0 --pin 1 \
    --subscribers "${SUBSCRIBERS:-1000}" --payload-bytes 128 --warmup 1s --slice 500ms --pairs "$pairs" \
    --figure server-cpu --set client.lag_max=10s --out "$out/$name" "$@" >"$out/$name.txt" 2>&1 || {
    tail -n 5 "$out/$name.txt"
    return 1
  }
}

ab rate-100 --rate 100
ab saturated --in-flight 64 --set client.cpu_share_max=1
benches/verdict.py "TLS 1.3, 100/s|$out/rate-100|1.4" "TLS 1.3, 64 in flight|$out/saturated|" | tee "$out/verdict.txt"
