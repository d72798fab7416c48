"""What a call still owes to the store where nobody goes on with it: its claim to be taken back, or its outcome.

Rules of the protocol, for a call that a signal or a cancellation tore apart between two wishes.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from retrysafe.answers import UnstorableAnswerError
from retrysafe.endings import failure_record, is_answer, release
from retrysafe.pauses import INTERRUPTED_TRIES
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, UNAVAILABLE, DataRecord
from retrysafe.wishes import (
    NOTHING,
    Claim,
    Complete,
    Fetch,
    Flow,
    Invoke,
    Op,
    Pause,
    Raised,
    Release,
    Returned,
    StoreFailed,
    Unstorable,
)

if TYPE_CHECKING:
    from retrysafe.call import Call

UNSTARTED: Final = (CoroutineType, GeneratorType, AsyncGeneratorType)
"""What a function returns that has not run yet. To be asked for by `issubclass`: the class of an answer need have no
hash, and its instances may pretend to be of another one."""


def interrupted(call: Call, op: Op[Any] | None, answer: Any) -> Flow[None]:
    """What is still owed to the store where a call was torn apart between two wishes: its outcome, or the key.

    Args:
        call: The call.
        op: The last wish.
        answer: What it was answered, if it was.
    """
    if isinstance(op, Claim):
        yield from withdraw(call, op.record)
        return
    owed = _owed(call, op, answer)
    tries = 0
    while owed is not None and tries < INTERRUPTED_TRIES:
        refused: object = yield owed
        tries += 1
        if isinstance(refused, Unstorable) and owed.record.stored_status != UNAVAILABLE:
            owed = Complete(call.outcome(owed.record, UNAVAILABLE))
        elif not isinstance(refused, StoreFailed) or isinstance(refused.error, Exception):
            return  # else another interruption struck meanwhile


def _owed(call: Call, op: Op[Any] | None, answer: Any) -> Complete | Release | None:
    if isinstance(op, Invoke):
        came = _came(op, answer)
        if came is not NOTHING:
            return _outcome(call, op.claim, came)
        if isinstance(answer, Raised):
            return _outcome_of_failure(call, op.claim, answer)
        return None if call.is_durable else Release(op.claim)  # as where one suspends itself
    if isinstance(op, Release):
        return op
    if isinstance(op, Pause):
        return None if op.owed is None else Complete(op.owed)
    return op if isinstance(op, Complete) else None


def _came(op: Invoke, answer: Any) -> Any:
    """What the function returned; NOTHING if it raised, has not run, or is still to run."""
    if isinstance(answer, Returned):
        return answer.value
    return NOTHING if isinstance(answer, Raised) or issubclass(type(op.came), UNSTARTED) else op.came


def _outcome(call: Call, claim: DataRecord, came: Any) -> Complete:
    try:
        data, types, _ = call.plan.codec.texts(came)
    except UnstorableAnswerError:
        return Complete(call.outcome(claim, UNAVAILABLE))
    return Complete(call.outcome(claim, COMPLETED, data, types))


def _outcome_of_failure(call: Call, claim: DataRecord, end: Raised) -> Complete | Release | None:
    if end.suspended:
        return None
    if not is_answer(end.error, call.plan.config.replay_exceptions):
        return Release(claim)
    record, _, _ = failure_record(call, claim, end.error)
    return Complete(record)


def withdraw(call: Call, claim: DataRecord) -> Flow[None]:
    """Free the key of a claim of which it is not known whether it stands, or stands still.

    A layer without owners would remove what stands, whoever's it is; there it is looked at first. That of a durable
    execution stays: what stands may be the claim of an earlier invocation of it, which has the same owner.
    """
    if call.is_durable:
        return
    if not call.plan.knows_owners:
        found = yield from Fetch(call.idempotency_key)
        for _ in range(1, INTERRUPTED_TRIES):
            if not isinstance(found, StoreFailed) or isinstance(found.error, Exception):
                break
            found = yield from Fetch(call.idempotency_key)
        if not isinstance(found, DataRecord) or not _is_that_claim(found, claim):
            return
    yield from release(claim)


def _is_that_claim(found: DataRecord, claim: DataRecord) -> bool:
    """Whether it stands, as far as can be told where no owner is kept: by the end of its lease, in milliseconds."""
    if found.owner is not None:
        return found.owner == claim.owner
    return (
        found.stored_status == INPROGRESS and found.in_progress_expiry_timestamp == claim.in_progress_expiry_timestamp
    )
