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

from enum import Enum
from typing import TYPE_CHECKING

from retrysafe.answers import UnstorableAnswerError
from retrysafe.endings import complete_after_all, complete_unavailable, completed, conclude_failure, release
from retrysafe.events import (
    Claimed,
    Replayed,
    TakenOver,
    Waited,
)
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyBaseError,
    IdempotencyConfigError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
    IdempotencyValidationError,
)
from retrysafe.failures import decode_failure
from retrysafe.pauses import Waiting
from retrysafe.persistence.datarecord import COMPLETED, FAILED, STORED_STATUSES, UNAVAILABLE, DataRecord
from retrysafe.wishes import (
    Claim,
    Complete,
    Ending,
    Flow,
    Invoke,
    Lost,
    Raised,
    Returned,
    StoreFailed,
    Unstorable,
)

if TYPE_CHECKING:
    from retrysafe.call import Call

# --- the rules ---------------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What a record that stands means for a call, where it is neither an answer nor a refusal."""

    OURS = "this very claim got through, its reply was lost"
    FREE = "the window or the lease is over: claim again"
    HELD = "somebody runs"


def known_answer(call: Call) -> Ending | None:
    """The ending that is at hand without I/O: in the local cache, or in a layer that is memory itself.

    A driver asks for it first. One that does not gets the same ending from `idempotent_call`, a round trip later.
    """
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
    if plan.cache is not None or plan.listener.hears():
        _told(call, known, verdict, 0.0, from_local_cache=cache is not None)
    return verdict


def idempotent_call(call: Call) -> Flow[Ending]:
    """One call, from its claim to its ending."""
    claim = call.claim()
    # The three wishes of a first call are yielded as they are: `yield from` would cost it six more calls.
    found: DataRecord | StoreFailed | None = yield Claim(claim)
    if found is not None:
        settled = yield from _settle(call, claim, found)
        if not isinstance(settled, DataRecord):
            return settled
        claim = settled
    if claim.replaces is not None or call.plan.listener.hears():
        _tell_claimed(call, claim)
    end: Ending = yield Invoke(call, claim)
    if isinstance(end, Raised):
        return (yield from conclude_failure(call, claim, end))
    try:
        answer = call.plan.codec.encode(end.value)
    except UnstorableAnswerError as error:
        return (yield from complete_unavailable(call, claim, end, str(error)))
    record = call.outcome(claim, COMPLETED, answer.data, answer.types)
    refused: StoreFailed | Lost | Unstorable | None = yield Complete(record)
    if refused is not None:
        return (yield from complete_after_all(call, claim, end, record, answer, refused))
    completed(call, record, answer)
    return end


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
                'an earlier run never ended, and on_abandoned="raise" asks a person to resolve it',
                found.shown_key,
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
    waiting: Waiting | None = None
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
            _told(call, looked, verdict, 0.0 if waiting is None else waiting.waited, from_local_cache=False)
            return verdict
        # Held. So is a record that looks free to us and not to the store, whose word counts.
        if waiting is None:
            waiting = Waiting(call)
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
        yield from release(claim)  # interrupted: the claim may stand, and nobody would complete it
        return failed
    if isinstance(failed.error, IdempotencyConfigError | IdempotencyPersistenceConsistencyError):
        return failed
    found = yield from Claim(claim)
    return found


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


def _told(call: Call, record: DataRecord, ending: Ending, waited: float, *, from_local_cache: bool) -> None:
    """Report a duplicate that got its answer, and keep that at hand."""
    if isinstance(ending, Raised) and record.stored_status != FAILED:
        return
    plan = call.plan
    if plan.cache is not None and not from_local_cache:
        plan.cache.put(_in_callers_time(call, record))
    if not plan.listener.hears():
        return
    if waited:
        call.tell(Waited, record, waited_seconds=waited, answered=True)
    else:
        call.tell(Replayed, record, from_local_cache=from_local_cache)


def _in_callers_time(call: Call, record: DataRecord) -> DataRecord:
    """The record with its window moved to the caller's clock, which judges the local cache."""
    if record.read_at_ms is None or record.expiry_timestamp is None:
        return record
    ahead_s = (record.read_at_ms - call.plan.clock.now_ms()) // 1000
    return record.replaced(expiry_timestamp=record.expiry_timestamp - ahead_s, read_at_ms=None)


def _unavailable(record: DataRecord) -> IdempotencyResponseUnavailableError:
    what = "failure" if record.stored_status == FAILED else "answer"
    return IdempotencyResponseUnavailableError(
        f"an earlier run completed, but its {what} cannot be given again; it is not run a second time",
        record.shown_key,
        record=record,
    )


def _not_claimed(error: BaseException) -> Raised:
    """The store failed at the claim: its own clear error where it has one, ours around it where not."""
    if not isinstance(error, Exception) or isinstance(error, IdempotencyBaseError):
        return Raised(error)
    wrapped = IdempotencyPersistenceLayerError("could not claim the idempotency key; nothing ran", error)
    wrapped.__cause__ = error
    return Raised(wrapped)
