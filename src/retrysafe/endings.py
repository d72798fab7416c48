"""How a run ends: its outcome stored, its key freed, or its caller told why neither could be. Rules of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retrysafe.answers import UnstorableAnswerError
from retrysafe.events import AnswerUnavailable, Completed, LeaseLost, Released
from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyInvalidStatusError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.failures import encode_failure
from retrysafe.pauses import INTERRUPTED_TRIES, INVOCATION_REST_MS, LONGEST_STORE_TIME_MS, Trying
from retrysafe.persistence.datarecord import FAILED, UNAVAILABLE, DataRecord
from retrysafe.suspending import hold
from retrysafe.wishes import Complete, Ending, Fetch, Flow, Lost, Raised, Release, Returned, StoreFailed, Unstorable

if TYPE_CHECKING:
    from retrysafe.call import Call


def conclude_failure(call: Call, claim: DataRecord, end: Raised) -> Flow[Ending]:
    """Store a failure that is an answer; release the key after any other. The user's exception stays the ending."""
    if end.suspended:
        yield from hold(call, end.error)
        return end
    if is_answer(end.error, call.plan.config.replay_exceptions):
        record, plain, reason = failure_record(call, claim, end.error)
        if plain is None:
            call.tell(AnswerUnavailable, claim, reason=reason)
        return (yield from complete(call, claim, end, record, plain))
    stored, interrupted = yield from release(claim)
    call.tell(Released, claim, error=type(end.error).__qualname__, stored=stored)
    if interrupted is None or not isinstance(end.error, Exception):
        return end
    interrupted.__context__ = end.error
    return Raised(interrupted)


def is_answer(error: BaseException, replay_exceptions: tuple[type[Exception], ...]) -> bool:
    """Whether a failure is to be stored: our own errors tell of a store or of a wrong use, unless they are named."""
    if isinstance(error, IdempotencyBaseError):
        return type(error) in replay_exceptions
    return isinstance(error, replay_exceptions)


def failure_record(
    call: Call, claim: DataRecord, error: BaseException
) -> tuple[DataRecord, tuple[str, ...] | None, str]:
    """The record of a failure that is an answer, `plain` as for `completed`, and why it can't be stored, if so."""
    try:
        failure = encode_failure(error, call.plan.config.replay_exceptions)
    except UnstorableAnswerError as unstorable:
        return call.outcome(claim, UNAVAILABLE), None, str(unstorable)
    return call.outcome(claim, FAILED, failure.data, failure.types), failure.plain, ""


def release(claim: DataRecord) -> Flow[tuple[bool, BaseException | None]]:
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


def complete_unavailable(call: Call, claim: DataRecord, end: Ending, reason: str) -> Flow[Ending]:
    """Mark the key as done without an answer, so that no retry runs the effect again."""
    call.tell(AnswerUnavailable, claim, reason=reason)
    return (yield from complete(call, claim, end, call.outcome(claim, UNAVAILABLE)))


def complete(
    call: Call, claim: DataRecord, end: Ending, record: DataRecord, plain: tuple[str, ...] | None = None
) -> Flow[Ending]:
    """Store the outcome; `plain` as for `completed`."""
    refused = yield from Complete(record)
    return (yield from complete_after_all(call, claim, end, record, plain, refused))


def complete_after_all(
    call: Call,
    claim: DataRecord,
    end: Ending,
    record: DataRecord,
    plain: tuple[str, ...] | None,
    refused: StoreFailed | Lost | Unstorable | None,
) -> Flow[Ending]:
    """Store the outcome if the store did not take it: again, with growing pauses, while the lease runs."""
    trying = Trying(call, _store_deadline(call, claim, end))
    ending = end
    while refused is not None:
        if isinstance(refused, Lost):
            ending = yield from _lost(call, claim, end, refused.record)
            break
        if isinstance(refused, Unstorable) and record.stored_status != UNAVAILABLE:
            ending = yield from complete_unavailable(call, claim, end, str(refused.error))
            break
        if not (yield from trying.once_more(refused.error, record)):
            ending = _not_stored(call, claim, end, refused.error)
            break
        refused = yield from Complete(record)
    else:
        completed(call, record, plain)
    return ending if trying.interrupted is None else _interruption(trying.interrupted, ending)


def _interruption(interrupted: BaseException, ending: Ending) -> Raised:
    """What interrupted the storing is what the caller sees; an error, with the response it may carry, is behind it."""
    if isinstance(ending, Raised) and ending.error is not interrupted:
        interrupted.__context__ = ending.error
    return Raised(interrupted)


def completed(call: Call, record: DataRecord, plain: tuple[str, ...] | None) -> None:
    """The outcome is stored: report it, and keep it at hand.

    Args:
        call: The call.
        record: The outcome.
        plain: Classes in the answer that come back as plain values. None: a run without an answer, which is told of.
    """
    if plain is None:
        return
    call.tell(Completed, record, status=record.stored_status, plain_classes=plain)
    if call.plan.cache is not None:
        call.plan.cache.put(record)


def _store_deadline(call: Call, claim: DataRecord, end: Ending) -> int:
    """Until when an outcome is tried to be stored: while the lease runs, but not for a whole window."""
    if call.lease.end_ms is not None:
        return call.lease.end_ms - INVOCATION_REST_MS
    lease_end = max(end.lease_end_ms, claim.in_progress_expiry_timestamp or 0)
    return lease_end if call.lease.renews else min(lease_end, call.plan.clock.now_ms() + LONGEST_STORE_TIME_MS)


def _lost(call: Call, claim: DataRecord, end: Ending, standing: DataRecord | None) -> Flow[Ending]:
    """The key passed to another call: say so, with the response and what stands now, and touch nothing."""
    if standing is None:
        found = yield from Fetch(call.idempotency_key)
        standing = found if isinstance(found, DataRecord) else None
    call.tell(LeaseLost, claim)
    error = IdempotencyLeaseLostError(
        "the lease ended while the function ran and the key is no longer this call's; nothing was overwritten",
        call.idempotency_key if standing is None else standing.shown_key,
        record=standing,
        response=end.value if isinstance(end, Returned) else None,
    )
    if isinstance(end, Raised):
        error.__cause__ = end.error
    return Raised(error)


_TOLD_BY_LAYERS: Final = (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyInvalidStatusError,
)
"""What says something to the protocol alone, and nothing where a layer raises it in another place."""


def store_failure(what: str, error: BaseException) -> BaseException:
    """What a caller is told of a store that failed: its own clear error where it has one, ours around it where not."""
    is_clear = isinstance(error, IdempotencyBaseError) and not isinstance(error, _TOLD_BY_LAYERS)
    if is_clear or not isinstance(error, Exception):
        return error
    wrapped = IdempotencyPersistenceLayerError(what, error)
    wrapped.__cause__ = error
    return wrapped


def _not_stored(call: Call, claim: DataRecord, end: Ending, error: BaseException) -> Ending:
    """The store failed until the lease was over: the response travels with the error, it is never just lost."""
    if isinstance(end, Raised):  # the caller sees the failure, and the key is free by now
        call.tell(Released, claim, error=type(end.error).__qualname__, stored=False)
        return end
    wrapped = IdempotencyPersistenceLayerError(
        f"the function ran, but its answer could not be stored under {claim.shown_key}",
        error,
        response=end.value,
        has_run=True,
    )
    wrapped.__cause__ = error
    return Raised(wrapped)
