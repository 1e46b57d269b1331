#!/usr/bin/env bash
# A reconnect storm beside established subscribers: many connections drop at once and come back, while 200 subscribers of
# another topic get 200 publications a second (in the clear) or 100 (over TLS). Prints what the server says of itself each second
# (its own topic $sys.stats): seconds up, connections, upgrades, deliveries, delivery p50, p99 and most in ms, turn p99 and most in
# ms; then the p99 of the quiet seconds and the worst p99 of those with the storm. loadgen's own latencies would have the time in
# them in which its core was busy with the storm itself.
#
#   cargo build --release -p fanfare -p loadgen && benches/storm.sh [--tls | --tickets] [DIRECTORY]
#
# Without a flag 10,000 connections in the clear; with --tls 5,000 over TLS, each with a whole handshake; with --tickets 5,000 that
# go on with the sessions they had. Is loadgen the limit of the storm? Both sides of a handshake cost about the same, so each has a
# core, and what the server and the storm's loadgen used of theirs is told: the storm is as hard as can be if the server's core was
# full. If loadgen's was the fuller one, it says so: a faster client would make a harder storm.
# Exits with 1 if the p99 is more than doubled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/certificate.sh
case "${1:-}" in
  --tls | --tickets) kind=$1; shift ;;
  *) kind=plain ;;
esac
bin=$PWD/target/release
out=${1:-target/storm${kind#-}}
out=$(mkdir -p "$out" && cd "$out" && pwd)
# The server, and the load generator that makes the storm, each hold as many files as there are connections.
ulimit -n "$(ulimit -Hn)"
rate=200 connections=10000 scheme=ws server_tls=() client_tls=() curl_tls=()
if [ "$kind" != plain ]; then
  make_certificate "$out"
  rate=100 connections=5000 scheme=wss
  server_tls=(--tls-cert "$out/certificate.pem" --tls-key "$out/key.pem")
  client_tls=(--tls-ca "$out/certificate.pem")
  curl_tls=(--cacert "$out/certificate.pem")
fi
storm_tls=("${client_tls[@]}")
[ "$kind" != --tickets ] || storm_tls+=(--tls-resumption)

cd "$out"
taskset -c 0 "$bin/fanfare" --listen 127.0.0.1:0 --shards 1 --log warn "${server_tls[@]}" >server.out 2>server.err &
server=$!
children=("$server")
trap 'kill "${children[@]}" 2>/dev/null || true' EXIT
until address=$(grep -oE '127\.0\.0\.1:[0-9]+' server.out | head -n 1) && [ -n "$address" ]; do
  kill -0 "$server" 2>/dev/null || { cat server.err; exit 1; }
  sleep 0.1
done
load() { taskset -c 1 "$bin/loadgen" run --url "$scheme://$address" --warmup 1s --repetitions 1 "$@"; }
load --name steady --topic-name 'steady.{n}' --subscribers 200 --rate "$rate" --duration 24s "${client_tls[@]}" >steady.txt 2>&1 &
steady=$!
children+=("$steady")
sleep 3
load --name storm --topic-name 'storm.{n}' --subscribers "$connections" --publishers 0 --duration 14s --reconnect-storm 6s \
  "${storm_tls[@]}" >storm.txt 2>&1 &
storm=$!
children+=("$storm")
# Ticks of the two processes that the storm is between, each second; `load` is a shell whose child is loadgen.
while kill -0 "$storm" 2>/dev/null; do
  for pid in "$server" "$(pgrep -P "$storm" -x loadgen || printf '%s' "$storm")"; do
    awk -v at="$EPOCHREALTIME" -v server="$([ "$pid" = "$server" ] && echo 1 || echo 0)" '{ print at, server, $14 + $15 }' \
      "/proc/$pid/stat" 2>/dev/null || true
  done
  sleep 0.5
done >ticks.txt
wait "$storm"
wait "$steady"
curl -s "${curl_tls[@]}" "$([ "$scheme" = ws ] && echo http || echo https)://$address/api/topics/\$sys.stats/history?limit=300" >stats.json
status=0
python3 - "$(getconf CLK_TCK)" <<'PY' | tee seconds.tsv || status=1
import json
import statistics
import sys

ticks_per_s = float(sys.argv[1])
reports = [publication["data"] for publication in json.load(open("stats.json"))["publications"]]
p99 = lambda report: (report["delivery_ms"] or {}).get("p99") or 0.0
for report in reports:
    delivery, turn = report["delivery_ms"] or {}, report["turn_ms"] or {}
    print(report["uptime_s"], report["connections"], round(report["upgrades_per_s"]), round(report["deliveries_per_s"]),
          delivery.get("p50"), delivery.get("p99"), delivery.get("max"), turn.get("p99"), turn.get("max"), sep="\t")

# The first upgrades are the connection phases; the storm begins when connections that were there are fewer.
most = max(report["connections"] for report in reports)
full = next(n for n, report in enumerate(reports) if report["connections"] == most)
stormy = [n for n in range(full + 1, len(reports)) if reports[n]["upgrades_per_s"] > 10]
loaded = max(report["deliveries_per_s"] for report in reports) * 0.7
quiet = [p99(report) for n, report in enumerate(reports)
         if n not in stormy and not report["upgrades_per_s"] and report["deliveries_per_s"] > loaded]
if not stormy or not quiet:
    sys.exit("no storm was seen")
worst, usual = max(p99(reports[n]) for n in stormy), statistics.median(quiet)

shares = {"0": [], "1": []}
last = {}
for line in open("ticks.txt"):
    at, is_server, ticks = line.split()
    if is_server in last:
        seconds = float(at) - last[is_server][0]
        shares[is_server].append((int(ticks) - last[is_server][1]) / ticks_per_s / max(seconds, 1e-3))
    last[is_server] = (float(at), int(ticks))
# The connection phase comes first, so the later half has the storm alone.
busiest = {name: max(of[len(of) // 3:], default=0.0) for name, of in shares.items()}
print(f"storm: {len(stormy)} s, up to {max(reports[n]['upgrades_per_s'] for n in stormy):.0f} upgrades/s")
print(f"busiest half second of it: server {busiest['1']:.0%} of its core, the storm's loadgen {busiest['0']:.0%} of its own")
if busiest["0"] > busiest["1"]:
    print("LOADGEN WAS THE FULLER ONE: a faster client would make a harder storm")
verdict = "kept" if worst <= 2 * usual else "BROKEN"
print(f"delivery p99 of the established: {usual:.2f} ms in {len(quiet)} quiet seconds (median), {worst:.2f} ms in the storm: "
      f"x {worst / max(usual, 1e-9):.2f}, at most x 2: {verdict}")
sys.exit(verdict == "BROKEN")
PY
grep -h '^Storm:' storm.txt
grep -hE 'lost|gaps' steady.txt
exit "$status"
