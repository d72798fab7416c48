"""The whole state machine of idempotency, as one generator without I/O and without a clock of its own.

`idempotent_call(call)` yields wishes and is sent the answers; whoever drives it carries them out, synchronously
or not. A run of it is plain data in and plain data out, so tests run every interleaving of several calls.

      Claim ──won──────────────────────────────► Invoke ──returned──► Complete ──► Returned
        │                                          │ ├──raised, replay_exceptions──► Complete (FAILED) ──► Raised
        │ a record stands                          │ └──raised otherwise──► Release ──► Raised
        ▼                                          │
      judge() ──ours / free──► Claim again ────────┘
        │    (and once more where much of its lease is over by then)
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

from typing import TYPE_CHECKING

from retrysafe.answers import UnstorableAnswerError
from retrysafe.endings import (
    complete_after_all,
    complete_unavailable,
    completed,
    conclude_failure,
    is_answer,
    store_failure,
)
from retrysafe.events import (
    Claimed,
    Replayed,
    TakenOver,
    Waited,
)
from retrysafe.exceptions import (
    IdempotencyConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.owed import withdraw
from retrysafe.pauses import Waiting
from retrysafe.persistence.datarecord import COMPLETED, FAILED, DataRecord
from retrysafe.verdicts import Verdict, judge
from retrysafe.wishes import (
    Claim,
    Complete,
    Ending,
    Flow,
    Invoke,
    Lost,
    Raised,
    StoreFailed,
    Unstorable,
    Value,
)

if TYPE_CHECKING:
    from retrysafe.call import Call

# How often a claim is made anew that got through late.
_LATE_CLAIMS = 2


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
    if not isinstance(verdict, Value):  # asked of an Enum, isinstance() takes three times as long
        return None
    if plan.cache is not None or plan.listener.hears():
        _told(call, known, verdict, 0.0, from_local_cache=cache is not None)
    return verdict


def idempotent_call(call: Call) -> Flow[Ending]:
    """One call, from its claim to its ending."""
    plan = call.plan
    claim = call.claim()
    # The three wishes of a first call are yielded as they are: `yield from` would cost it six more calls.
    found: DataRecord | StoreFailed | None = yield Claim(claim)
    if found is not None:
        settled = yield from _settle(call, claim, found)
        if not isinstance(settled, DataRecord):
            return settled
        claim = settled
    seen = claim.replaces
    if plan.peek is None and call.is_short(claim, plan.clock.now_ms()):
        settled = yield from _claim_anew(call, claim)
        if not isinstance(settled, DataRecord):
            return settled
        claim = settled
    is_heard = plan.listener.hears()  # asked once: who begins to listen while the function runs hears the next call
    if is_heard or seen is not None or claim.replaces is not None:
        _tell_claimed(call, claim, seen)
    end: Ending = yield Invoke(call, claim)
    if isinstance(end, Raised):
        return (yield from conclude_failure(call, claim, end))
    try:
        data, types, plain = plan.codec.texts(end.value)
    except UnstorableAnswerError as error:
        return (yield from complete_unavailable(call, claim, end, str(error)))
    record = call.outcome(claim, COMPLETED, data, types)
    refused: StoreFailed | Lost | Unstorable | None = yield Complete(record)
    if refused is not None:
        return (yield from complete_after_all(call, claim, end, record, plain, refused))
    if is_heard or plain or plan.cache is not None:
        completed(call, record, plain)
    return end


def _settle(call: Call, claim: DataRecord, found: DataRecord | StoreFailed) -> Flow[DataRecord | Ending]:
    """What follows where the claim did not simply get through: the claim after all, or the ending of a duplicate."""
    looked: DataRecord | StoreFailed | Raised | None = found
    if isinstance(found, StoreFailed):
        looked = yield from _claim_again(call, claim, found)
    tried: DataRecord | None = None
    waiting: Waiting | None = None
    while isinstance(looked, DataRecord):
        now = call.plan.clock.now_ms() if looked.read_at_ms is None else looked.read_at_ms
        verdict = _judged(call, looked, now)
        if verdict is Verdict.OURS:
            if tried is not None or not call.is_short(looked, now):
                break
            verdict = Verdict.FREE
        if verdict is Verdict.FREE and not (tried is not None and looked.same_claim(tried)):
            tried = looked
            claim = _next_claim(call, looked, now)
            looked = yield from _claim(call, claim)
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
            looked = yield from _claim(call, claim)
    return _settled(call, claim, looked)  # pyright: ignore[reportUnknownArgumentType]  # as above


def _settled(call: Call, claim: DataRecord, looked: object) -> DataRecord | Raised:
    """The claim, if it got through in the end; else why not."""
    if looked is None or isinstance(looked, DataRecord):
        return claim
    if isinstance(looked, Raised):
        return looked
    if isinstance(looked, StoreFailed):
        return Raised(store_failure("could not claim the idempotency key; nothing ran", looked.error))
    return Raised(  # a layer may be anybody's
        IdempotencyPersistenceConsistencyError(
            f"the layer refuses the claim of {call.idempotency_key}, and tells a {type(looked).__module__}."
            f"{type(looked).__qualname__} in place of retrysafe's DataRecord; nothing ran"
        )
    )


def _judged(call: Call, found: DataRecord, now_ms: int) -> Verdict | Ending:
    """The verdict; likewise on a record whose times are no numbers, say."""
    try:
        return judge(call, found, now_ms)
    except TypeError as error:
        return Raised(_unreadable(found, error))


def _unreadable(found: DataRecord, error: TypeError) -> IdempotencyPersistenceConsistencyError:
    unreadable = IdempotencyPersistenceConsistencyError(
        f"the record {found.shown_key} cannot be read; it is left as it is, and nothing ran", error
    )
    unreadable.__cause__ = error
    return unreadable


def _claim_anew(call: Call, claim: DataRecord) -> Flow[DataRecord | Ending]:
    """What follows where the claim got through so late that much of its lease is over: another one, or an ending."""
    for _ in range(_LATE_CLAIMS):
        claim = call.claim(attempt=claim.attempt)
        found = yield from Claim(claim)
        if found is not None:
            settled = yield from _settle(call, claim, found)
            if not isinstance(settled, DataRecord):
                return settled
            claim = settled
        if not call.is_short(claim, call.plan.clock.now_ms()):
            return claim
    if not claim.lease_over(call.plan.clock.now_ms()):
        return claim
    yield from withdraw(call, claim)
    return Raised(
        IdempotencyPersistenceConnectionError(
            f"the store took longer for each of {1 + _LATE_CLAIMS} claims than a lease of {call.lease.length_ms} ms "
            "lasts; nothing ran: raise in_progress_expires_after_seconds",
            claim.shown_key,
        )
    )


def _tell_claimed(call: Call, claim: DataRecord, seen: DataRecord | None) -> None:
    """Report a claim; `seen` is what the first one replaced, where it had to be made anew."""
    for replaced in (claim.replaces, seen):
        if replaced is not None and replaced.owner != claim.owner:
            call.tell(TakenOver, claim, previous_owner=replaced.owner)
            return
    call.tell(Claimed, claim)


def _next_claim(call: Call, found: DataRecord, now_ms: int) -> DataRecord:
    """The claim that follows a record whose window is over, or that takes over one whose lease is."""
    if found.window_over(now_ms):
        return call.claim()
    attempt = found.attempt if found.owner == call.owner else found.attempt + 1
    return call.claim(replaces=found, attempt=attempt)


def _claim(call: Call, claim: DataRecord) -> Flow[DataRecord | StoreFailed | None]:
    """Claim, and once more if the store failed."""
    found = yield from Claim(claim)
    return (yield from _claim_again(call, claim, found)) if isinstance(found, StoreFailed) else found


def _claim_again(call: Call, claim: DataRecord, failed: StoreFailed) -> Flow[DataRecord | StoreFailed | None]:
    """Claim once more after the store failed: if the first one got through, our own token tells."""
    if isinstance(failed.error, IdempotencyConfigError | IdempotencyPersistenceConsistencyError):
        return failed
    found: DataRecord | StoreFailed | None = failed
    if isinstance(failed.error, Exception):
        found = yield from Claim(claim)
    if isinstance(found, StoreFailed) and not isinstance(found.error, Exception):
        yield from withdraw(call, claim)  # interrupted: the claim may stand, and nobody would complete it
    return found


# --- how a duplicate ends ----------------------------------------------------------------------------------------


def _told(call: Call, record: DataRecord, ending: Ending, waited: float, *, from_local_cache: bool) -> None:
    """Report a duplicate that got its answer, and keep that at hand."""
    plan = call.plan
    # A stored failure that cannot be given again is refused, as whatever else raises is.
    if isinstance(ending, Raised) and not (
        record.stored_status == FAILED and is_answer(ending.error, plan.config.replay_exceptions)
    ):
        return
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
