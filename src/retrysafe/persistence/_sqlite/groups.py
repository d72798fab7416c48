"""Writes of many threads as one transaction, so that they wait for the disk once and not one after the other.

While one transaction is under way, further writes queue. The first in the queue leads: when it has its turn, it takes
all that has queued by then, carries it out in one transaction, and wakes the others when that is committed. Nobody
waits for others to come, and no thread is added: a write that finds nobody at work is carried out at once, alone.

A write ends as it would have ended alone: one that fails does not fail those beside it, and no thread has its answer
before its write is on the disk.

The main thread never leads and never queues. Signal handlers run there, between any two steps, and may raise, fork,
close the layer or use it; so each of its writes is one step of SQLite's own.
"""

from __future__ import annotations

import sqlite3
import threading
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Protocol

from retrysafe.exceptions import IdempotencyPersistenceLayerError
from retrysafe.locks import new_lock
from retrysafe.persistence._sqlite.errors import primary_code

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from retrysafe.persistence._sqlite.statements import Command

# Writes in one transaction. Other processes wait while it is open.
_LARGEST_GROUP: Final = 64

# Seconds after which a write looks for itself: its leader may have been torn out by an exception from outside.
_PATIENCE: Final = 1.0


class Database(Protocol):
    """What carries out what a group decides. Each method is called by the thread whose turn it is."""

    def alone(self, command: Command, since: float) -> int:
        """Carry out a write of a caller that waits since then, as a transaction of its own; the rows it changed."""
        ...

    def begin(self) -> sqlite3.Connection:
        """Begin a transaction that writes."""
        ...

    def drop(self, writer: sqlite3.Connection) -> None:
        """Undo the transaction of this connection, whatever state it is in."""
        ...


class _Write:
    """One write on its way.

    Attributes:
        changed: How many rows it changed, if it is settled without an error.
        error: How it failed.
        settled: Whether that is known. For changes it means that they are committed.
        wake: Held while its thread waits to be told so; None if that thread leads, or does not wait at all.
    """

    __slots__ = ("changed", "command", "error", "settled", "since", "wake")

    def __init__(self, command: Command, since: float) -> None:
        self.command = command
        self.since = since
        self.changed = 0
        self.error: Exception | None = None
        self.settled = False
        self.wake: threading.Lock | None = None  # noqa: TID251  # as below

    def fail(self, error: Exception) -> None:
        # Without the leader's frames, which hold the values of other callers' writes.
        self.error = error.with_traceback(None)
        self.settled = True


class WriteGroups:
    """The turns at writing to one database file, in one process.

    Args:
        turn: What a thread holds while it has its turn.
    """

    def __init__(self, turn: AbstractContextManager[Any]) -> None:
        self._turn = turn
        self._queueing = new_lock()
        self._queue: list[_Write] = []  # whoever queues first leads
        self._at_work = False  # no more than a hint
        self._leader: int | None = None
        self._main = threading.main_thread().ident

    def write(self, command: Command, since: float, database: Database) -> int:
        """Carry out a write, together with others if there are any.

        Args:
            command: The statement.
            since: When its caller began to wait, as `clock.monotonic` says it.
            database: What to write to.

        Returns:
            How many rows it changed.

        Raises:
            Exception: What `database` raised for this write, or for the transaction that it was in.
        """
        if not (self._at_work or self._queue) or get_ident() == self._main:
            with self._turn:
                self._at_work = True
                try:
                    return database.alone(command, since)
                finally:
                    self._at_work = False
        return self._write_with_others(_Write(command, since), database)

    def ride(self, command: Command, since: float) -> bool:
        """Let a write that may as well be left out be carried out with others that wait, if there are any."""
        with self._queueing:
            if not self._queue:
                return False
            self._queue.append(_Write(command, since))
        return True

    def _write_with_others(self, write: _Write, database: Database) -> int:
        if self._leader == get_ident():
            raise IdempotencyPersistenceLayerError("what interrupts a thread's own write cannot write there")
        with self._queueing:
            if self._queue:
                write.wake = threading.Lock()  # noqa: TID251  # one to wait on; the main thread has none
                write.wake.acquire()
            self._queue.append(write)
        if write.wake is not None:
            write.wake.acquire(timeout=_PATIENCE)
        if not write.settled:
            with self._turn:
                if not write.settled:
                    self._lead(write, database)
        error, write.error = write.error, None
        if error is None:
            return write.changed
        try:
            raise error
        finally:
            del error  # else the error, its traceback and this frame would hold each other

    def _lead(self, own: _Write, database: Database) -> None:
        """Carry out all that has queued. What is left unsettled by an exception is its own threads' to carry out."""
        self._leader = get_ident()
        self._at_work = True
        try:
            with self._queueing:
                writes, self._queue = self._queue, []
            if own not in writes:
                writes.insert(0, own)  # a leader took it before, and was torn out
            for start in range(0, len(writes), _LARGEST_GROUP):
                group = writes[start : start + _LARGEST_GROUP]
                try:
                    _carry_out(group, database)
                finally:
                    _wake(group)
        finally:
            self._at_work = False
            self._leader = None


def _wake(group: Sequence[_Write]) -> None:
    for write in group:
        if write.wake is not None and write.wake.locked():
            write.wake.release()


def _carry_out(group: Sequence[_Write], database: Database) -> None:
    if len(group) > 1:
        _commit(group, database)
    for write in group:
        if not write.settled:
            try:
                write.changed = database.alone(write.command, write.since)
            except Exception as error:  # noqa: BLE001  # each is its own caller's
                write.fail(error)
            write.settled = True


def _commit(group: Sequence[_Write], database: Database) -> None:
    """Carry out a group in one transaction. What need not fail with the others is left unsettled, to be tried alone."""
    try:
        writer = database.begin()
    except Exception:  # noqa: BLE001  # each is told by itself why it cannot be carried out
        return
    try:
        for write in group:
            try:
                write.changed = writer.execute(*write.command).rowcount
            except Exception as error:  # noqa: BLE001  # as above
                write.fail(error)
                if not writer.in_transaction:
                    return  # all is undone, through this one
        try:
            writer.execute("COMMIT")
        except sqlite3.Error as error:
            if primary_code(error) != sqlite3.SQLITE_FULL:  # what does not fit together may fit alone
                _fail_all(group, error)
            return
        for write in group:
            write.settled = True
    finally:
        if writer.in_transaction:
            database.drop(writer)


def _fail_all(group: Sequence[_Write], error: sqlite3.Error) -> None:
    from copy import copy  # noqa: PLC0415  # rarely needed

    for write in group:
        if not write.settled:
            write.fail(copy(error))  # one for each thread, as raising it changes it
