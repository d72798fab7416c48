"""Looking whether a file is a database with a table of this name, and changing nothing there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from retrysafe.persistence._sqlite.errors import REFUSALS, explained
from retrysafe.persistence._sqlite.opening import check_writable, open_file

_BUSY_TIMEOUT_SECONDS: Final = 5.0


def has_table(path: str, table: str) -> bool:
    """Whether the file at this path has the table, whatever that holds.

    Raises:
        IdempotencyPersistenceLayerError: The file cannot be read; of the same kinds as when a layer is made.
    """
    check_writable(path, opening=True)
    uri, wait = Path(path).absolute().as_uri(), _BUSY_TIMEOUT_SECONDS
    try:
        with closing(open_file(uri, "read", synchronous="full", busy_timeout_seconds=wait)) as connection:
            found = connection.execute(
                "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (table,)
            ).fetchall()
    except REFUSALS as error:
        raise explained(error, path, wait, opening=True) from error
    return bool(found)
