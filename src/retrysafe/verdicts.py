"""The decision table: what a record that stands means for a call that met it. Rules of the protocol, and pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyResponseUnavailableError,
    IdempotencyValidationError,
)
from retrysafe.failures import decode_failure
from retrysafe.persistence.datarecord import COMPLETED, FAILED, STORED_STATUSES, UNAVAILABLE
from retrysafe.wishes import Ending, Raised, Returned

if TYPE_CHECKING:
    from retrysafe.call import Call
    from retrysafe.persistence.datarecord import DataRecord


class Verdict(Enum):
    """What a record that stands means for a call, where it is neither an answer nor a refusal."""

    OURS = "this very claim got through, its reply was lost"
    FREE = "the window or the lease is over: claim again"
    HELD = "somebody runs"


def judge(call: Call, found: DataRecord, now_ms: int) -> Verdict | Ending:  # noqa: C901, PLR0911  # a line of the table each
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
                f"the record {found.shown_key} has the unknown status {status!r}; it is left as it is"
            )
        )
    if call.payload_hash and found.payload_hash and call.payload_hash != found.payload_hash:
        return Raised(
            IdempotencyValidationError("the payload differs from the first call's", found.shown_key, record=found)
        )
    if status == COMPLETED:
        return _replay(call, found)
    if status == FAILED:
        return _replay_failure(call, found)
    if status == UNAVAILABLE:
        return Raised(_unavailable(found))
    if found.owner is not None and found.owner == call.owner:
        # Our own claim whose reply was lost; one whose lease is over, or that an earlier invocation of the same durable
        # execution wrote, is claimed anew for its lease. A durable execution that is not replayed knows no own record.
        if call.resumes or found.lease_over(now_ms):
            return Verdict.FREE
        return Verdict.HELD if call.is_durable else Verdict.OURS
    if not found.lease_over(now_ms):
        return Verdict.HELD
    if call.plan.config.on_abandoned == "raise":
        return Raised(
            IdempotencyAbandonedError(
                'an earlier run never ended, and on_abandoned="raise" asks a person to resolve it, '
                "as with `python -m retrysafe`",
                found.shown_key,
                record=found,
            )
        )
    return Verdict.FREE


def _replay(call: Call, record: DataRecord) -> Ending:
    try:
        answer = call.plan.codec.decode(record.response_data, record.types, record.owner is None)
    except IdempotencyPersistenceConsistencyError as unreadable:
        return Raised(_named(unreadable, record))
    except Exception as error:  # noqa: BLE001  # a codec is the serializer's, and the function's annotation, too
        return Raised(error)
    try:
        hook = call.plan.config.response_hook
        if hook is not None:
            # A copy, since the layer or the local cache may hold this very record, and the hook is the user's.
            answer = hook(answer, record.replaced())
    except Exception as error:  # noqa: BLE001  # the hook is the user's: whatever it raises is the caller's
        return Raised(error)
    return Returned(answer)


def _replay_failure(call: Call, record: DataRecord) -> Ending:
    try:
        error = decode_failure(record.response_data, record.types, call.plan.config.replay_exceptions)
    except IdempotencyPersistenceConsistencyError as unreadable:
        return Raised(_named(unreadable, record))
    return Raised(_unavailable(record) if error is None else error)


def _named(unreadable: IdempotencyPersistenceConsistencyError, record: DataRecord) -> BaseException:
    """The error of those who read texts and know no key, with the key that a person has to look at."""
    told = f"the record {record.shown_key}: {unreadable.message}"
    named = IdempotencyPersistenceConsistencyError(told, *unreadable.args[1:])
    named.__cause__ = unreadable.__cause__
    return named


def _unavailable(record: DataRecord) -> IdempotencyResponseUnavailableError:
    what = "failure" if record.stored_status == FAILED else "answer"
    return IdempotencyResponseUnavailableError(
        f"an earlier run completed, but its {what} cannot be given again; it is not run a second time",
        record.shown_key,
        record=record,
    )
