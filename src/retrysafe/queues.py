"""The queues that wake threads: one step in C, so that an interruption never leaves a lock inside of them held.

Where gevent or eventlet have put greenlets in the place of threads, a queue of theirs: a wait in C would stop all of
them. Both have to do so before this module is imported, as locks and threads made before that are still the system's.
"""

from __future__ import annotations

import sys
from _queue import Empty as Empty  # noqa: PLC0414  # raised by all of them
from _queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def _greenlets() -> str | None:
    """Whose greenlets stand in the place of threads."""
    # Looked for, and not imported: who replaces threads has imported it.
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet: Any = sys.modules.get("eventlet.patcher")
    return "eventlet" if eventlet is not None and eventlet.is_monkey_patched("thread") else None


def _maker(greenlets: str | None) -> Callable[[], Any]:
    if greenlets is None:
        return SimpleQueue
    import importlib  # noqa: PLC0415  # most programs have no greenlets

    made: Callable[[], Any] = importlib.import_module(f"{greenlets}.queue").Queue
    return made


_known = _greenlets()
_make = _maker(_known)


def new_queue() -> SimpleQueue[Any]:
    """Make a queue that fits the threads.

    Raises:
        IdempotencyConfigError: Greenlets have taken the place of threads since this module was imported.
    """
    found = _greenlets()
    if found != _known:
        raise IdempotencyConfigError(
            f"{found} replaced Python's threads after retrysafe was imported; do it first, or threads and greenlets "
            "would wait for each other's locks"
        )
    queue: SimpleQueue[Any] = _make()
    return queue
