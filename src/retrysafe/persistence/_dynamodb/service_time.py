"""What the service's clock shows: the caller's clock, corrected by what the `Date` of the service's replies proves.

DynamoDB judges by the time that it is told, so a machine whose clock is wrong would take over runs that are alive, or
claim what is already over for others. Every reply says when it was made, in whole seconds. It was made after its
request was sent and before it was received: that gives bounds for how far the caller's clock is off, which each reply
can narrow. A clock that may be right is never corrected. Of one that is proved wrong the bounds tell the earliest and
the latest time that it may be: others' records are judged by the earliest, its own are dated by the latest, so that
what is left of the error never takes anything off a lease.

A clock that was set meanwhile, or a machine that slept, shows against the monotonic clock: until the next reply the
time then is doubtful, and nothing is to count as over by it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from retrysafe.clock import SystemClock, monotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.clock import Clock

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}

# A second, by which `Date` is rounded down; and what counts as a leap of the clock: a clock that is slewed moves by
# half of it within 15 minutes.
_SECOND_MS = 1000
_LEAP_MS = 1000


class _Estimate:
    """Bounds of how far the service's clock is ahead of the caller's, in milliseconds; None: unbounded."""

    __slots__ = ("against_monotonic", "dating_skew_ms", "high", "judging_skew_ms", "low", "skew_ms")

    def __init__(self, low: int | None, high: int | None, against_monotonic: int) -> None:
        self.low = low
        self.high = high
        self.against_monotonic = against_monotonic
        self.skew_ms = self.judging_skew_ms = self.dating_skew_ms = 0
        if low is not None and high is not None and (low > 0 or high < 0):
            self.skew_ms = low if low > 0 else high
            self.judging_skew_ms, self.dating_skew_ms = low, high


class ServiceTime:
    """The time that judges.

    A clock that is handed in is believed; the machine's own is corrected.

    Args:
        clock: The caller's clock.
        limit_seconds: Beyond how much the caller's clock is reported as wrong.
        monotonic: What leaps of the clock are told by, in seconds.
    """

    __slots__ = ("_clock", "_corrects", "_estimate", "_is_kept", "_limit_ms", "_made", "_monotonic", "_told")

    def __init__(self, clock: Clock, limit_seconds: float, *, monotonic: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._corrects = isinstance(clock, SystemClock)
        self._limit_ms = limit_seconds * 1000
        self._monotonic = monotonic
        self._estimate: _Estimate | None = None
        self._made: tuple[Any, int | None] = ("", None)
        self._told = False
        # Lambda keeps its machines' clocks by NTP, and its first invocations are not to wait for a request more.
        # Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (TZ)
        self._is_kept = "AWS_LAMBDA_FUNCTION_NAME" in os.environ

    @property
    def skew_ms(self) -> int:
        """By how much the caller's clock is corrected: how far the service's is surely ahead; negative: behind."""
        return 0 if self._estimate is None else self._estimate.skew_ms

    @property
    def is_wrong(self) -> bool:
        """Whether the caller's clock is off by more than the limit."""
        return abs(self.skew_ms) > self._limit_ms

    @property
    def is_doubtful(self) -> bool:
        """Whether nothing is known yet, or the clock has leapt since the last reply."""
        if not self._corrects:
            return False
        estimate = self._estimate
        return estimate is None or abs(self._against_monotonic() - estimate.against_monotonic) > _LEAP_MS

    @property
    def must_be_asked(self) -> bool:
        """Whether the service is to be asked before a lease is dated by the clock, which may be off by anything.

        Before the first reply, unless the clock is known to be kept; and after each leap.
        """
        return self.is_doubtful and not (self._estimate is None and self._is_kept)

    @property
    def dating_skew_ms(self) -> int:
        """By how much times are moved that are written: not by less than the service's clock may be ahead."""
        return 0 if self._estimate is None else self._estimate.dating_skew_ms

    def now_ms(self) -> int:
        """The service's time, as far as it is known: not past it, where the caller's clock is known to be wrong."""
        return self._clock.now_ms() + (0 if self._estimate is None else self._estimate.judging_skew_ms)

    def judging_ms(self) -> int:
        """The time by which a record that was read now is judged: not past the second of the reply that told of it.

        So no lease counts as over more than a second before it is, however far the caller's clock may be ahead of what
        the bounds can show, and however long the reply was on its way, which widens them.
        """
        now_ms, made_ms = self.now_ms(), self._made[1]
        return now_ms if made_ms is None else min(now_ms, made_ms + _SECOND_MS - 1)

    def dating_ms(self) -> int:
        """The time from which a lease or a window that begins now is counted."""
        return self._clock.now_ms() + self.dating_skew_ms

    def caller_ms(self) -> int:
        """What the caller's clock shows."""
        return self._clock.now_ms()

    @property
    def read_at_ms(self) -> int | None:
        """For a record that was read now; None where the caller's clock is believed."""
        return self.judging_ms() if self._corrects else None

    def stopwatch(self) -> float:
        """A reading to hand to `note` with the reply."""
        return self._monotonic() if self._corrects else 0.0

    def note(self, reply: Any, sent_at: float) -> None:
        """Learn from a reply that was received now."""
        if not self._corrects:
            return
        monotonic, received_ms = self._monotonic(), self._clock.now_ms()
        against_monotonic = received_ms - int(monotonic * 1000)
        text, made = _date_of(reply), self._made
        if text != made[0]:
            # Many replies of a busy process are made in the same second.
            made = self._made = (text, _date_ms(text))
        made_ms, known = made[1], self._estimate
        if known is not None and abs(against_monotonic - known.against_monotonic) > _LEAP_MS:
            known = None
        if made_ms is None:
            self._estimate = known or _Estimate(None, None, against_monotonic)
            return
        low = made_ms - received_ms - 1
        high = made_ms + _SECOND_MS - received_ms + int((monotonic - sent_at) * 1000) + 1
        if known is not None and known.low is not None and known.high is not None:
            narrowed_low, narrowed_high = max(low, known.low), min(high, known.high)
            # Bounds that do not meet: the clock has moved a little, and the newest are right.
            if narrowed_low <= narrowed_high:
                low, high = narrowed_low, narrowed_high
        self._estimate = _Estimate(low, high, against_monotonic)
        if not self._told and self.is_wrong:
            self._tell()

    def _against_monotonic(self) -> int:
        return self._clock.now_ms() - int(self._monotonic() * 1000)

    def _tell(self) -> None:
        """Say once that the machine's clock is wrong."""
        import logging  # noqa: PLC0415  # rarely needed, and slow to load

        self._told = True
        skew = self.skew_ms / 1000
        logging.getLogger("retrysafe").warning(
            "this machine's clock is %.1f s %s DynamoDB's; leases and windows are corrected by that, "
            "but set the clock right",
            abs(skew),
            "behind" if skew > 0 else "ahead of",
        )


def _date_ms(text: Any) -> int | None:
    """When a reply was made that says so; None where it does not."""
    try:
        # `Sun, 06 Nov 1994 08:49:37 GMT`, in this form always; a locale has no part in it.
        day, month, year, clock = text[5:].split(" ")[:4]
        hours, minutes, seconds = clock.split(":")
        return (
            _days(int(year), _MONTHS[month], int(day)) * 86400 + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
        ) * 1000
    except (KeyError, TypeError, ValueError):
        return None


def _date_of(reply: Any) -> Any:
    try:
        return reply["ResponseMetadata"]["HTTPHeaders"].get("date")
    except (AttributeError, KeyError, TypeError):
        return None


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01."""
    year, month = (year - 1, month + 9) if month <= 2 else (year, month - 3)  # noqa: PLR2004  # a year from March on
    return year * 365 + year // 4 - year // 100 + year // 400 + (month * 306 + 5) // 10 + day - 719_469
