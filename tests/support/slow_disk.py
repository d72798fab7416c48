"""A slow, failing or full disk under SQLite, in this process: for tests and benchmarks of what a real one does.

SQLite reaches its files through a table of functions, its VFS. While a `Disk` is in force, what this process opens
gets a copy of that table whose functions for syncing and writing obey the disk; everything else, locks included, is
SQLite's own. Nothing needs a compiler, a mount or root.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
import threading
import time
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

SYNC = CFUNCTYPE(c_int, c_void_p, c_int)
WRITE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)

IO_METHODS = (
    *("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock"),
    *("xFileControl", "xSectorSize", "xDeviceCharacteristics"),
    *("xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap"),
    *("xFetch", "xUnfetch"),
)


class _Methods(Structure):
    """`sqlite3_io_methods`, version 3: what can be done with one open file."""

    _fields_ = (("iVersion", c_int), *((name, c_void_p) for name in IO_METHODS))


class _File(Structure):
    """`sqlite3_file`, as much of it as is public."""

    _fields_ = (("pMethods", POINTER(_Methods)),)


class _Vfs(Structure):
    """`sqlite3_vfs`, version 3."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("xDelete", c_void_p),
        ("others", c_void_p * 14),
    )


class Disk:
    """A disk under every database that this process opens in the `with` block, until its connections are closed.

    The attributes may be changed at any time, also for files that are open.

    Args:
        fsync_seconds: How long each sync takes instead of what it takes by itself. Nothing but the death of the
            machine tells such a sync from a real one. Default: each is a real one.

    Attributes:
        fails_fsync: Whether each sync fails, as on a broken disk (`SQLITE_IOERR_FSYNC`).
        is_full: Whether each write fails (`SQLITE_FULL`).
        syncs: How many syncs there were, failed ones too.
        on_sync: Called at each sync, in the thread that syncs, before anything else happens there.
    """

    fails_fsync = False
    is_full = False

    def __init__(self, *, fsync_seconds: float | None = None) -> None:
        self.fsync_seconds = fsync_seconds
        self.syncs = 0
        self.on_sync: Callable[[], None] = _nothing
        self._sqlite = _library()
        self._original = self._sqlite.sqlite3_vfs_find(None)
        self._vfs = _Vfs.from_buffer_copy(self._original.contents)
        self._open = OPEN(self.opened)
        self._open_original = OPEN(self._vfs.xOpen)
        self._vfs.zName = b"disk %d" % id(self)
        self._vfs.xOpen = ctypes.cast(self._open, c_void_p)
        self._methods: dict[int, tuple[_Methods, Any, Any, Any]] = {}
        self._lock = threading.Lock()
        _kept.append(self)

    def __enter__(self) -> Self:
        self._sqlite.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
        self._sqlite.sqlite3_vfs_register(self._original, 1)

    def opened(self, vfs: int, name: int, file: int, flags: int, out_flags: int) -> int:
        """`xOpen`: SQLite's own, and then our methods for the file."""
        code: int = self._open_original(vfs, name, file, flags, out_flags)
        opened = ctypes.cast(file, POINTER(_File)).contents
        if opened.pMethods:
            opened.pMethods = ctypes.pointer(self._obeying(opened.pMethods))
        return code

    def _obeying(self, original: Any) -> _Methods:
        """The methods of a kind of file, made once for each kind."""
        address = ctypes.addressof(original.contents)
        with self._lock:
            if address not in self._methods:
                methods = _Methods.from_buffer_copy(original.contents)
                sync, write, truncate = SYNC(methods.xSync), WRITE(methods.xWrite), TRUNCATE(methods.xTruncate)
                callbacks = (
                    SYNC(lambda file, flags: self.sync(file, lambda: sync(file, flags))),
                    WRITE(lambda file, *what: self.write(file, *what, lambda: write(file, *what))),
                    TRUNCATE(lambda file, size: self.truncate(file, size, lambda: truncate(file, size))),
                )
                methods.xSync, methods.xWrite, methods.xTruncate = (ctypes.cast(each, c_void_p) for each in callbacks)
                self._methods[address] = methods, *callbacks
            return self._methods[address][0]

    def sync(self, _file: int, really: Callable[[], int]) -> int:
        """`xSync` of a file."""
        self.syncs += 1
        self.on_sync()
        if self.fails_fsync:
            return sqlite3.SQLITE_IOERR_FSYNC
        if self.fsync_seconds is None:
            return really()
        time.sleep(self.fsync_seconds)
        return sqlite3.SQLITE_OK

    def write(self, _file: int, _data: int, _length: int, _at: int, really: Callable[[], int]) -> int:
        """`xWrite` to a file."""
        return sqlite3.SQLITE_FULL if self.is_full else really()

    def truncate(self, _file: int, _size: int, really: Callable[[], int]) -> int:
        """`xTruncate` of a file."""
        return really()


# A disk outlives its `with` block, since connections opened there may still be at work.
_kept: list[Disk] = []


def _nothing() -> None:
    """What a sync calls where nobody listens."""


def _library() -> ctypes.CDLL:
    """The SQLite that the sqlite3 module uses: looked up through that module, as there may be others.

    Raises:
        RuntimeError: It hides its functions, as in Pythons that have SQLite built in.
    """
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    except AttributeError:
        raise RuntimeError("the SQLite of this Python cannot be reached from outside") from None
    library.sqlite3_vfs_find.argtypes = (c_char_p,)
    for register in (library.sqlite3_vfs_register, library.sqlite3_vfs_unregister):
        register.restype = c_int
    return library
