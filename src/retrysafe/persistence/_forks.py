"""Forks: a child begins anew with what it must not inherit, such as a lock that a thread of its parent held.

That thread is not there to let it go, so whoever waits for the lock would wait for ever.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_beginnings: set[weakref.WeakMethod[Any]] = set()


def begin_anew_in_children(begin: Callable[[], None]) -> None:
    """Call this method in each forked child, before any other thread runs there, as long as its object lives."""
    _beginnings.add(weakref.WeakMethod(begin, _beginnings.discard))


_left: list[Any] = []


def leave_to_parent(client: Any) -> None:
    """Keep what is the parent's as it is, for as long as this child lives.

    A client may have been forked while a thread of the parent held a lock of its pool, and takes that lock when it ends
    or is collected. The pools of redis-py close nothing then, where their client is told so.
    """
    with contextlib.suppress(Exception):
        client.auto_close_connection_pool = False
    _left.append(client)


def _after_fork_in_child() -> None:
    for beginning in list(_beginnings):
        begin = beginning()
        if begin is not None:
            begin()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
