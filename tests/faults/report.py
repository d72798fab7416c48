"""The report of campaigns: a table for the terminal, the same in docs/faults.md, and docs/faults.json for programs."""

from __future__ import annotations

import json
import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from faults.campaign import Outcome
    from faults.checker_report import Report

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
_COLUMNS = (
    *("layer", "faults", "calls", "keys", "executions", "violations", "lost acknowledgements"),
    *("lease", "worst recovery", "duration", "seed"),
)

Result = dict[str, Any]


def result_of(outcome: Outcome, report: Report) -> Result:
    """The figures of one campaign, as they are kept."""
    return {
        "seed": outcome.size.seed,
        "seconds": round(outcome.seconds),
        "python": platform.python_version(),
        "lease_seconds": outcome.store.lease_seconds,
        "calls": report.calls,
        "answers": report.answers,
        "refusals": dict(sorted(report.refusals.items())),
        "unfinished": report.unfinished,
        "keys": report.keys,
        "executions": report.executions,
        "further_executions": dict(sorted(report.further.items())),
        "faults": dict(sorted(report.faults.items())),
        "violations": len(report.violations),
        "unexpected_errors": outcome.unexpected,
        "undecided": len(report.undecided),
        "lost_acknowledgements": report.lost_acknowledgements if outcome.store.replicated else None,
        "recoveries": report.recoveries,
        "worst_recovery_seconds": None
        if report.worst_recovery_ms is None
        else round(report.worst_recovery_ms / 1000, 3),
    }


def table(results: dict[str, Result]) -> Table:
    """The table for the terminal."""
    shown = Table(*_COLUMNS, title="Campaigns")
    for row in _rows(results):
        shown.add_row(*row)
    return shown


def by_kind(results: dict[str, Result]) -> Table:
    """How often each fault came, for the terminal."""
    kinds, rows = _kinds(results)
    shown = Table("layer", *kinds, title="Faults")
    for row in rows:
        shown.add_row(*row)
    return shown


def write(results: dict[str, Result], directory: Path) -> None:
    """Put the results in the place of those of the same layers, and make the page's tables anew."""
    data, page = directory / "faults.json", directory / "faults.md"
    known: dict[str, Result] = json.loads(data.read_text()) if data.exists() else {}
    known |= results
    data.write_text(json.dumps(known, indent=2) + "\n")
    text = page.read_text()
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    kinds, rows = _kinds(known)
    page.write_text(
        f"{before}\n\n{_markdown(_COLUMNS, _rows(known))}\n\nFaults by kind:\n\n"
        f"{_markdown(('layer', *kinds), rows)}\n\n{_further(known)}\n\n{after}"
    )


def _rows(results: dict[str, Result]) -> list[list[str]]:
    return [
        [
            layer,
            f"{sum(result['faults'].values()):,}",
            f"{result['calls']:,}",
            f"{result['keys']:,}",
            f"{result['executions']:,}",
            f"{result['violations']:,}",
            "" if result["lost_acknowledgements"] is None else f"{result['lost_acknowledgements']:,}",
            f"{result['lease_seconds']} s",
            "" if result["worst_recovery_seconds"] is None else f"{result['worst_recovery_seconds']:.2f} s",
            f"{result['seconds'] / 60:.1f} min",
            str(result["seed"]),
        ]
        for layer, result in results.items()
    ]


def _kinds(results: dict[str, Result]) -> tuple[list[str], list[list[str]]]:
    """All kinds, the most frequent first; and a row for each layer."""
    total: Counter[str] = Counter()
    for result in results.values():
        total.update(result["faults"])
    kinds = [kind for kind, _ in total.most_common()]
    return kinds, [
        [layer, *(f"{result['faults'].get(kind, 0) or ''}" for kind in kinds)] for layer, result in results.items()
    ]


def _further(results: dict[str, Result]) -> str:
    """Why keys had a further execution, as a table."""
    total: Counter[str] = Counter()
    for result in results.values():
        total.update(result["further_executions"])
    reasons = [reason for reason, _ in total.most_common()]
    rows = [
        [layer, *(f"{result['further_executions'].get(reason, 0) or ''}" for reason in reasons)]
        for layer, result in results.items()
    ]
    return f"Executions of a key after its first, by what explains them:\n\n{_markdown(('layer', *reasons), rows)}"


def _markdown(header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
