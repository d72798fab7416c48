"""How a writer gets its turn among those of other processes: SQLite does not queue them, so it looks again and again.

SQLite's own pauses between two looks grow to 100 ms, so a writer that has waited for long would be passed over by all
that came later. These stay short. A connection that writes therefore has no `busy_timeout` of its own.
"""

from __future__ import annotations

import sqlite3
from math import inf
from time import sleep
from typing import TYPE_CHECKING, Final

from retrysafe.clock import monotonic
from retrysafe.persistence._sqlite.errors import primary_code, waited_in_vain

if TYPE_CHECKING:
    from retrysafe.persistence._sqlite.statements import Command

_FIRST_LOOK_SECONDS: Final = 0.00025
_LOOK_SECONDS: Final = 0.001


class Turns:
    """The turns of one process at one file. Whoever asks for one holds the lock of this process's writers.

    Args:
        path: The file, for errors.
        busy_timeout_seconds: How long to wait for other processes.
    """

    __slots__ = ("_busy_timeout_seconds", "_found_busy_at", "_path")

    def __init__(self, path: str, busy_timeout_seconds: float) -> None:
        self._path = path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._found_busy_at = -inf

    def check(self, since: float) -> None:
        """That no other thread has waited in vain, while this one stood behind it all that time.

        Raises:
            IdempotencyPersistenceConnectionError: One has.
        """
        if self._found_busy_at - since >= self._busy_timeout_seconds:
            raise waited_in_vain(self._path, self._busy_timeout_seconds)

    def execute(self, writer: sqlite3.Connection, command: Command) -> sqlite3.Cursor:
        """Carry a statement out when it is its turn.

        Raises:
            sqlite3.Error: It failed, or its turn has not come.
        """
        pause, deadline = _FIRST_LOOK_SECONDS, inf
        while True:
            try:
                return writer.execute(*command)
            except sqlite3.OperationalError as error:
                if primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise
                now = monotonic()
                deadline = min(deadline, now + self._busy_timeout_seconds)
                if now >= deadline:
                    self._found_busy_at = now
                    raise
            sleep(pause)
            pause = min(2 * pause, _LOOK_SECONDS)
