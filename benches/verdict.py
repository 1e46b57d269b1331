#!/usr/bin/env python3
"""One table of several `loadgen ab` results: server CPU per delivery of both sides, and their ratio.

usage: verdict.py 'LABEL|DIRECTORY|GOAL[|compressed]'...   (GOAL: the most that B / A may be, or empty)

A goal is kept if the ratio is below it, "just" if its interval reaches beyond. Exits with 1 if a ratio is above its goal, if fewer than
five pairs were usable where there is one, or if B should have been compressed and put as many bytes on the wire as A.
"""

import json
import pathlib
import statistics
import sys

PAIRS_MIN = 5
HEADER = ("case", "A, ns/delivery", "B, ns/delivery", "B / A (95 %)", "A, wire B", "B, wire B", "own CPU", "pairs", "goal", "")


def side(folder):
    """Of each usable slice: server CPU by delivery, bytes on the wire by delivery, the load generator's share of its core."""
    slices = []
    for slice_ in json.loads((folder / "report.json").read_text())["repetitions"]:
        tally, workers = slice_["measurement"]["tally"], slice_["measurement"]["workers"]
        received = sum(role["received"] for role in tally["roles"].values())
        if slice_["void"] or not slice_["complete"] or not received:
            continue
        own = max(worker["cpu_ns"] / worker["wall_ns"] for worker in workers)
        slices.append((slice_["server"]["cpu_per_delivery_ns"], tally["wire_bytes"] / received, own))
    return slices


def spread(values):
    return f"{statistics.median(values):.0f} [{min(values):.0f} .. {max(values):.0f}]" if values else "nothing"


def row(label, folder, goal, compressed=""):
    folder = pathlib.Path(folder)
    a, b = side(folder / "a"), side(folder / "b")
    figures = json.loads((folder / "comparison.json").read_text())["figures"]
    ratio = next((figure["ratio"] for figure in figures if figure["key"] == "server-cpu"), None)
    verdict = ""
    wire = [statistics.median(s[1] for s in slices) if slices else 0 for slices in (a, b)]
    if not ratio or goal and min(len(a), len(b)) < PAIRS_MIN:
        verdict = "NO RESULT"
    elif compressed and wire[1] > 0.9 * wire[0]:
        verdict = "NOT COMPRESSED"
    elif goal and ratio["value"] > float(goal):
        verdict = "BROKEN"
    elif goal:
        verdict = "kept" if ratio["high"] <= float(goal) else "just kept"
    said = f"{ratio['value']:.3f} [{ratio['low']:.3f} .. {ratio['high']:.3f}]" if ratio else "none"
    own = max((slice_[2] for slice_ in a + b), default=0.0)
    cells = (label, spread([s[0] for s in a]), spread([s[0] for s in b]), said, *(f"{bytes_:.0f}" for bytes_ in wire), f"{own:.0%}",
             str(min(len(a), len(b))), f"<= {goal}" if goal else "", verdict)
    return cells, verdict in ("BROKEN", "NO RESULT", "NOT COMPRESSED")


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 2
    rows, broken = [HEADER], False
    for argument in arguments:
        cells, is_broken = row(*argument.split("|"))
        rows.append(cells)
        broken |= is_broken
    widths = [max(len(cells[n]) for cells in rows) for n in range(len(HEADER))]
    for cells in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
    return int(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
