"""SQLite's errors: the one table that says which exception each becomes, and what its reader can do.

SQLite's own words stand behind ours as details, and the original error is the cause. They name tables and
columns, but quote no value, save in the one case of `not_utf8`.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)

if TYPE_CHECKING:
    from retrysafe.exceptions import IdempotencyBaseError

REFUSALS: Final = (sqlite3.Error, UnicodeEncodeError, OverflowError)
"""All that the sqlite3 module raises for a statement: the last two for values that SQLite has no room for."""


class UnstorableValueError(IdempotencyPersistenceLayerError):
    """A value that SQLite can never take: too large, or text that is no Unicode."""


class _Entry(NamedTuple):
    text: str
    in_use: type[IdempotencyBaseError] = IdempotencyPersistenceLayerError
    opening: type[IdempotencyBaseError] | None = None  # None: as in use


_BUSY: Final = _Entry(
    "stayed locked by another writer for longer than busy_timeout_seconds={busy_timeout_seconds}: look for a "
    "program that keeps a transaction open, or raise busy_timeout_seconds",
    IdempotencyPersistenceConnectionError,
)
_READ_ONLY: Final = _Entry(
    "cannot be written: this process needs write permission on the file, on its directory, and on the -wal and "
    "the -shm file beside it where there are any",
    opening=IdempotencyPersistenceConfigError,
)
_UNSTORABLE: Final = _Entry("cannot store a value of this size or kind", UnstorableValueError)
_NOT_UTF8: Final = _Entry(
    "has text under this key that is no UTF-8, so the record cannot be read",
    IdempotencyPersistenceConsistencyError,
)
_ANY_OTHER: Final = _Entry("failed")

_ENTRIES: Final = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PROTOCOL: _BUSY,
    sqlite3.SQLITE_CANTOPEN: _Entry(
        "cannot be opened: its directory must exist, and this process must be allowed to write there, as "
        "SQLite keeps a -wal and a -shm file beside the database; else the path may be too long for SQLite, or this "
        "process may have as many files open as it is allowed to",
        IdempotencyPersistenceConnectionError,
        IdempotencyPersistenceConfigError,
    ),
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_AUTH: _READ_ONLY,
    sqlite3.SQLITE_FULL: _Entry("is full: free space on its disk, or raise its max_page_count"),
    sqlite3.SQLITE_IOERR: _Entry("could not be read or written: look at its disk and file system"),
    sqlite3.SQLITE_CORRUPT: _Entry(
        "is damaged: restore it, or save what can be read with `.recover` of the sqlite3 tool",
        IdempotencyPersistenceConsistencyError,
    ),
    sqlite3.SQLITE_NOTADB: _Entry(
        "is no SQLite database: give the path of one, or of a file that is not there yet",
        IdempotencyPersistenceConsistencyError,
    ),
    sqlite3.SQLITE_ERROR: _Entry(
        "refused the statement: a table was dropped or altered meanwhile, or is not retrysafe's",
        opening=IdempotencyPersistenceConfigError,
    ),
    sqlite3.SQLITE_TOOBIG: _UNSTORABLE,
}


def primary_code(error: BaseException) -> int | None:
    """SQLite's result code without its extension; None for an error that the sqlite3 module made itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def not_utf8(error: BaseException) -> bool:
    """Whether a row held text that cannot be decoded. Such an error quotes the text, which may be private."""
    return type(error) is sqlite3.OperationalError and primary_code(error) is None


def explained(
    error: BaseException, path: str, busy_timeout_seconds: float, *, opening: bool = False
) -> IdempotencyBaseError:
    """The exception to raise for one of `REFUSALS`."""
    code = primary_code(error)
    details = [f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"]
    if code is not None:
        entry = _ENTRIES.get(code, _ANY_OTHER)
    elif not_utf8(error):
        entry, details = _NOT_UTF8, []
    elif isinstance(error, sqlite3.Error):
        entry = _ANY_OTHER
    else:
        entry = _UNSTORABLE
    raised = entry.in_use if entry.opening is None or not opening else entry.opening
    text = entry.text.format(busy_timeout_seconds=busy_timeout_seconds)
    return raised(f"the SQLite database {path} {text}", *details)


def waited_in_vain(path: str, busy_timeout_seconds: float) -> IdempotencyBaseError:
    """The exception to raise where another thread found the database locked while this one waited."""
    text = _BUSY.text.format(busy_timeout_seconds=busy_timeout_seconds)
    return _BUSY.in_use(f"the SQLite database {path} {text}")


def not_writable(path: str, *, opening: bool) -> IdempotencyBaseError:
    """The exception to raise where this process may read the database, and not write it."""
    raised = IdempotencyPersistenceConfigError if opening else _READ_ONLY.in_use
    return raised(f"the SQLite database {path} {_READ_ONLY.text}")


def was_closed(path: str) -> IdempotencyBaseError:
    """The exception to raise where a layer is used after it was closed."""
    return IdempotencyPersistenceConnectionError(
        f"the SQLite database {path} was closed with its layer: make another layer object"
    )


def was_forked(path: str) -> IdempotencyBaseError:
    """The exception to raise in a process that was forked off with open connections."""
    return IdempotencyPersistenceConnectionError(
        f"the SQLite database {path} was open when this process was forked, and Python was not told beforehand: fork "
        "before the first use of its layer object"
    )
