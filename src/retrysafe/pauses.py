"""Pauses: how a duplicate waits for a running call, and how an outcome that the store did not take is tried again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retrysafe.events import Waited
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyBaseError,
    IdempotencyInconsistentStateError,
)
from retrysafe.nesting import is_inside
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.wishes import Fetch, Flow, Pause, Raised, StoreFailed

if TYPE_CHECKING:
    from retrysafe.call import Call
    from retrysafe.persistence.datarecord import DataRecord

# Seconds. A waiter's pauses grow by half up to the limit; one that is told of changes looks only in case that fails.
# Those between tries to store an outcome double.
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.25
LONGEST_TOLD_PAUSE = 5.0
FIRST_STORE_PAUSE = 0.02
LONGEST_STORE_PAUSE = 2.0
INTERRUPTED_TRIES = 3
LONGEST_STORE_TIME_MS = 30_000
# Lambda ends an invocation together with its lease; so much of it is left to hand the error, and the answer in it, out.
INVOCATION_REST_MS = 250


class Waiting:
    """A duplicate that meets a running call: refused, or made to wait with growing, jittered pauses, up to a limit.

    Attributes:
        waited: For how long, in seconds. A first pause that was cut short counts in full.
    """

    __slots__ = ("_call", "_pause", "_started", "waited")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._pause = FIRST_PAUSE
        self._started: float | None = None
        self.waited = 0.0

    def look_again(self, held: DataRecord, now_ms: int) -> Flow[DataRecord | StoreFailed | Raised | None]:
        """Pause once and fetch the record; `Raised` for a call that does not wait, or not any longer."""
        rules = self._call.plan.config
        left = rules.wait_timeout_seconds - self.waited
        if rules.on_in_progress == "raise" or is_inside(held.owner):
            return Raised(_refusal(held, now_ms))
        if left <= 0:
            self._call.tell(Waited, held, waited_seconds=self.waited, answered=False)
            return Raised(_refusal(held, now_ms, self.waited))
        pause = self._next_pause(held, now_ms, left)
        reading = yield from pause
        if isinstance(reading, StoreFailed):
            return Raised(reading.error)  # a pause has no store: whatever ended it is meant for the caller
        if self._started is None:
            self._started = reading - pause.seconds
        self.waited = reading - self._started
        found = yield from Fetch(held.idempotency_key)
        if isinstance(found, StoreFailed) and isinstance(found.error, Exception):
            # A store that fails for a moment only costs a look.
            return held if self.waited < rules.wait_timeout_seconds else found
        return found

    def _next_pause(self, held: DataRecord, now_ms: int, left: float) -> Pause:
        """Half as long again as the last one; but not past the time that is left, nor past the lease's end."""
        seconds = min(jittered(self._pause), left)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        at_most = min(jittered(LONGEST_TOLD_PAUSE), left)
        lease_end = held.in_progress_expiry_timestamp
        is_over = lease_end is not None and lease_end < now_ms
        if lease_end is not None and not is_over:
            lease_left = seconds_until(lease_end, now_ms)
            seconds = min(seconds, lease_left)
            at_most = min(at_most, lease_left)
        # Owners tell. A peer's record has none, and a lease that the store is about to see end tells nobody.
        if held.owner is None or is_over:
            at_most = seconds
        return Pause(seconds, held.idempotency_key, at_most)


def jittered(seconds: float) -> float:
    """Between half of it and all of it, so that waiters don't come in step."""
    return seconds * (0.5 + os.urandom(1)[0] / 512)


def _refusal(record: DataRecord, now_ms: int, waited: float = 0.0) -> IdempotencyBaseError:
    """What a duplicate gets that doesn't wait, or not any longer."""
    if record.stored_status != INPROGRESS:
        return IdempotencyInconsistentStateError(
            "the store refuses the claim, though the window of what stands is over; nothing ran",
            record.shown_key,
            record=record,
        )
    until = record.in_progress_expiry_timestamp
    if until is None:
        until = (record.expiry_timestamp or 0) * 1000 + 1000
    waiting = f" after waiting {waited:.3f} s" if waited else ""
    return IdempotencyAlreadyInProgressError(
        f"another call holds this idempotency key and is running{waiting}",
        record.shown_key,
        record=record,
        retry_after=seconds_until(until, now_ms),
    )


def seconds_until(end_ms: int, now_ms: int) -> float:
    """Until a lease or window is over, which still counts in its last millisecond; a layer may tell it as a Decimal."""
    return max(0.001, float(end_ms - now_ms + 1) / 1000)


class Trying:
    """Whether to try once more to store an outcome, and the pause before that.

    Attributes:
        interrupted: A KeyboardInterrupt or CancelledError that came meanwhile. The effect has happened, so its
            outcome is stored first, at once, and the interruption follows.
    """

    __slots__ = ("_call", "_deadline_ms", "_hurried", "_left", "_pause", "interrupted")

    def __init__(self, call: Call, deadline_ms: int) -> None:
        self._call = call
        self._deadline_ms = deadline_ms
        self._left: float | None = None
        self._pause = FIRST_STORE_PAUSE
        self._hurried = 0
        self.interrupted: BaseException | None = None

    def once_more(self, error: BaseException, record: DataRecord) -> Flow[bool]:
        """Pause while the lease runs; False when the time is over."""
        if not isinstance(error, Exception):
            self.interrupted = self.interrupted or error
        if self.interrupted is not None:
            # Also where the store fails now: what was interrupted may have cost the client its connection.
            self._hurried += 1
            return self._hurried < INTERRUPTED_TRIES
        by_clock = (self._deadline_ms - self._call.plan.clock.now_ms()) / 1000
        # The pauses are counted too, so that a clock that stands still or runs back cannot keep us here.
        self._left = by_clock if self._left is None else self._left
        left = min(self._left, by_clock)
        if left < FIRST_STORE_PAUSE:
            return False
        seconds = min(self._pause, left)  # the last one is cut short: the lease may be no longer than a few of them
        reading = yield from Pause(seconds, self._call.idempotency_key, owed=record)
        if isinstance(reading, StoreFailed):
            self.interrupted = reading.error
            self._hurried = 1
        self._left -= seconds
        self._pause = min(self._pause * 2, LONGEST_STORE_PAUSE)
        return True
