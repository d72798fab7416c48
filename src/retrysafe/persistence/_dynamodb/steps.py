"""The contract's methods as steps over requests: one request each, pure, sync or async.

A step is a generator: it yields a request, is sent the reply (a refusal too, where it is one that is expected), and
returns or raises what the contract says. A second request follows only where the first was judged or dated by a clock
that the reply shows to be wrong, or where an answer turns out to be too large.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence._dynamodb.commands import TOO_LARGE, Command
from retrysafe.persistence._dynamodb.errors import code_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.persistence._dynamodb.commands import Commands
    from retrysafe.persistence._dynamodb.items import Items
    from retrysafe.persistence._dynamodb.service_time import ServiceTime
    from retrysafe.persistence.datarecord import DataRecord

T = TypeVar("T")
Steps: TypeAlias = Generator[Any, Any, T]
"""Yields requests, is sent replies, returns T."""

# How often a claim names what it found, where others write and let lapse the same key meanwhile.
_CLAIM_ROUNDS = 3

_NOTHING: Any = {}

_LATE_MS = 500

# Beyond how much a written time is put right, where half of the lease or window is more than that.
_LARGEST_ERROR_MS = 60_000


class RecordSteps:
    """The five methods.

    Args:
        commands: Makes the requests.
        items: Reads the items.
        time: The time that judges.
    """

    __slots__ = ("_commands", "_items", "_time")

    def __init__(self, commands: Commands, items: Items, time: ServiceTime) -> None:
        self._commands = commands
        self._items = items
        self._time = time

    def put(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._put_record`."""
        key, time = record.idempotency_key, self._time
        seen = None
        standing = self._standing(key, (yield from self.asked(record)))
        if standing is not None and not standing.window_over(time.judging_ms()) and record.replaces is None:
            raise self._exists(key, standing)
        for _ in range(_CLAIM_ROUNDS):
            ahead = time.dating_skew_ms + _late_ms(record, time)
            moved = _moved(record, ahead)
            reply = yield from self._sent(
                self._commands.claim(moved, time.now_ms(), guarded=time.is_doubtful, seen=seen)
            )
            if "Error" not in reply:
                error = _error_ms(record, ahead, time)
                if error:
                    try:
                        yield from self._put_right(record, ahead + error, self._commands.renew)
                    except IdempotencyLeaseLostError as lost:
                        raise self._exists(key, lost.record) from None
                return
            standing = self._standing(key, reply)
            if standing is None or not standing.window_over(time.judging_ms()):
                break
            seen = reply["Item"]
        raise self._exists(key, standing)

    def get(self, idempotency_key: str) -> Steps[DataRecord]:
        """See `BasePersistenceLayer._get_record`."""
        reply = yield from self._sent(self._commands.read(idempotency_key))
        found = self._standing(idempotency_key, reply)
        if found is None:
            raise IdempotencyItemNotFoundError("no record under this key", self._items.shown(idempotency_key))
        return found

    def update(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._update_record`."""
        packed = not self._items.fits(record)
        skew = self._time.dating_skew_ms
        command = self._commands.complete(_moved(record, skew), packed=packed)
        reply = yield from self._sent(command)
        if code_of(reply) == TOO_LARGE and not packed:
            packed = True  # by DynamoDB's own arithmetic
            command = self._commands.complete(_moved(record, skew), packed=True)
            reply = yield from self._sent(command)
        if code_of(reply) == TOO_LARGE:
            raise IdempotencyResponseUnavailableError(
                "the answer is too large for the item", self._items.shown(record.idempotency_key)
            )
        # The very outcome stands where its own first reply was lost.
        if not self._items.same_outcome(command.parameters["Item"], reply.get("Item")):
            self._refuse_if_lost(record, reply)
        error = _error_ms(record, skew, self._time)
        if error:
            again = partial(self._commands.complete, packed=packed, again=True)
            yield from self._put_right(record, skew + error, again)

    def renew(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._renew_record`."""
        yield from self.asked(record)
        skew = self._time.dating_skew_ms
        reply = yield from self._sent(self._commands.renew(_moved(record, skew)))
        self._refuse_if_lost(record, reply)
        error = _error_ms(record, skew, self._time)
        if error:
            yield from self._put_right(record, skew + error, self._commands.renew)

    def delete(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._delete_record`."""
        yield from self._sent(self._commands.release(record))

    def _sent(self, command: Command) -> Steps[Any]:
        sent_at = self._time.stopwatch()
        reply = yield command
        self._time.note(reply, sent_at)
        return reply

    def asked(self, record: DataRecord) -> Steps[Any]:
        """Learn the time by a read, where the clock is not known to be right: its reply, or an empty one.

        A lease dated by a clock that is minutes ahead would hold the key for as much longer, if the caller died before
        it was put right.
        """
        if not self._time.must_be_asked:
            return _NOTHING
        return (yield from self._sent(self._commands.read(record.idempotency_key)))

    def _put_right(self, record: DataRecord, by_ms: int, again: Callable[[DataRecord], Command]) -> Steps[None]:
        """Write the times once more, where those just written turned out to be far off.

        They do where the reply is the first to show that the caller's clock is wrong; and where the request was
        throttled, and tried again, for so long that most of the lease has gone by before it began.
        """
        reply = yield from self._sent(again(_moved(record, by_ms)))
        self._refuse_if_lost(record, reply)

    def _exists(self, key: str, standing: DataRecord | None) -> IdempotencyItemAlreadyExistsError:
        return IdempotencyItemAlreadyExistsError(
            "a live record stands", self._items.shown(key), old_data_record=standing
        )

    def _refuse_if_lost(self, record: DataRecord, reply: Any) -> None:
        if "Error" not in reply:
            return
        try:
            standing = self._standing(record.idempotency_key, reply)
        except IdempotencyPersistenceConsistencyError:
            standing = None
        raise IdempotencyLeaseLostError(
            "the record is no longer this owner's", self._items.shown(record.idempotency_key), record=standing
        )

    def _standing(self, idempotency_key: str, reply: Any) -> DataRecord | None:
        item = reply.get("Item")
        if not item or not _is_item(item):
            return None
        record = self._items.record(idempotency_key, item)
        record.read_at_ms = self._time.read_at_ms
        return record


def _is_item(value: object) -> bool:
    """False for what a mock in the client's place gives, in tests of users: there is no record behind it."""
    return isinstance(value, dict)


def _moved(record: DataRecord, by_ms: int) -> DataRecord:
    """The record with its times moved to another clock; a window never gets shorter."""
    if not by_ms:
        return record
    window_end, lease_end = record.expiry_timestamp, record.in_progress_expiry_timestamp
    return record.replaced(
        expiry_timestamp=None if window_end is None else -(-(window_end * 1000 + by_ms) // 1000),
        in_progress_expiry_timestamp=None if lease_end is None else lease_end + by_ms,
    )


def _late_ms(record: DataRecord, time: ServiceTime) -> int:
    """How much of the lease has gone by before the claim is sent, where that is worth telling.

    Outside of Lambda the first call of a process loads botocore, and a claim is tried again after the service has
    failed.
    """
    if record.made_at_ms is None:
        return 0
    late = time.caller_ms() - record.made_at_ms
    return late if late > _LATE_MS else 0


def _error_ms(record: DataRecord, ahead_ms: int, time: ServiceTime) -> int:
    """How much too early the written lease (or window, without one) ends, as the time is known now; 0 for about right.

    It was asked for so long from when the record was made; that much is to be left now.
    """
    made_at = record.made_at_ms
    end, tolerance_ms = record.in_progress_expiry_timestamp, 0
    if end is None and record.expiry_timestamp is not None:
        end, tolerance_ms = record.expiry_timestamp * 1000, 1000
    if made_at is None or end is None:
        return 0
    error = time.dating_ms() - (made_at + ahead_ms)
    return error if abs(error) > max(tolerance_ms, min((end - made_at) // 2, _LARGEST_ERROR_MS)) else 0
