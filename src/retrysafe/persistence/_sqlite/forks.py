"""Forks: every connection of the SQLite layer is closed before one, and no process uses another's; and the end.

SQLite notes, per process and file, which locks it has. A forked child inherits the notes but not the locks.
So it is not enough that it opens a connection of its own: SQLite believes the notes, takes no lock, and when
the other process closes and removes the write-ahead log, what the child commits is lost without a word.
Where nothing is open at the fork there are no notes. (See "Carrying an open database file through a fork" in
SQLite's "How to corrupt".) An application that keeps other connections to the same file open across a fork
is beyond help here.

A fork that Python is not told of beforehand carries connections over: the child then keeps them untouched,
as even to close them would do harm, and refuses to work with their layer.

When Python ends, it closes what was left open. What must not be closed (see `files`) is kept from that before.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from retrysafe.locks import new_rlock

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


class Connections(Protocol):
    """Those of one layer to its file."""

    def hold(self) -> None:
        """Let nobody use them until `resume`."""
        ...

    def resume(self) -> None:
        """They may be used again."""
        ...

    def close_all(self) -> None:
        """Close all of them."""
        ...

    def start_in_child(self) -> Iterable[sqlite3.Connection]:
        """Begin anew in a forked child; those that were open, which nobody may touch."""
        ...

    def leave_if_parted(self) -> None:
        """Leave open what it would do harm to close, as Python ends."""
        ...


_living: weakref.WeakSet[Connections] = weakref.WeakSet()
_held: list[Connections] = []
_carried: list[sqlite3.Connection] = []
_forking = new_rlock()


def close_before_forks(connections: Connections) -> None:
    """Close these before each fork, as long as they live. To be called before any of them is opened."""
    with _forking:
        _living.add(connections)


def _before_fork() -> None:
    _forking.acquire()
    for connections in list(_living):
        connections.hold()
        _held.append(connections)
        connections.close_all()


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().resume()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603  # the lock is the parent's, and may be held by a thread that is not here
    _forking = new_rlock()
    _held.clear()
    for connections in list(_living):
        _carried.extend(connections.start_in_child())


def _before_the_end() -> None:
    for connections in list(_living):
        connections.leave_if_parted()


atexit.register(_before_the_end)

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
