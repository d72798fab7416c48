"""The whole state machine of idempotency, as one generator without I/O and without a clock of its own.

`idempotent_call(call)` yields wishes and is sent the answers; whoever drives it carries them out, synchronously
or not. A run of it is plain data in and plain data out, so tests run every interleaving of several calls.

      Claim ──won──────────────────────────────► Invoke ──returned──► Complete ──► Returned
        │                                          │ ├──raised, replay_exceptions──► Complete (FAILED) ──► Raised
        │ a record stands                          │ └──raised otherwise──► Release ──► Raised
        ▼                                          │
      judge() ──ours / free──► Claim again ────────┘
        ├──answer──► Returned, Raised (replayed)
        ├──refused──► Raised
        └──held──► Raised, or Pause, Fetch, judge() again

A record in the store moves like this, each arrow one atomic step of the store:

      (none) ──claim──► INPROGRESS ──complete, by its owner──► COMPLETED | FAILED | UNAVAILABLE ──window over──► (none)
                         │   ▲  │
                         │   └──┘ renew, by its owner; take over, lease over, comparing the exact record seen
                         └──release, by its owner──► (none)

Endings are values too (`Returned`, `Raised`), so that any exception of the user's passes unharmed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from retrysafe.answers import StoredAnswer, UnstorableAnswerError
from retrysafe.events import (
    AnswerUnavailable,
    Claimed,
    Completed,
    LeaseLost,
    Released,
    Replayed,
    TakenOver,
    Waited,
)
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyBaseError,
    IdempotencyConfigError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
    IdempotencyValidationError,
)
from retrysafe.failures import decode_failure, encode_failure
from retrysafe.persistence.datarecord import COMPLETED, FAILED, STORED_STATUSES, UNAVAILABLE, DataRecord

if TYPE_CHECKING:
    from retrysafe.call import Call

T = TypeVar("T")
Flow: TypeAlias = Generator["Op[Any]", Any, T]

# Pauses of a waiter, and between tries to store an outcome: they grow by half, up to the limit, in seconds.
FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.25
LONGEST_STORE_PAUSE = 2.0
INTERRUPTED_TRIES = 3


# --- answers -----------------------------------------------------------------------------------------------------


class Value:
    """A small value: equal where its fields are. Plain classes, since making dataclasses doubles the import time."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), *map(id, self._fields())))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Returned(Value):
    """The function returned, or a stored answer stands for that.

    Args:
        value: The answer.
        lease_end_ms: Where the function ran: the end of its lease as renewed meanwhile.
    """

    __slots__ = ("lease_end_ms", "value")

    def __init__(self, value: Any, lease_end_ms: int = 0) -> None:
        self.value = value
        self.lease_end_ms = lease_end_ms


class Raised(Value):
    """The function raised, or the call ends with an error.

    Args:
        error: What the caller gets.
        lease_end_ms: Where the function ran: the end of its lease as renewed meanwhile.
        suspended: The run is not over but continues in a later invocation; its claim stays.
    """

    __slots__ = ("error", "lease_end_ms", "suspended")

    def __init__(self, error: BaseException, lease_end_ms: int = 0, *, suspended: bool = False) -> None:
        self.error = error
        self.lease_end_ms = lease_end_ms
        self.suspended = suspended


Ending: TypeAlias = Returned | Raised


class StoreFailed(Value):
    """The store did not answer; whether it did as it was told is unknown.

    Args:
        error: What it raised; a KeyboardInterrupt or CancelledError where it was interrupted.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Lost(Value):
    """The write was refused: the record is no longer this call's.

    Args:
        record: The record that stands now, where the store told.
    """

    __slots__ = ("record",)

    def __init__(self, record: DataRecord | None = None) -> None:
        self.record = record


class Unstorable(Value):
    """The store can never take this answer.

    Args:
        error: Why.
    """

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


# --- wishes ------------------------------------------------------------------------------------------------------


class Op(Value, Generic[T]):
    """A wish for I/O. `answer = yield from SomeOp(...)` has the type of its answer.

    Attributes:
        port: The name of the driver's method that carries it out.
    """

    __slots__ = ()
    port: ClassVar[str]

    def __iter__(self) -> Flow[T]:
        answer: T = yield self
        return answer


class Claim(Op["DataRecord | StoreFailed | None"]):
    """Store the claim if no live record stands. Answer: None, or the record that stands."""

    __slots__ = ("record",)
    port: ClassVar[str] = "claim"

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Fetch(Op["DataRecord | StoreFailed | None"]):
    """Read the record under the key. Answer: the record, or None."""

    __slots__ = ("idempotency_key",)
    port: ClassVar[str] = "fetch"

    def __init__(self, idempotency_key: str) -> None:
        self.idempotency_key = idempotency_key


class Invoke(Op[Ending]):
    """Run the function, once, with a heartbeat where the call has one."""

    __slots__ = ("call", "claim")
    port: ClassVar[str] = "invoke"

    def __init__(self, call: Call, claim: DataRecord) -> None:
        self.call = call
        self.claim = claim


class Complete(Op["StoreFailed | Lost | Unstorable | None"]):
    """Store the outcome, if the record is still this owner's. Answer: None once it is stored."""

    __slots__ = ("record",)
    port: ClassVar[str] = "complete"

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Release(Op["StoreFailed | None"]):
    """Remove the claim, if it is still this owner's."""

    __slots__ = ("record",)
    port: ClassVar[str] = "release"

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Pause(Op["float | StoreFailed"]):
    """Wait, and look again. Answer: the reading of a monotonic clock afterwards, in seconds.

    A driver may end the pause early when it learns that the record changed.
    """

    __slots__ = ("idempotency_key", "seconds")
    port: ClassVar[str] = "pause"

    def __init__(self, seconds: float, idempotency_key: str) -> None:
        self.seconds = seconds
        self.idempotency_key = idempotency_key


# --- the rules ---------------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What a record that stands means for a call, where it is neither an answer nor a refusal."""

    OURS = "this very claim got through, its reply was lost"
    FREE = "the window or the lease is over: claim again"
    HELD = "somebody runs"


def idempotent_call(call: Call) -> Flow[Ending]:
    """One call, from its claim to its ending."""
    known = _known_answer(call)
    if known is not None:
        return known
    claim = call.claim()
    found = yield from Claim(claim)
    if found is not None:
        settled = yield from _settle(call, claim, found)
        if not isinstance(settled, DataRecord):
            return settled
        claim = settled
    _tell_claimed(call, claim)
    end = yield from Invoke(call, claim)
    if isinstance(end, Raised):
        return (yield from _conclude_failure(call, claim, end))
    try:
        answer = call.plan.codec.encode(end.value)
    except UnstorableAnswerError as error:
        return (yield from _complete_unavailable(call, claim, end, str(error)))
    return (yield from _complete(call, claim, end, call.outcome(claim, COMPLETED, answer.data, answer.types), answer))


def judge(call: Call, found: DataRecord, now_ms: int) -> Verdict | Ending:  # noqa: PLR0911  # a line of the table each
    """What follows from the record that stands: the decision table, in order.

    Args:
        call: The call that met the record.
        found: The record.
        now_ms: The time by the clock that judges it.
    """
    if found.window_over(now_ms):
        return Verdict.FREE
    status = found.stored_status
    if status not in STORED_STATUSES:
        return Raised(
            IdempotencyPersistenceConsistencyError(
                f"the record {found.idempotency_key} has the unknown status {status!r}; it is left as it is"
            )
        )
    if call.payload_hash and found.payload_hash and call.payload_hash != found.payload_hash:
        return Raised(
            IdempotencyValidationError("the payload differs from the first call's", found.idempotency_key, record=found)
        )
    if status == COMPLETED:
        return _replay(call, found)
    if status == FAILED:
        return _replay_failure(call, found)
    if status == UNAVAILABLE:
        return Raised(_unavailable(found))
    if found.owner is not None and found.owner == call.owner:
        # Our own claim whose reply was lost; one whose lease is over, or that an earlier invocation of the same durable
        # execution wrote, is claimed anew for its lease.
        return Verdict.FREE if call.resumes or found.lease_over(now_ms) else Verdict.OURS
    if not found.lease_over(now_ms):
        return Verdict.HELD
    if call.plan.config.on_abandoned == "raise":
        return Raised(
            IdempotencyAbandonedError(
                'an earlier run never ended, and on_abandoned="raise" asks a person to resolve it',
                found.idempotency_key,
                record=found,
            )
        )
    return Verdict.FREE


def _settle(call: Call, claim: DataRecord, found: DataRecord | StoreFailed) -> Flow[DataRecord | Ending]:
    """What follows where the claim did not simply get through: the claim after all, or the ending of a duplicate."""
    looked: DataRecord | StoreFailed | Raised | None = found
    if isinstance(found, StoreFailed):
        looked = yield from _claim_again(claim, found)
    tried: DataRecord | None = None
    waiting: _Waiting | None = None
    while isinstance(looked, DataRecord):
        now = call.plan.clock.now_ms() if looked.read_at_ms is None else looked.read_at_ms
        verdict = judge(call, looked, now)
        if verdict is Verdict.OURS:
            break
        if verdict is Verdict.FREE and not (tried is not None and looked.same_claim(tried)):
            tried = looked
            claim = _next_claim(call, looked, now)
            looked = yield from _claim(claim)
            continue
        if not isinstance(verdict, Verdict):
            _told(call, looked, verdict, 0.0 if waiting is None else waiting.waited)
            return verdict
        # Held. So is a record that looks free to us and not to the store, whose word counts.
        if waiting is None:
            waiting = _Waiting(call)
        # pyright loses the declared type of a `yield from` here, in a loop over its own result.
        looked = yield from waiting.look_again(looked, now)  # pyright: ignore[reportUnknownVariableType]
        tried = None
        if looked is None:
            claim = call.claim()
            looked = yield from _claim(claim)
    if isinstance(looked, StoreFailed):
        return _not_claimed(looked.error)
    return looked if isinstance(looked, Raised) else claim


def _tell_claimed(call: Call, claim: DataRecord) -> None:
    if claim.replaces is not None and claim.replaces.owner != claim.owner:
        call.tell(TakenOver, claim, previous_owner=claim.replaces.owner)
    else:
        call.tell(Claimed, claim)


def _known_answer(call: Call) -> Ending | None:
    """The ending that is at hand without I/O: in the local cache, or in a layer that is memory itself."""
    plan = call.plan
    cache, peek = plan.cache, plan.peek
    known = None
    if cache is not None:
        known = cache.get(call.idempotency_key, plan.clock.now_ms())
    if known is None and peek is not None:
        known, cache = peek(call.idempotency_key), None
    if known is None:
        return None
    verdict = judge(call, known, plan.clock.now_ms())
    if isinstance(verdict, Verdict):
        return None
    _told(call, known, verdict, 0.0, from_local_cache=cache is not None)
    return verdict


def _next_claim(call: Call, found: DataRecord, now_ms: int) -> DataRecord:
    """The claim that follows a record whose window is over, or that takes over one whose lease is."""
    if found.window_over(now_ms):
        return call.claim()
    attempt = found.attempt if found.owner == call.owner else found.attempt + 1
    return call.claim(replaces=found, attempt=attempt)


def _claim(claim: DataRecord) -> Flow[DataRecord | StoreFailed | None]:
    """Claim, and once more if the store failed."""
    found = yield from Claim(claim)
    return (yield from _claim_again(claim, found)) if isinstance(found, StoreFailed) else found


def _claim_again(claim: DataRecord, failed: StoreFailed) -> Flow[DataRecord | StoreFailed | None]:
    """Claim once more after the store failed: if the first one got through, our own token tells."""
    if not isinstance(failed.error, Exception):
        yield from _release(claim)  # interrupted: the claim may stand, and nobody would complete it
        return failed
    if isinstance(failed.error, IdempotencyConfigError | IdempotencyPersistenceConsistencyError):
        return failed
    found = yield from Claim(claim)
    return found


class _Waiting:
    """A duplicate that meets a running call: refused, or made to wait with growing, jittered pauses, up to a limit."""

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
        if rules.on_in_progress == "raise":
            return Raised(_in_progress(held, now_ms))
        if left <= 0:
            self._call.tell(Waited, held, waited_seconds=self.waited, answered=False)
            return Raised(_in_progress(held, now_ms, self.waited))
        pause = self._next_pause(held, now_ms, left)
        reading = yield from Pause(pause, held.idempotency_key)
        if isinstance(reading, StoreFailed):
            return reading
        if self._started is None:
            self._started = reading - pause
        self.waited = reading - self._started
        found = yield from Fetch(held.idempotency_key)
        if isinstance(found, StoreFailed) and isinstance(found.error, Exception):
            # A store that fails for a moment only costs a look.
            return held if self.waited < rules.wait_timeout_seconds else found
        return found

    def _next_pause(self, held: DataRecord, now_ms: int, left: float) -> float:
        """Half as long again as the last one; but not past the time that is left, nor past the lease's end."""
        pause = min(_jittered(self._pause), left)
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        lease_end = held.in_progress_expiry_timestamp
        if lease_end is not None and lease_end >= now_ms:
            pause = min(pause, (lease_end - now_ms + 1) / 1000)
        return pause


def _jittered(seconds: float) -> float:
    """Between half of it and all of it, so that waiters don't come in step."""
    return seconds * (0.5 + os.urandom(1)[0] / 512)


# --- how a duplicate ends ----------------------------------------------------------------------------------------


def _replay(call: Call, record: DataRecord) -> Ending:
    try:
        answer = call.plan.codec.decode(record.response_data, record.types)
        hook = call.plan.config.response_hook
        if hook is not None:
            answer = hook(answer, record)
    except Exception as error:  # noqa: BLE001  # the hook is the user's: whatever it raises is the caller's
        return Raised(error)
    return Returned(answer)


def _replay_failure(call: Call, record: DataRecord) -> Ending:
    try:
        error = decode_failure(record.response_data, record.types, call.plan.config.replay_exceptions)
    except IdempotencyPersistenceConsistencyError as unreadable:
        return Raised(unreadable)
    return Raised(_unavailable(record) if error is None else error)


def _told(call: Call, record: DataRecord, ending: Ending, waited: float, *, from_local_cache: bool = False) -> None:
    """Report a duplicate that got its answer, and keep that at hand."""
    if isinstance(ending, Raised) and record.stored_status != FAILED:
        return
    if call.plan.cache is not None and not from_local_cache:
        call.plan.cache.put(record)
    if waited:
        call.tell(Waited, record, waited_seconds=waited, answered=True)
    else:
        call.tell(Replayed, record, from_local_cache=from_local_cache)


def _unavailable(record: DataRecord) -> IdempotencyResponseUnavailableError:
    what = "failure" if record.stored_status == FAILED else "answer"
    return IdempotencyResponseUnavailableError(
        f"an earlier run completed, but its {what} cannot be given again; it is not run a second time",
        record.idempotency_key,
        record=record,
    )


def _in_progress(record: DataRecord, now_ms: int, waited: float = 0.0) -> IdempotencyAlreadyInProgressError:
    until = record.in_progress_expiry_timestamp
    if until is None:
        until = (record.expiry_timestamp or 0) * 1000 + 1000
    waiting = f" after waiting {waited:.3f} s" if waited else ""
    return IdempotencyAlreadyInProgressError(
        f"another call holds this idempotency key and is running{waiting}",
        record.idempotency_key,
        record=record,
        retry_after=max(0.001, (until - now_ms + 1) / 1000),
    )


# --- how a run ends ----------------------------------------------------------------------------------------------


def _conclude_failure(call: Call, claim: DataRecord, end: Raised) -> Flow[Ending]:
    """Store a failure that is an answer; release the key after any other. The user's exception stays the ending."""
    if end.suspended:
        return end
    if isinstance(end.error, call.plan.config.replay_exceptions):
        try:
            failure = encode_failure(end.error, call.plan.config.replay_exceptions)
        except UnstorableAnswerError as error:
            return (yield from _complete_unavailable(call, claim, end, str(error)))
        record = call.outcome(claim, FAILED, failure.data, failure.types)
        return (yield from _complete(call, claim, end, record, failure))
    stored, interrupted = yield from _release(claim)
    call.tell(Released, claim, error=type(end.error).__qualname__, stored=stored)
    if interrupted is None or not isinstance(end.error, Exception):
        return end
    interrupted.__context__ = end.error
    return Raised(interrupted)


def _release(claim: DataRecord) -> Flow[tuple[bool, BaseException | None]]:
    """Free the key: whether the store confirmed it, and what interrupted that; it is done again then, at once.

    A store that fails is not tried again: the caller waits for the exception, and the lease frees the key.
    """
    interrupted: BaseException | None = None
    for _ in range(INTERRUPTED_TRIES):
        answer = yield from Release(claim)
        if answer is None or isinstance(answer.error, Exception):
            return answer is None, interrupted
        interrupted = interrupted or answer.error
    return False, interrupted


def _complete_unavailable(call: Call, claim: DataRecord, end: Ending, reason: str) -> Flow[Ending]:
    """Mark the key as done without an answer, so that no retry runs the effect again."""
    call.tell(AnswerUnavailable, claim, reason=reason)
    return (yield from _complete(call, claim, end, call.outcome(claim, UNAVAILABLE)))


def _complete(
    call: Call, claim: DataRecord, end: Ending, record: DataRecord, stored: StoredAnswer | None = None
) -> Flow[Ending]:
    """Store the outcome: again, with growing pauses, while the lease runs."""
    answer = yield from Complete(record)
    trying = _Trying(call, max(end.lease_end_ms, claim.in_progress_expiry_timestamp or 0)) if answer else None
    while answer is not None and trying is not None:
        if isinstance(answer, Lost):
            return (yield from _lost(call, claim, end, answer.record))
        if isinstance(answer, Unstorable) and record.stored_status != UNAVAILABLE:
            return (yield from _complete_unavailable(call, claim, end, str(answer.error)))
        if not (yield from trying.once_more(answer.error)):
            return _not_stored(end, answer.error) if trying.interrupted is None else Raised(trying.interrupted)
        answer = yield from Complete(record)
    if stored is not None:
        call.tell(Completed, record, status=record.stored_status, plain_classes=stored.plain)
        if call.plan.cache is not None:
            call.plan.cache.put(record)
    return end if trying is None or trying.interrupted is None else Raised(trying.interrupted)


class _Trying:
    """Whether to try once more to store an outcome, and the pause before that.

    Attributes:
        interrupted: A KeyboardInterrupt or CancelledError that came meanwhile. The effect has happened, so its
            outcome is stored first, at once, and the interruption follows.
    """

    __slots__ = ("_call", "_deadline_ms", "_interruptions", "_left", "_pause", "interrupted")

    def __init__(self, call: Call, deadline_ms: int) -> None:
        self._call = call
        self._deadline_ms = deadline_ms
        self._left: float | None = None
        self._pause = FIRST_PAUSE * 4
        self._interruptions = 0
        self.interrupted: BaseException | None = None

    def once_more(self, error: BaseException) -> Flow[bool]:
        """Pause while the lease runs; False when the time is over."""
        if not isinstance(error, Exception):
            self.interrupted = self.interrupted or error
            self._interruptions += 1
            return self._interruptions < INTERRUPTED_TRIES
        if self.interrupted is not None:
            return False
        by_clock = (self._deadline_ms - self._call.plan.clock.now_ms()) / 1000
        # The pauses are counted too, so that a clock that stands still or runs back cannot keep us here.
        self._left = by_clock if self._left is None else self._left
        if self._pause > min(self._left, by_clock):
            return False
        reading = yield from Pause(self._pause, self._call.idempotency_key)
        if isinstance(reading, StoreFailed):
            self.interrupted = reading.error
        self._left -= self._pause
        self._pause = min(self._pause * 2, LONGEST_STORE_PAUSE)
        return True


def _lost(call: Call, claim: DataRecord, end: Ending, standing: DataRecord | None) -> Flow[Ending]:
    """The key passed to another call: say so, with the response and what stands now, and touch nothing."""
    if standing is None:
        found = yield from Fetch(call.idempotency_key)
        standing = found if isinstance(found, DataRecord) else None
    call.tell(LeaseLost, claim)
    error = IdempotencyLeaseLostError(
        "the lease ended while the function ran and the key is no longer this call's; nothing was overwritten",
        call.idempotency_key,
        record=standing,
        response=end.value if isinstance(end, Returned) else None,
    )
    if isinstance(end, Raised):
        error.__cause__ = end.error
    return Raised(error)


def _not_stored(end: Ending, error: BaseException) -> Ending:
    """The store failed until the lease was over: the response travels with the error, it is never just lost."""
    if isinstance(end, Raised):
        return end
    wrapped = IdempotencyPersistenceLayerError(
        "the function ran, but its answer could not be stored", error, response=end.value
    )
    wrapped.__cause__ = error
    return Raised(wrapped)


def _not_claimed(error: BaseException) -> Raised:
    """The store failed at the claim: its own clear error where it has one, ours around it where not."""
    if not isinstance(error, Exception) or isinstance(error, IdempotencyBaseError):
        return Raised(error)
    wrapped = IdempotencyPersistenceLayerError("could not claim the idempotency key; nothing ran", error)
    wrapped.__cause__ = error
    return Raised(wrapped)
