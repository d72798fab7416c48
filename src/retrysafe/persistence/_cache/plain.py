"""The contract's methods for a client that has `get`, `set` and `delete` and nothing more.

Such a client cannot compare and write in one step. What holds all the same: one of any rivals wins a free key, since
`set(nx)` is one step; and one of any rivals takes over a lapsed claim, since a marker of that very claim, set in the
same way, decides who may. What cannot hold is said in `CANNOT_KEEP`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence._cache.commands import LOCK_MS, LOCK_SUFFIX, LOCK_VALUE, read_record
from retrysafe.persistence._cache.large_answers import LARGE, large_outcome
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.wire import to_attributes

if TYPE_CHECKING:
    from retrysafe.clock import Clock
    from retrysafe.persistence._cache.steps import Steps
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation
    from retrysafe.persistence.wire import AttributeNames

CANNOT_KEEP: Final = (
    "it compares and writes in two steps, so between them a call whose lease has lapsed can overwrite, renew or delete "
    "the record of the call that took over; and leases are judged by this machine's clock, not by the server's"
)

_GRACE_MS: Final = 1000
_CLAIM_ROUNDS: Final = 5


class Plain:
    """One plain command.

    Args:
        name: `get`, `set` or `delete`.
        key: On what.
        value: What to set.
        px: For how many milliseconds; None: for ever.
        nx: Whether only if nothing stands.
    """

    __slots__ = ("key", "name", "nx", "px", "value")

    def __init__(self, name: str, key: str, value: str = "", px: int | None = None, *, nx: bool = False) -> None:
        self.name = name
        self.key = key
        self.value = value
        self.px = px
        self.nx = nx


class PlainSteps:
    """The five methods over plain commands; the shape of `ScriptSteps`.

    Args:
        names: What the attributes are called.
        clock: What judges windows and leases.
    """

    __slots__ = ("_clock", "_names")

    def __init__(self, names: AttributeNames, clock: Clock) -> None:
        self._names = names
        self._clock = clock

    def single(self, operation: Operation) -> None:
        """No method consists of one command; see `ScriptSteps.single`."""

    def put(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._put_record`."""
        key, standing = record.idempotency_key, None
        for _ in range(_CLAIM_ROUNDS):
            if (yield self._storing(record, nx=True)):
                return
            text = yield Plain("get", key)
            if text is None:
                continue
            standing = read_record(key, text, self._names)
            if not self._gives_way(standing, record):
                break
            if not (yield from self._locked(key)):
                break
            marker = f"{key}#takeover#{_digest(text)}"
            # Where a rival has it, that one is about to store its claim.
            if not (yield Plain("set", marker, record.owner or "", self._lease_ms(record), nx=True)):
                continue
            if (yield Plain("get", key)) == text:
                yield self._storing(record)
                return
        raise IdempotencyItemAlreadyExistsError("a live record stands", key, old_data_record=standing)

    def _locked(self, key: str) -> Steps[bool]:
        """Whether no Powertools worker takes the key over at the same moment; see lua/lock.lua."""
        lock = key + LOCK_SUFFIX
        if (yield Plain("set", lock, LOCK_VALUE, LOCK_MS, nx=True)):
            return True
        if (yield Plain("get", lock)) not in (LOCK_VALUE, LOCK_VALUE.encode()):
            return False
        yield Plain("set", lock, LOCK_VALUE, LOCK_MS)
        return True

    def get(self, idempotency_key: str) -> Steps[DataRecord]:
        """See `BasePersistenceLayer._get_record`."""
        found = yield from self._look(idempotency_key)
        if found is None:
            raise IdempotencyItemNotFoundError("no record under this key", idempotency_key)
        return found

    def update(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._update_record`."""
        yield from self._check_owner(record)
        command = self._storing(record)
        if len(command.value) < LARGE:
            yield command
        else:
            yield from large_outcome(record, lambda: _single(command), lambda: self._look(record.idempotency_key))

    def renew(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._renew_record`."""
        standing = yield from self._check_owner(record)
        if standing.stored_status != INPROGRESS:
            raise _lost(standing)
        yield self._storing(record)

    def delete(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._delete_record`."""
        try:
            yield from self._delete(record)
        except IdempotencyPersistenceConnectionError:
            # Nobody tries it again, and a request that got lost would leave the key to its lease.
            yield from self._delete(record)

    def _delete(self, record: DataRecord) -> Steps[None]:
        standing = yield from self._look(record.idempotency_key)
        if standing is None or standing.owner is None or standing.owner != record.owner:
            return
        if standing.stored_status == INPROGRESS:
            yield Plain("delete", record.idempotency_key)

    def _look(self, idempotency_key: str) -> Steps[DataRecord | None]:
        text = yield Plain("get", idempotency_key)
        return None if text is None else read_record(idempotency_key, text, self._names)

    def _check_owner(self, record: DataRecord) -> Steps[DataRecord]:
        standing = yield from self._look(record.idempotency_key)
        if standing is None or standing.owner is None or standing.owner != record.owner:
            raise _lost(standing)
        return standing

    def _gives_way(self, standing: DataRecord, claim: DataRecord) -> bool:
        if standing.window_over(self._clock.now_ms()):
            return True
        return claim.replaces is not None and standing.same_claim(claim.replaces)

    def _storing(self, record: DataRecord, *, nx: bool = False) -> Plain:
        text = json.dumps(to_attributes(record, self._names))
        return Plain("set", record.idempotency_key, text, self._left_ms(record), nx=nx)

    def _left_ms(self, record: DataRecord) -> int | None:
        """For how long the record may be asked for, in milliseconds."""
        if record.expiry_timestamp is None:
            return None
        last = max((record.expiry_timestamp + 1) * 1000, record.in_progress_expiry_timestamp or 0)
        return max(last - self._clock.now_ms(), 0) + _GRACE_MS

    def _lease_ms(self, record: DataRecord) -> int | None:
        """For how long nobody else may take over: should this call die before its claim stands, its lease is over."""
        if record.in_progress_expiry_timestamp is None:
            return self._left_ms(record)
        return max(record.in_progress_expiry_timestamp - self._clock.now_ms(), 0) + _GRACE_MS


def _single(command: Plain) -> Steps[Any]:
    return (yield command)


def _digest(text: Any) -> str:
    data = text.encode() if isinstance(text, str) else bytes(text)
    return hashlib.sha256(data).hexdigest()[:32]


def _lost(standing: DataRecord | None) -> IdempotencyLeaseLostError:
    return IdempotencyLeaseLostError("the record is no longer this owner's", record=standing)
