"""A clock that stands still until a test moves it."""

from __future__ import annotations

from retrysafe.config import LONGEST_SECONDS
from retrysafe.exceptions import IdempotencyConfigError


class ManualClock:
    """A `retrysafe.clock.Clock` for tests: hand it to a layer, and move it instead of sleeping.

    Args:
        start_ms: What it shows first, in milliseconds since the epoch. Default: 2030-01-01T00:00:00Z.

    Raises:
        IdempotencyConfigError: It is no whole number.
    """

    def __init__(self, start_ms: int = 1_893_456_000_000) -> None:
        given: object = start_ms
        if isinstance(given, bool) or not isinstance(given, int):
            raise IdempotencyConfigError(f"start_ms={given!r}: must be a whole number of milliseconds since the epoch")
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """What the clock shows, in milliseconds since the epoch."""
        return self._now_ms

    def advance(self, seconds: float) -> None:
        """Move it on by so many seconds; a negative number moves it back.

        Raises:
            IdempotencyConfigError: It is no number, or a hundred years are less.
        """
        given: object = seconds
        if isinstance(given, bool) or not isinstance(given, int | float) or not abs(given) <= LONGEST_SECONDS:
            raise IdempotencyConfigError(
                f"seconds={given!r}: must be a number of seconds, of {LONGEST_SECONDS} at most"
            )
        self._now_ms += round(seconds * 1000)
