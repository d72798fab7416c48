"""Opening the SQLite layer's file: what each connection to it is told before it is used."""

from __future__ import annotations

import os
import sqlite3
from time import sleep
from typing import Final, Literal

from retrysafe.clock import monotonic
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._sqlite.errors import not_writable, primary_code

Synchronous = Literal["full", "normal", "off"]

Purpose = Literal["set up", "read", "write"]
"""What a connection is for. The one that sets up makes the file where there is none."""

# The first that can insert or else update in one statement.
_OLDEST: Final = (3, 24)

# Between two tries at what another process is about to finish.
_PAUSE_SECONDS: Final = 0.002


def check_library() -> None:
    """Refuse an SQLite that does not know the statements: some systems bring one along that is older than their Python.

    Raises:
        IdempotencyPersistenceConfigError: It is too old.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise IdempotencyPersistenceConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, _OLDEST))} is needed: use a Python whose "
            "sqlite3 module has a newer one"
        )


def check_writable(path: str, *, opening: bool) -> None:
    """Refuse a file that this process may only read, before SQLite opens it.

    SQLite would open it to read, and leave a `-wal` and a `-shm` file behind that belong to this process's user: those
    who may write the database could no longer open it.

    Args:
        path: The file. One that is not there is SQLite's to judge.
        opening: Whether a layer is being made.

    Raises:
        IdempotencyPersistenceConfigError: It may not be written, and a layer is being made.
        IdempotencyPersistenceLayerError: It may no longer be written.
    """
    effective = os.access in os.supports_effective_ids
    if os.access(path, os.F_OK, effective_ids=effective) and not os.access(path, os.W_OK, effective_ids=effective):
        raise not_writable(path, opening=opening)


def open_file(
    uri: str, purpose: Purpose, *, synchronous: Synchronous, busy_timeout_seconds: float
) -> sqlite3.Connection:
    """A new connection, in which each statement is a transaction of its own.

    It waits for other processes for `busy_timeout_seconds`; once it is open, one to write does not, as its user does.

    Raises:
        sqlite3.Error: The file cannot be opened.
    """
    connection = sqlite3.connect(
        f"{uri}?mode={'rwc' if purpose == 'set up' else 'rw'}",
        uri=True,
        timeout=busy_timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # On macOS an fsync does not reach the disk; elsewhere this changes nothing.
        connection.execute(f"PRAGMA fullfsync = {synchronous == 'full'}")
        if purpose == "read":
            connection.execute("PRAGMA query_only = ON")
        elif purpose == "write":
            # Not before: what came first may have had to wait until another process has recovered the file.
            connection.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def switch_to_wal(connection: sqlite3.Connection, path: str, busy_timeout_seconds: float) -> None:
    """Let the file have a write-ahead log.

    Raises:
        sqlite3.Error: The database fails.
        IdempotencyPersistenceConfigError: It cannot have one.
    """
    # SQLite does not always wait while another process does the same.
    deadline = monotonic() + busy_timeout_seconds
    while True:
        try:
            ((mode,),) = connection.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or monotonic() >= deadline:
                raise
            sleep(_PAUSE_SECONDS)
            continue
        if mode != "wal":
            raise IdempotencyPersistenceConfigError(
                f"the SQLite database {path} cannot keep a write-ahead log, its journal mode stays "
                f"{mode}: put it on a local disk that this process may write to"
            )
        return
