"""The clock: where the time comes from, so that a test can hand in another one.

All times are UTC. A record keeps the end of its lease in whole milliseconds since the epoch and the end of its
window in whole seconds, as the peers do, so no local time and no daylight saving ever takes part.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


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

# Linux is asked by what nobody replaces: where this is imported while a test has stopped the time, `time.monotonic` is
# not itself any more.
monotonic: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_MONOTONIC) if sys.platform == "linux" else partial(time.monotonic)
)
"""What pauses, timeouts and renewals are timed by, in seconds; it goes on where a test has stopped the time.

freezegun puts a function of its own in the place of `time.monotonic`, under whatever name a module has it. Windows and
leases stand still then, as their clock does. But who waits must not wait for ever, and what a server holds lapses.
"""
