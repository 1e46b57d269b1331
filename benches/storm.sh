#!/usr/bin/env bash
# A reconnect storm beside established subscribers: 10,000 connections drop at once and come back, while 200 subscribers of
# another topic get 200 publications a second. Prints what the server says of itself each second (its own topic $sys.stats):
# seconds up, connections, upgrades, deliveries, delivery p50, p99 and most in ms, turn p99 and most in ms. Compare the
# second of the storm (the one with upgrades, after the first) with the others: loadgen's own latencies would have the
# time in them in which it was busy with the storm itself.
#
#   cargo build --release -p fanfare -p loadgen && benches/storm.sh [DIRECTORY]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=$PWD/target/release
out=$(mkdir -p "${1:-target/storm}" && cd "${1:-target/storm}" && pwd)
# The server, and the load generator that makes the storm, each hold 10,200 files.
ulimit -n "$(ulimit -Hn)"
cd "$out"
taskset -c 0 "$bin/fanfare" --listen 127.0.0.1:0 --shards 1 --log warn >server.out 2>server.err &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until address=$(grep -oE '127\.0\.0\.1:[0-9]+' server.out | head -n 1) && [ -n "$address" ]; do
  kill -0 "$server" 2>/dev/null || { cat server.err; exit 1; }
  sleep 0.1
done
load() { taskset -c 1 "$bin/loadgen" run --url "ws://$address" --warmup 1s --repetitions 1 "$@"; }
load --name steady --topic-name 'steady.{n}' --subscribers 200 --rate 200 --duration 24s >steady.txt 2>&1 &
steady=$!
sleep 3
load --name storm --topic-name 'storm.{n}' --subscribers 10000 --publishers 0 --duration 14s --reconnect-storm 6s >storm.txt 2>&1
wait "$steady"
curl -s "http://$address/api/topics/\$sys.stats/history?limit=300" | python3 -c '
import json, sys
for report in (publication["data"] for publication in json.load(sys.stdin)["publications"]):
    delivery, turn = report["delivery_ms"] or {}, report["turn_ms"] or {}
    print(report["uptime_s"], report["connections"], round(report["upgrades_per_s"]), round(report["deliveries_per_s"]),
          delivery.get("p50"), delivery.get("p99"), delivery.get("max"), turn.get("p99"), turn.get("max"), sep="\t")
' | tee seconds.tsv
grep -h '^Storm:' storm.txt
grep -hE 'lost|gaps' steady.txt
