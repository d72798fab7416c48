"""The three files of an SQLite database: whether they are still those that are open, and how long the log grows.

SQLite looks their names up once. A process whose `-wal` file is gone writes on into what nobody else sees, and what it
writes back when it closes covers what others have stored since. It goes when somebody removes it, and also by itself:
the system takes all of a process's locks on a file away when the process closes any descriptor of it, which may be that
of a mere `open(path)`. The next other process that closes the database then believes that it is the last, and removes
its `-wal` and `-shm`. (See sections 2.2 and 2.4 of SQLite's "How To Corrupt An SQLite Database File".) SQLite 3.53
keeps them in that case.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterable

_Identity = tuple[int, int]

_BESIDE: Final = ("-wal", "-shm")

# SQLite begins the log anew when all of it is in the database and no reader looks at it. Readers that take turns
# without a gap put that off for ever, so a log of this many bytes is emptied while everybody waits.
LONG_LOG: Final = 16 * 1024 * 1024

# How long everybody waits at most. Where a reader takes longer, the log is tried again when it is twice as long.
_LOG_WAIT_MS: Final = 200

# Databases from which this process has parted, by the identity of the file.
_parted: set[_Identity] = set()
_left_open: list[sqlite3.Connection] = []


class Files:
    """The files of one database, as a layer of this process has them open.

    Args:
        path: The database, absolute.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._database = self._identity()  # None where it is to be made
        self._beside: list[_Identity | None] = [None] * len(_BESIDE)
        self._long_log = LONG_LOG

    def made(self) -> None:
        """Note the database, which is there by now."""
        self._database = self._identity()

    def opened(self, *, first: bool) -> None:
        """Note what a connection that has just been opened has open, if it is the only one.

        Raises:
            IdempotencyPersistenceConnectionError: Others do not see what it would write.
        """
        if first:
            # Nobody removes them while the connection has its locks.
            self._beside = [self._identity(suffix) for suffix in _BESIDE]
        self.check()

    def check(self) -> None:
        """While any connection is open: find out whether others see what is written here.

        Raises:
            IdempotencyPersistenceConnectionError: They do not.
        """
        if self._identity() != self._database:
            raise IdempotencyPersistenceConnectionError(
                f"the SQLite database {self._path} was removed or replaced while it was open, so other "
                "processes would not see what is written: restart the process, or make another layer object"
            )
        if self.parted():
            raise self.has_parted()

    def check_process(self) -> None:
        """Before a connection is opened: it would share what others of this process have open.

        Raises:
            IdempotencyPersistenceConnectionError: Others do not see that.
        """
        if self._database in _parted:
            raise self.has_parted()

    def parted(self) -> bool:
        """While any connection is open: whether the database stands there, but what is written to it goes elsewhere."""
        database = self._identity()
        if database is None or database != self._database:
            return False  # SQLite notices that by itself, and writes nothing back
        for number, suffix in enumerate(_BESIDE):
            found, noted = self._identity(suffix), self._beside[number]
            if noted is None:  # no log, until another program lets the database have one
                self._beside[number] = found
            elif noted != found:
                _parted.add(database)
        return database in _parted

    def has_parted(self) -> IdempotencyPersistenceConnectionError:
        """The exception to raise where that is so."""
        return IdempotencyPersistenceConnectionError(
            f"the -wal or -shm file of the SQLite database {self._path} was removed while it was open, so other "
            "processes would not see what is written: end this process. Look for what removes these files, or for code "
            "in this process that opens the database as a plain file: closing that takes SQLite's locks away"
        )

    def shorten_log(self, writer: sqlite3.Connection) -> None:
        """Empty a long log, where readers leave it to that within a moment. A connection that waits for nobody."""
        try:
            length = Path(f"{self._path}-wal").stat().st_size
        except OSError:
            return
        if length < self._long_log:
            return
        self._long_log = 2 * length
        with contextlib.suppress(sqlite3.Error):  # the log keeps what it has
            writer.execute(f"PRAGMA busy_timeout = {_LOG_WAIT_MS}")
            try:
                ((busy, *_),) = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                writer.execute("PRAGMA busy_timeout = 0")
            if not busy:
                self._long_log = LONG_LOG

    def _identity(self, suffix: str = "") -> _Identity | None:
        """What tells the file from another one of the same name; None where there is none."""
        try:
            found = Path(self._path + suffix).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def leave_open(connections: Iterable[sqlite3.Connection]) -> None:
    """Never close these, not even when Python ends: each would write back what is no longer up to date."""
    for connection in connections:
        _left_open.append(connection)
        with contextlib.suppress(Exception):  # a Python without it
            import ctypes  # noqa: PLC0415  # needed here alone

            python: Any = ctypes.pythonapi
            python.Py_IncRef(ctypes.py_object(connection))
