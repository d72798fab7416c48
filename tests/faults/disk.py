"""The disk under the SQLite files of all workers: full, or failing to sync, while a byte that they share says so."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from faults.history import DISK_FULL, FAILING_FSYNC
from support.slow_disk import Disk

if TYPE_CHECKING:
    from pathlib import Path

_SOUND = 0
_STATES = {DISK_FULL: 1, FAILING_FSYNC: 2}


def is_reachable() -> bool:
    """Whether this Python's SQLite lets its disk be replaced."""
    try:
        Disk()
    except RuntimeError:
        return False
    return True


class SharedState:
    """The byte.

    Args:
        path: A file that all map into their memory.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        with path.open("r+b") as file:
            file.truncate(1)
            self._shared = mmap.mmap(file.fileno(), 1)

    def set(self, kind: str | None) -> None:
        """Let the disk suffer this, or nothing."""
        self._shared[0] = _SOUND if kind is None else _STATES[kind]

    def suffers(self, kind: str) -> bool:
        """Whether it does."""
        return self._shared[0] == _STATES[kind]


class SharedDisk(Disk):
    """The disk, in one process."""

    def __init__(self, path: Path) -> None:
        self._state = SharedState(path)
        super().__init__()

    @property
    def fails_fsync(self) -> bool:
        return self._state.suffers(FAILING_FSYNC)

    @property
    def is_full(self) -> bool:
        return self._state.suffers(DISK_FULL)
