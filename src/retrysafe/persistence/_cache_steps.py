"""The contract's methods as steps over commands, for clients that run scripts: one command each, pure, sync or async.

A step is a generator: it yields a command, is sent the server's reply, and returns or raises what the contract says.
Where the store fails, the error is thrown into it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence._cache_large import LARGE, large_outcome
from retrysafe.persistence.datarecord import INPROGRESS

if TYPE_CHECKING:
    from retrysafe.persistence._cache_commands import Command, Commands
    from retrysafe.persistence.datarecord import DataRecord

T = TypeVar("T")
Steps: TypeAlias = Generator[Any, Any, T]
"""Yields commands, is sent replies, returns T."""

# How often a claim names what it found, where others write and let lapse the same key meanwhile.
_CLAIM_ROUNDS = 3


class TooFewReplicasError(IdempotencyPersistenceConnectionError):
    """Fewer replicas than asked for confirmed a write in time. The master has it."""


class ScriptSteps:
    """The five methods, each one command on the server; more only where the TTL has not removed what is over yet.

    Args:
        commands: Makes the commands.
        min_replicas: How many replicas must have a claim before it counts, and an outcome.
    """

    __slots__ = ("_commands", "_min_replicas")

    def __init__(self, commands: Commands, min_replicas: int) -> None:
        self._commands = commands
        self._min_replicas = min_replicas

    def put(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._put_record`."""
        try:
            standing = yield from self._claim(record)
            if standing is not None and self._min_replicas and _is_running(standing, record):
                # Our own claim, whose reply was lost: a new write finds out whether the replicas have it.
                yield from self.renew(record)
        except TooFewReplicasError:
            yield self._commands.release(record)
            raise
        if standing is not None:
            raise IdempotencyItemAlreadyExistsError(
                "a live record stands", record.idempotency_key, old_data_record=standing
            )

    def _claim(self, record: DataRecord) -> Steps[DataRecord | None]:
        """What stands in the way; None where the claim is stored."""
        named, standing = record.replaces, None
        for _ in range(_CLAIM_ROUNDS):
            reply = yield from self._written(self._commands.claim(record, named, replicated=self._min_replicas > 0))
            standing = None if isinstance(reply, int) else self._commands.standing(record.idempotency_key, reply)
            if standing is None or not standing.window_over(standing.read_at_ms or 0):
                break
            named = standing
        return standing

    def get(self, idempotency_key: str) -> Steps[DataRecord]:
        """See `BasePersistenceLayer._get_record`."""
        found = yield from self._look(idempotency_key)
        if found is None:
            raise IdempotencyItemNotFoundError("no record under this key", idempotency_key)
        return found

    def _look(self, idempotency_key: str) -> Steps[DataRecord | None]:
        reply = yield self._commands.read(idempotency_key)
        return self._commands.standing(idempotency_key, reply)

    def update(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._update_record`."""
        command = self._commands.complete(record, replicated=self._min_replicas > 0)
        if max(map(len, command.arguments)) < LARGE:
            reply = yield from self._written(command)
        else:
            reply = yield from large_outcome(
                record, lambda: self._written(command), lambda: self._look(record.idempotency_key)
            )
        self._refuse_if_lost(record, reply)

    def renew(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._renew_record`."""
        reply = yield from self._written(self._commands.renew(record, replicated=self._min_replicas > 0))
        self._refuse_if_lost(record, reply)

    def delete(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._delete_record`."""
        try:
            yield self._commands.release(record)
        except IdempotencyPersistenceConnectionError:
            # Nobody tries it again, and a request that got lost would leave the key to its lease.
            yield self._commands.release(record)

    def _written(self, command: Command) -> Steps[Any]:
        """Carry out what writes, and see that enough replicas have it."""
        reply = yield command
        if not command.replicated:
            return reply
        reply, replicas = reply
        if isinstance(reply, int) and replicas < self._min_replicas:
            raise TooFewReplicasError(
                f"min_replicas={self._min_replicas}, and {replicas} replicas confirmed the write in time", command.key
            )
        return reply

    def _refuse_if_lost(self, record: DataRecord, reply: Any) -> None:
        if isinstance(reply, int):
            return
        raise IdempotencyLeaseLostError(
            "the record is no longer this owner's", record=self._commands.standing(record.idempotency_key, reply)
        )


def _is_running(standing: DataRecord, written: DataRecord) -> bool:
    return standing.stored_status == INPROGRESS and standing.owner == written.owner
