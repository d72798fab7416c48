"""Whether a record's times are those that were written, where a store's own clock may have gone on meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrysafe.persistence.datarecord import DataRecord

# How far a store's own clock may be off from what the suite expects: it also runs while the suite works, and a window
# is kept in whole seconds.
OWN_CLOCK_LEASE_MS = 1000
OWN_CLOCK_WINDOW_MS = 2000


def wrong_times(found: DataRecord, written: DataRecord, now_ms: int, slack_ms: int | None) -> Iterator[tuple[str, str]]:
    """The times of `found` that are not as far off as those of `written`, each as its field and what was seen.

    Args:
        found: The record read.
        written: The record as it was to be written.
        now_ms: What the caller's clock shows.
        slack_ms: How much longer than usual the store may have taken, whose clock went on meanwhile; None: it judges
            by the caller's clock, to the millisecond.
    """
    read_at = now_ms if found.read_at_ms is None else found.read_at_ms
    for field, unit_ms, usual_ms in (
        ("expiry_timestamp", 1000, OWN_CLOCK_WINDOW_MS),
        ("in_progress_expiry_timestamp", 1, OWN_CLOCK_LEASE_MS),
    ):
        expected = _left(getattr(written, field), unit_ms, now_ms)
        seen = _left(getattr(found, field), unit_ms, read_at)
        tolerance = 0 if slack_ms is None else usual_ms + slack_ms
        same = expected is seen if expected is None or seen is None else abs(expected - seen) <= tolerance
        if not same:
            yield field, f"an {field} {_in_ms(seen)} instead of {_in_ms(expected)}"


def _left(end: int | None, unit_ms: int, now_ms: int) -> int | None:
    return None if end is None else end * unit_ms - now_ms


def _in_ms(left: int | None) -> str:
    return "of None" if left is None else f"{left} ms from now"
