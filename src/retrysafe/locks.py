"""Locks that an exception from a signal handler never leaves held, on Python 3.14 too.

There `with lock:` may run a signal handler between taking the lock and entering the block; what the handler raises then
leaves the lock held for good (https://github.com/python/cpython/issues/148874, mended for later versions).
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    # What `threading.RLock` makes; Python has no public name for that which can be derived from.
    class _ReentrantLock:
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...
        def release(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

else:
    _ReentrantLock = type(threading.RLock())

_ONCE: Final = (True,)


class GuardedLock(_ReentrantLock):
    """A re-entrant lock whose `with` cannot be interrupted once the lock is taken."""

    def __enter__(self) -> None:
        # Python looks for signals where a call ends, but neither where a loop takes its next value nor at a return.
        for _ in map(self.acquire, _ONCE):
            return


_with_is_torn: Final = sys.version_info[:2] == (3, 14)

_guarded: Final = cast("Any", GuardedLock if _with_is_torn else None)

new_lock: Final[Callable[[], threading.Lock]] = _guarded or threading.Lock
"""Makes a lock that its thread must not take again."""

new_rlock: Final[Callable[[], threading.RLock]] = _guarded or threading.RLock
"""Makes a lock that its thread may take again."""
