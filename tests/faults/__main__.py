"""`python -m faults`: campaigns on the layers named, or on all; exit code 1 if any promise was broken.

The plan of the nemesis follows from the seed. What it meets does not: threads and processes take their own turns. So a
seed that found something may have to be run more than once to find it again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from faults import report
from faults.campaign import Outcome, Size, check, run
from faults.stores import STORES
from servers.processes import end_guard

if TYPE_CHECKING:
    from faults.checker_report import Report

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 200  # of a report that goes into a file
_SHOWN_VIOLATIONS = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--layer", action="append", choices=list(STORES), help="may be given again; default: all")
    parser.add_argument("--calls", type=_count, default=100_000, help="how many per layer (default: %(default)s)")
    parser.add_argument("--faults", type=_count, default=2_000, help="how many per layer (default: %(default)s)")
    parser.add_argument("--seconds", type=_count, default=600, help="in how much time, about (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the plan (default: one drawn)")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/faults.md and docs/faults.json")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    seed = secrets.randbelow(10_000) if given.seed is None else given.seed
    size = Size(given.calls, given.faults, given.seconds, seed)
    results: dict[str, report.Result] = {}
    broken = False
    try:
        for layer in given.layer or STORES:
            console.print(f"{layer}, seed {seed} ...", style="dim")
            outcome = _campaign(layer, size)
            checked = check(outcome)
            results[layer] = report.result_of(outcome, checked)
            if given.write:
                report.write({layer: results[layer]}, DOCS)
            if checked.violations or outcome.unexpected:
                broken = True
                _show(console, outcome, checked)
    finally:
        end_guard()
    console.print(report.by_kind(results), report.table(results))
    sys.exit(1 if broken else 0)


def _campaign(layer: str, size: Size) -> Outcome:
    store = STORES[layer]()
    directory = Path(tempfile.mkdtemp(prefix=f"faults-{layer}-"))
    try:
        store.start()
        return run(store, directory, size)
    finally:
        store.stop()


def _show(console: Console, outcome: Outcome, checked: Report) -> None:
    console.print(
        f"{outcome.store.name}: {len(checked.violations)} violations with seed {outcome.size.seed}", style="bold red"
    )
    for violation in checked.violations[:_SHOWN_VIOLATIONS]:
        console.print(str(violation), markup=False, highlight=False)
    if outcome.unexpected:
        console.print(f"errors that no fault explains: {outcome.unexpected}", outcome.log[-4000:], markup=False)
    console.print(f"the whole history: {outcome.directory}", markup=False)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


if __name__ == "__main__":
    main()
