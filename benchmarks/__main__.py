"""`python -m benchmarks`: measures everything, or the sections named, and prints the report.

A missed goal is printed as missed; it is no failure of the program. A section whose server is missing is left out, and
the program fails in the end, when it has written what it could measure.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from benchmarks import (
    batch,
    cache,
    cold_start,
    dynamodb,
    growth,
    imports,
    large_payload,
    memory,
    per_call,
    profiles,
    results,
    sqlite,
    sqlite_threads,
    throughput,
    waiters,
    workflows,
)
from benchmarks.figures import Figure, table
from benchmarks.servers import MISSING
from rich.console import Console

SECTIONS = {
    "memory": memory,
    "sqlite": sqlite,
    "cache": cache,
    "dynamodb": dynamodb,
    "batch": batch,
    "imports": imports,
    "large_payload": large_payload,
    "sqlite_threads": sqlite_threads,
    "workflows": workflows,
    "per_call": per_call,
    "throughput": throughput,
    "waiters": waiters,
    "growth": growth,
    "cold_start": cold_start,
}
WIDTH = 180  # of a report that goes into a file


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--rounds", type=int, default=60, metavar="N", help="rounds per figure (default: 60)")
    parser.add_argument("--results", type=Path, metavar="DIRECTORY", help="write the report there too")
    parser.add_argument("--profile", choices=("first", "replay"), help="show where the time of such calls goes instead")
    parser.add_argument("--importtime", action="store_true", help="show the slowest imports instead")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    unknown = set(given.sections).difference(SECTIONS)
    if unknown or given.rounds < 1:
        parser.error(f"no such section: {', '.join(sorted(unknown))}" if unknown else "--rounds must be 1 or more")
    if given.profile is not None:
        profiles.show(given.profile)
        return
    if given.importtime:
        console.print(imports.slowest())
        return
    figures: list[Figure] = []
    left_out: list[str] = []
    for name in given.sections or SECTIONS:
        console.print(f"measuring {name} ...", style="dim")
        try:
            figures.extend(SECTIONS[name].measure(given.rounds))
        except MISSING as missing:
            left_out.append(f"{name} was not measured: {missing}")
            console.print(left_out[-1], style="bold red")
    console.print(table(figures))
    console.print(f"Python {platform.python_version()}, {platform.machine()}, {given.rounds} rounds per figure")
    if given.results is not None:
        results.write(given.results, figures, given.rounds)
    sys.exit("\n".join(left_out) or None)


if __name__ == "__main__":
    main()
