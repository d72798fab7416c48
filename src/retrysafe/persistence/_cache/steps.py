"""The contract's methods as steps over commands, for clients that run scripts: one command each, pure, sync or async.

A step is a generator: it yields a command, is sent the server's reply, and returns or raises what the contract says.
Where the store fails, the error is thrown into it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence._cache.large_answers import LARGE, large_outcome
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.many import together

if TYPE_CHECKING:
    from retrysafe.persistence._cache.commands import Command, Commands
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

T = TypeVar("T")
Steps: TypeAlias = Generator[Any, Any, T]
"""Yields commands, is sent replies, returns T."""

# How often a claim names what it found, where others write and let lapse the same key meanwhile.
_CLAIM_ROUNDS = 3


class TooFewReplicasError(IdempotencyPersistenceConnectionError):
    """Fewer replicas than asked for confirmed a write in time. The master has it."""


class ScriptSteps:
    """The five methods, each one command on the server; more only to replace a record whose lease or window is over.

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
        named = record.replaces
        for _ in range(_CLAIM_ROUNDS):
            if named is not None and not (yield self._commands.lock(record)):
                # A Powertools worker is taking the key over, or has done so just now.
                reply = yield self._commands.read(record.idempotency_key)
                named = self._commands.standing(record.idempotency_key, reply)
                if named is not None:
                    break
            command = self._commands.claim(record, named, replicated=self._min_replicas > 0)
            reply = yield command
            if command.replicated:
                reply = yield from self._confirmed(command, reply, undo=self._commands.undo(record))
            named = None if isinstance(reply, int) else self._commands.standing(record.idempotency_key, reply)
            if named is None:
                return
            if not named.window_over(named.read_at_ms or 0):
                break
        if named is not None and self._min_replicas and _is_running(named, record):
            # Our own claim, whose reply was lost: a new write finds out whether the replicas have it.
            yield from self._renew(record, undo=self._commands.undo(record))
        raise IdempotencyItemAlreadyExistsError("a live record stands", record.idempotency_key, old_data_record=named)

    def single(self, operation: Operation) -> Callable[[DataRecord], Command | None] | None:
        """What makes the one command that the method begins with, and ends with too where the reply is a number.

        None, or a function that gives None, where there is more to it.
        """
        if self._min_replicas:
            return None
        return {"put": self._single_claim, "update": self._single_outcome}.get(operation)

    def _single_claim(self, record: DataRecord) -> Command | None:
        return None if record.replaces is not None else self._commands.claim(record, None, replicated=False)

    def _single_outcome(self, record: DataRecord) -> Command | None:
        command = self._commands.complete(record, replicated=False)
        return command if len(command.arguments[0]) < LARGE else None

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
        if len(command.arguments[0]) < LARGE:
            reply = yield command
            if command.replicated:
                reply = yield from self._confirmed(command, reply)
        else:
            reply = yield from large_outcome(
                record, lambda: self._written(command), lambda: self._look(record.idempotency_key)
            )
        self._refuse_if_lost(record, reply)

    def renew(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._renew_record`."""
        yield from self._renew(record)

    def _renew(self, record: DataRecord, undo: Command | None = None) -> Steps[None]:
        command = self._commands.renew(record, replicated=self._min_replicas > 0)
        reply = yield command
        if command.replicated:
            reply = yield from self._confirmed(command, reply, undo)
        self._refuse_if_lost(record, reply)

    def delete(self, record: DataRecord) -> Steps[None]:
        """See `BasePersistenceLayer._delete_record`."""
        try:
            yield self._commands.release(record)
        except IdempotencyPersistenceConnectionError:
            # Nobody tries it again, and a request that got lost would leave the key to its lease.
            yield self._commands.release(record)

    def _written(self, command: Command) -> Steps[Any]:
        reply = yield command
        return (yield from self._confirmed(command, reply)) if command.replicated else reply

    def _confirmed(self, command: Command, answered: list[Any], undo: Command | None = None) -> Steps[Any]:
        """The reply to what was written, once enough replicas have it; undone where they don't."""
        reply, replicas = answered
        # Where nothing was written, there is nothing to confirm.
        if isinstance(reply, int) and (isinstance(replicas, Exception) or replicas < self._min_replicas):
            if undo is not None:
                yield undo
            raise _too_few(command, self._min_replicas, replicas)
        return reply

    def _refuse_if_lost(self, record: DataRecord, reply: Any) -> None:
        if isinstance(reply, int):
            return
        raise IdempotencyLeaseLostError(
            "the record is no longer this owner's", record=self._commands.standing(record.idempotency_key, reply)
        )


def for_each(
    steps: Any, operation: Operation, arguments: Sequence[Any]
) -> Generator[list[Any], list[Any], list[Outcome]]:
    """One of the methods for each of many records: yields commands to be carried out together, is sent their replies.

    Args:
        steps: `ScriptSteps`, or those of a plain client.
        operation: Which method.
        arguments: What it takes, for each.
    """
    method, single = getattr(steps, operation), steps.single(operation)
    commands = [] if single is None else [single(argument) for argument in arguments]
    if single is None or None in commands:
        return (yield from together([method(argument) for argument in arguments]))
    replies = yield commands
    # Most are done by that. The others go their whole way, whose first command is the one that was answered.
    outcomes: list[Outcome] = [None] * len(arguments)
    numbers = [number for number, reply in enumerate(replies) if type(reply) is not int]
    if numbers:
        courses = [method(arguments[number]) for number in numbers]
        for course in courses:
            next(course)
        told = yield from together(courses, [replies[number] for number in numbers])
        for number, outcome in zip(numbers, told, strict=True):
            outcomes[number] = outcome
    return outcomes


def _is_running(standing: DataRecord, written: DataRecord) -> bool:
    return standing.stored_status == INPROGRESS and standing.owner == written.owner


def _too_few(command: Command, min_replicas: int, replicas: int | Exception) -> Exception:
    if isinstance(replicas, IdempotencyPersistenceConfigError):
        return replicas
    if not isinstance(replicas, Exception):
        return TooFewReplicasError(
            f"min_replicas={min_replicas}, and {replicas} replicas confirmed the write in time", command.key
        )
    error = TooFewReplicasError(f"min_replicas={min_replicas}, and WAIT failed", replicas)
    error.__cause__ = replicas
    return error
