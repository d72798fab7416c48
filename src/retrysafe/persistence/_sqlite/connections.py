"""The connections of the SQLite layer to its file: one that writes, some that read, and what keeps them safe.

Every statement is a transaction of its own, so nothing is ever left open: not by an error, not by a signal
that interrupts a thread. Only writes for which several threads wait at once share one (see
`groups`). Writers of this process take turns at one lock, those of other processes at SQLite's own (see `turns`).
Readers take no lock, as a write-ahead log lets them read beside a writer.

No connection is carried through a fork (see `forks`): each process opens its own when it needs one,
and none is left open by the constructor.
"""

from __future__ import annotations

import sqlite3
from math import inf
from pathlib import Path
from threading import get_ident
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from retrysafe.clock import monotonic
from retrysafe.locks import new_rlock
from retrysafe.persistence._sqlite.errors import REFUSALS, explained, not_utf8, primary_code, was_closed, was_forked
from retrysafe.persistence._sqlite.files import Files, leave_open
from retrysafe.persistence._sqlite.forks import close_before_forks
from retrysafe.persistence._sqlite.groups import WriteGroups
from retrysafe.persistence._sqlite.mounts import check_mount
from retrysafe.persistence._sqlite.opening import check_writable, open_file, switch_to_wal
from retrysafe.persistence._sqlite.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.persistence._sqlite.opening import Purpose, Synchronous
    from retrysafe.persistence._sqlite.statements import Command

# Idle readers that are kept; one in use beyond these is closed when it is given back.
_KEPT_READERS: Final = 32

# How often to look whether the files still have their names: each time would double what a write costs beside
# SQLite.
_CHECK_FILE_SECONDS: Final = 1.0

# Between two looks at something that another thread or process is about to finish.
_PAUSE_SECONDS: Final = 0.002

# What a process finds that reads a write-ahead log which is no longer the database's.
_SEEM_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR}


class Connections:
    """The connections of one process to one database file.

    Args:
        path: The file, absolute.
        synchronous: How far a commit waits for the disk.
        busy_timeout_seconds: How long to wait for other writers.
        prepare: Called once with the first connection, in WAL mode and in a transaction, to make or check the tables.

    Raises:
        IdempotencyPersistenceConfigError: The file cannot be opened, written, or put into WAL mode.
        IdempotencyPersistenceConnectionError: It stayed locked.
        IdempotencyPersistenceConsistencyError: It is no database, or is damaged.
        IdempotencyPersistenceLayerError: Anything else went wrong.
    """

    def __init__(
        self,
        path: str,
        *,
        synchronous: Synchronous,
        busy_timeout_seconds: float,
        prepare: Callable[[sqlite3.Connection], None],
    ) -> None:
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._busy_timeout_seconds = busy_timeout_seconds
        # A later connection must not make anew a file that somebody has removed, and only a URI can say so.
        self._uri = Path(path).as_uri()
        self._files = Files(path)
        self._closed = False
        self._carried = False
        self._start()
        check_mount(path)
        close_before_forks(self)
        try:
            with self._writing:
                first = self._connect("set up")
                try:
                    switch_to_wal(first, path, busy_timeout_seconds)
                    # In any case, so that a database that cannot be written is found out here.
                    first.execute("PRAGMA busy_timeout = 0")  # see `turns`
                    self._turns.execute(first, ("BEGIN IMMEDIATE", ()))
                    prepare(first)
                    first.execute("COMMIT")
                    self._files.made()
                finally:
                    first.close()
        except REFUSALS as error:
            raise explained(error, path, busy_timeout_seconds, opening=True) from error

    def _start(self) -> None:
        # Reentrant, because a signal handler runs on top of whatever its thread is doing, and may come here
        # too. Taken by `with`, which no signal can part from the release.
        self._writing = new_rlock()
        self._groups = WriteGroups(self._writing)
        self._opening = new_rlock()
        self._writer: sqlite3.Connection | None = None
        self._turns = Turns(self._path, self._busy_timeout_seconds)
        self._check_file_at = -inf
        self._idle: list[sqlite3.Connection] = []
        self._busy: dict[sqlite3.Connection, int] = {}  # each with the thread that reads
        self._readers: set[sqlite3.Connection] = set()  # all, even one that a signal parted from its thread

    def read(self, command: Command) -> list[tuple[Any, ...]]:
        """The rows of a statement that reads. It waits for no writer.

        Raises:
            IdempotencyPersistenceLayerError: The database failed; see `errors`.
        """
        try:
            while True:
                idle = self._idle
                try:
                    reader = idle.pop()
                except IndexError:
                    reader, idle = self._new_reader()
                try:
                    self._busy[reader] = get_ident()
                    # From here on whoever closes waits; until here it may have closed this reader as idle.
                    if idle is self._idle:
                        return reader.execute(*command).fetchall()
                finally:
                    self._busy.pop(reader, None)
                    self._give_back(reader, idle)
        except REFUSALS as error:
            if not_utf8(error):  # sqlite3 quotes the text, which may be private
                raise explained(error, self._path, self._busy_timeout_seconds) from None
            raise self._explained(error) from error

    def write(self, command: Command) -> int:
        """Carry out a statement that writes; the number of rows it changed. It is committed when this returns.

        Raises:
            IdempotencyPersistenceLayerError: The database failed, and nothing was changed; see `errors`.
        """
        try:
            return self._groups.write(command, monotonic(), self)
        except REFUSALS as error:
            raise self._explained(error) from error

    def write_unless_locked(self, command: Command) -> None:
        """Carry out a statement that can as well be left out: without waiting for another process.

        Where writes of other threads wait, it goes with them, and is not waited for either.

        Raises:
            IdempotencyPersistenceLayerError: The database failed or is locked, and nothing was changed.
        """
        now = monotonic()
        if self._groups.ride(command, now):
            return
        try:
            with self._writing:
                self._current_writer(now).execute(*command)
        except REFUSALS as error:
            raise self._explained(error) from error

    def alone(self, command: Command, since: float) -> int:
        """See `groups.Database`, also for the others."""
        turns = self._turns
        turns.check(since)
        return turns.execute(self._current_writer(since), command).rowcount

    def begin(self) -> sqlite3.Connection:
        """See there."""
        writer = self._current_writer(monotonic())
        self._turns.execute(writer, ("BEGIN IMMEDIATE", ()))
        return writer

    def drop(self, writer: sqlite3.Connection) -> None:
        """See there."""
        self._writer = None
        writer.close()

    def close(self) -> None:
        """Close every connection, each when the statement that it is at has ended. It may be called twice."""
        self._closed = True
        with self._writing, self._opening:
            self.close_all()

    def __del__(self) -> None:
        if hasattr(self, "_readers"):
            try:  # noqa: SIM105  # contextlib itself may be gone
                self.close()
            except Exception:  # noqa: BLE001, S110  # Python ends, and has emptied the modules that this needs
                pass

    def _explained(self, error: Exception) -> Exception:
        if self._closed and isinstance(error, sqlite3.ProgrammingError):
            return was_closed(self._path)  # by a signal handler, between a connection and its statement
        if primary_code(error) in _SEEM_DAMAGED:
            with self._writing:  # so that nobody closes meanwhile
                if self._opened() and self._files.parted():
                    return self._files.has_parted()
        return explained(error, self._path, self._busy_timeout_seconds)

    def _connect(self, purpose: Purpose) -> sqlite3.Connection:
        if self._closed:
            raise was_closed(self._path)
        self._files.check_process()
        if self._carried:
            raise was_forked(self._path)
        check_writable(self._path, opening=purpose == "set up")
        connection = open_file(
            self._uri, purpose, synchronous=self._synchronous, busy_timeout_seconds=self._busy_timeout_seconds
        )
        try:
            if purpose != "set up":
                self._files.opened(first=self._writer is None and not self._readers)
        except BaseException:
            connection.close()
            raise
        return connection

    def _current_writer(self, now: float) -> sqlite3.Connection:
        if self._writer is not None and self._writer.in_transaction:
            # Of a thread that was torn out of it. What is written in there would never be committed.
            self.drop(self._writer)
        if self._writer is None:
            self._writer = self._connect("write")
        elif now >= self._check_file_at:
            self._files.check()
            self._check_file_at = now + _CHECK_FILE_SECONDS
            self._files.shorten_log(self._writer)
        return self._writer

    def _new_reader(self) -> tuple[sqlite3.Connection, list[sqlite3.Connection]]:
        with self._opening:
            reader = self._connect("read")
            self._readers.add(reader)
            return reader, self._idle

    def _give_back(self, reader: sqlite3.Connection, idle: list[sqlite3.Connection]) -> None:
        if idle is self._idle and len(idle) < _KEPT_READERS:
            idle.append(reader)
        else:
            self._readers.discard(reader)
            reader.close()

    def hold(self) -> None:
        """Let no connection be opened or used to write, until `resume`."""
        self._writing.acquire()
        try:
            self._opening.acquire()
        except BaseException:  # a signal, while another thread opens a connection
            self._writing.release()
            raise

    def close_all(self) -> None:
        """While held: close every connection, each when the statement that it is at has ended."""
        self._idle = []
        deadline = monotonic() + self._busy_timeout_seconds + 1
        busy = self._busy.copy()
        # Not for this thread itself, which is reading where this is called by a signal handler.
        while set(busy.values()) - {get_ident()} and monotonic() < deadline:
            sleep(_PAUSE_SECONDS)
            busy = self._busy.copy()
        self.leave_if_parted()
        for reader in self._readers - busy.keys():
            self._readers.discard(reader)
            reader.close()
        if self._writer is not None:
            self.drop(self._writer)

    def leave_if_parted(self) -> None:
        """Give up what can no longer be closed without harm, because others do not see it."""
        opened = self._opened()
        if opened and self._files.parted():
            leave_open(opened)
            self._readers.clear()
            self._writer = None

    def resume(self) -> None:
        """Let connections be opened again, in the process that held."""
        self._opening.release()
        self._writing.release()

    def start_in_child(self) -> list[sqlite3.Connection]:
        """Begin anew in a forked child; what was carried over in spite of all."""
        carried = self._opened()
        self._carried = bool(carried)
        self._start()
        return carried

    def _opened(self) -> list[sqlite3.Connection]:
        return list(self._readers) if self._writer is None else [self._writer, *self._readers]
