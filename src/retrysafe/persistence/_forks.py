"""Forks: a child begins anew with what it must not inherit, such as a lock that a thread of its parent held.

That thread is not there to let it go, so whoever waits for the lock would wait for ever.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_beginnings: set[weakref.WeakMethod[Any]] = set()


def begin_anew_in_children(begin: Callable[[], None]) -> None:
    """Call this method in each forked child, before any other thread runs there, as long as its object lives."""
    _beginnings.add(weakref.WeakMethod(begin, _beginnings.discard))


def _after_fork_in_child() -> None:
    for beginning in list(_beginnings):
        begin = beginning()
        if begin is not None:
            begin()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
