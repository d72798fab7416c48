"""The clock: where the time comes from, so that a test can hand in another one.

All times are UTC. A record keeps the end of its lease in whole milliseconds since the epoch and the end of its
window in whole seconds, as the peers do, so no local time and no daylight saving ever takes part.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything with a `now_ms()`: `SystemClock` in production, `retrysafe.testing.ManualClock` in tests."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """The machine's wall clock."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns() // 1_000_000


SYSTEM_CLOCK = SystemClock()
