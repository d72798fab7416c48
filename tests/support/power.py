"""The loss of power under SQLite: the files as it may leave them, had it come at any moment of a run.

A disk keeps what was synced. Of what was written since then each piece may be there or not, whatever came after it, or
some of its sectors; and a file that was removed may be back, until SQLite has synced the folder, as it does with the
first sync of a log or journal that it has made (`UNIXFILE_DIRSYNC` in its os_unix.c).
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, c_char_p, c_int, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.slow_disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

DELETE = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)
SECTOR = 512


@dataclass(frozen=True)
class Write:
    """A file got these bytes at this place; without any it was cut there."""

    name: str
    at: int
    data: bytes | None


@dataclass(frozen=True)
class Sync:
    """What a file had been given before this many steps is on the disk."""

    name: str
    begun: int


@dataclass(frozen=True)
class Removal:
    """A file lost its name."""

    name: str


@dataclass
class _File:
    kept: bytearray = field(default_factory=bytearray)
    loose: list[tuple[int, Write]] = field(default_factory=list)
    synced: bool = False

    def sync(self, begun: int) -> None:
        for number, write in self.loose:
            if number < begun:
                _put(self.kept, write)
        self.loose = [(number, write) for number, write in self.loose if number >= begun]
        self.synced = True

    def left(self, chance: Random) -> bytes:
        found, share = bytearray(self.kept), chance.choice((0.0, 0.5, 0.9, 1.0))
        for _, write in self.loose:
            if chance.random() < share:
                _put(found, write)
            elif write.data is not None and chance.random() < share:
                for sector in _sectors(write):
                    if chance.random() < share:
                        _put(found, sector)
        return bytes(found)


class PowerDisk(Disk):
    """A disk that remembers, in order, what it was told to write, to sync and to remove.

    Attributes:
        steps: Those, and what else was noted meanwhile.
    """

    def __init__(self) -> None:
        super().__init__(fsync_seconds=0.0)
        self.steps: list[Any] = []
        self._names: dict[int, str] = {}
        self._delete_original = DELETE(self._vfs.xDelete)
        self._delete = DELETE(self._deleted)
        self._vfs.xDelete = ctypes.cast(self._delete, c_void_p)

    def note(self, said: object) -> None:
        """Remember when something happened."""
        self.steps.append(said)

    def opened(self, vfs: int, name: int, file: int, flags: int, out_flags: int) -> int:
        if name:
            self._names[file] = Path(ctypes.string_at(name).decode()).name
        return super().opened(vfs, name, file, flags, out_flags)

    def write(self, file: int, data: int, length: int, at: int, really: Callable[[], int]) -> int:
        self.steps.append(Write(self._names[file], at, ctypes.string_at(data, length)))
        return super().write(file, data, length, at, really)

    def truncate(self, file: int, size: int, really: Callable[[], int]) -> int:
        self.steps.append(Write(self._names[file], size, None))
        return super().truncate(file, size, really)

    def sync(self, file: int, really: Callable[[], int]) -> int:
        begun = len(self.steps)
        code = super().sync(file, really)
        self.steps.append(Sync(self._names[file], begun))
        return code

    def _deleted(self, vfs: int, name: bytes, sync: int) -> int:
        self.steps.append(Removal(Path(name.decode()).name))
        return self._delete_original(vfs, name, sync)

    def left_behind(self, step: int, folder: Path, chance: Random) -> None:
        """Write into the folder what is left if the power fails right before this step."""
        files: dict[str, _File] = {}
        removed: dict[str, _File] = {}
        for number, said in enumerate(self.steps[:step]):
            if isinstance(said, Write):
                files.setdefault(said.name, _File()).loose.append((number, said))
            elif isinstance(said, Sync):
                file = files.setdefault(said.name, _File())
                if not file.synced and said.name.endswith(("-wal", "-journal")):
                    removed.clear()
                file.sync(said.begun)
            elif isinstance(said, Removal) and said.name in files:
                removed[said.name] = files.pop(said.name)
        for name, file in removed.items():
            if chance.random() < 0.5:
                files.setdefault(name, file)
        for name, file in files.items():
            (folder / name).write_bytes(file.left(chance))


def _put(content: bytearray, write: Write) -> None:
    if write.data is None:
        del content[write.at :]
        return
    content.extend(bytes(max(write.at - len(content), 0)))
    content[write.at : write.at + len(write.data)] = write.data


def _sectors(write: Write) -> Iterator[Write]:
    data = write.data or b""
    start = 0
    while start < len(data):
        end = min(start + SECTOR - (write.at + start) % SECTOR, len(data))
        yield Write(write.name, write.at + start, data[start:end])
        start = end
