"""The table of the SQLite layer: made if it is not there, checked if it is.

The format's version stands in a table of its own, one row per table of records, because `user_version`
belongs to the file, and the file may be an application's that has its own use for it.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError

if TYPE_CHECKING:
    from retrysafe.persistence._sqlite.statements import Statements

SCHEMA_VERSION: Final = 1

DEFAULT_TABLE: Final = "retrysafe"

_VERSIONS: Final = "retrysafe_schema"
_NAME: Final = re.compile(r"(?!sqlite_)[A-Za-z_][A-Za-z0-9_]{0,62}", re.IGNORECASE)


def check_table_name(table: object) -> None:
    """Refuse a name that cannot be used as it is.

    Raises:
        IdempotencyPersistenceConfigError: It cannot.
    """
    if not isinstance(table, str) or not _NAME.fullmatch(table) or table.lower() == _VERSIONS:
        raise IdempotencyPersistenceConfigError(
            f"table={table!r}: a table's name has letters, digits and underscores, at most 63, does not "
            f"begin with a digit or sqlite_, and is not {_VERSIONS}"
        )


def prepare_table(connection: sqlite3.Connection, table: str, statements: Statements) -> None:
    """Make table and index, or check that those there are of this version. Any number of processes may do so.

    To be called in a transaction that writes; what it made is to be undone where it raises.

    Raises:
        sqlite3.Error: The database fails.
        IdempotencyPersistenceConfigError: The table is of a newer version, or is no table of records.
    """
    connection.execute(_records(table))
    connection.execute(_versions())
    _check_version(connection, table)
    _check_columns(connection, table, statements)
    connection.execute(f'CREATE INDEX IF NOT EXISTS "{table}_expiration" ON "{table}" (expiration)')


def _records(table: str) -> str:
    # `data` comes last, so that no other column is found only by walking past a long answer. A table with a
    # rowid, because SQLite searches one without by reading whole rows, long answers included.
    return f"""CREATE TABLE IF NOT EXISTS "{table}" (
    id TEXT PRIMARY KEY NOT NULL,
    status TEXT NOT NULL,
    expiration INTEGER, -- end of the window, seconds since the epoch
    in_progress_expiration INTEGER, -- end of the lease, milliseconds since the epoch
    owner TEXT,
    attempt INTEGER NOT NULL DEFAULT 1,
    validation TEXT NOT NULL DEFAULT '',
    types TEXT NOT NULL DEFAULT '',
    data TEXT NOT NULL DEFAULT ''
)"""


def _versions() -> str:
    return f"""CREATE TABLE IF NOT EXISTS {_VERSIONS} (
    table_name TEXT PRIMARY KEY NOT NULL COLLATE NOCASE,
    version INTEGER NOT NULL
)"""


def _check_version(connection: sqlite3.Connection, table: str) -> None:
    connection.execute(
        f"INSERT INTO {_VERSIONS} VALUES (?, ?) ON CONFLICT DO NOTHING",  # noqa: S608  # a constant
        (table, SCHEMA_VERSION),
    )
    rows = connection.execute(
        f"SELECT version FROM {_VERSIONS} WHERE table_name = ?",  # noqa: S608  # a constant
        (table,),
    ).fetchall()
    if rows != [(SCHEMA_VERSION,)]:
        raise IdempotencyPersistenceConfigError(
            f"table={table!r}: its format has version {rows[0][0]!r}, and this retrysafe knows version "
            f"{SCHEMA_VERSION}: use a retrysafe at least as new as the one that made it"
        )


def _check_columns(connection: sqlite3.Connection, table: str, statements: Statements) -> None:
    for sql, values in statements.all():
        try:
            connection.execute("EXPLAIN " + sql, values)
        except sqlite3.OperationalError as error:
            raise IdempotencyPersistenceConfigError(
                f"table={table!r}: what has this name here is no table of records: give another name", error
            ) from error
