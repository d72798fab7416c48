"""The heartbeat of async calls: renews the leases of those that run, from their own event loop.

As in `heartbeat`, what begins and ends within its lease costs an entry in a dict. Where the layer works in threads, the
thread there renews for async calls too: their function may block its event loop, as a client does that is not async.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from contextvars import copy_context
from math import inf
from typing import TYPE_CHECKING, cast
from weakref import ref

from retrysafe.clock import monotonic
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.heartbeat import LATE, SOONER_AFTER_FAILURE, heart, refused, renewed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context

    from retrysafe.execution import Execution
    from retrysafe.heartbeat import Beat
    from retrysafe.heartbeat_beside import Beside
    from retrysafe.persistence.base import AsyncBasePersistenceLayer


class AsyncHeart:
    """The renewals of the async runs of one event loop.

    One timer looks after all of them, at the time at which the first can be due, since one for each run would cost an
    eighth of a first call. Each renewal is a task of its own, in the context in which its run began.

    Args:
        loop: The loop.
    """

    __slots__ = ("__weakref__", "_beside", "_runs", "_tasks", "_timer", "_wakes_at", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._runs: dict[Execution, Context] = {}
        self._tasks: set[asyncio.Task[float | None]] = set()  # held, so that none is collected
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = inf
        self._beside: Beside | None = None

    def start(self, execution: Execution) -> AsyncHeart:
        """Renew the lease of a run until `stop`."""
        self._runs[execution] = copy_context()
        if cast("AsyncBasePersistenceLayer", execution.store)._opens_in_each_loop:
            if self._beside is None:
                from retrysafe.heartbeat_beside import Beside  # noqa: PLC0415  # only clients of a layer's own need it

                self._beside = Beside(self.loop)
            self._beside.start(execution)
        self._is_due(execution, self.loop.time() + execution.call.lease.renewal_seconds)
        return self

    def stop(self, execution: Execution) -> None:
        """No more renewals. One under way ends by itself: it can do no harm to a record that is not running."""
        self._runs.pop(execution, None)
        if self._beside is not None:
            self._beside.stop(execution)

    def _is_due(self, execution: Execution, due: float) -> None:
        execution.renewal_due = due
        if due < self._wakes_at:
            self._wake_at(due)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(due, self._beat)
        self._wakes_at = due

    def _beat(self) -> None:
        self._timer, self._wakes_at = None, inf
        now = self.loop.time()
        for execution, context in list(self._runs.items()):  # a run may be stopped by another thread
            if execution.over or execution.is_deserted():  # a signal struck before it could be stopped
                self._runs.pop(execution, None)
            elif execution.renewal_due <= now:
                execution.renewal_due = inf  # until this renewal is over
                task = context.run(self.loop.create_task, self._renew(execution))
                self._tasks.add(task)
                task.add_done_callback(functools.partial(self._is_over, execution, now))
        due = min([execution.renewal_due for execution in list(self._runs)], default=inf)
        if due < inf:
            self._wake_at(due)

    async def _renew(self, execution: Execution) -> float | None:
        """Renew one lease: seconds from its beginning to the next renewal; None where there is to be none."""
        began = monotonic()
        renewal = execution.call.renewal(execution.claim)
        try:
            await cast("AsyncBasePersistenceLayer", execution.store)._renew_record(renewal)
        except Exception as error:  # noqa: BLE001  # whatever the store's trouble is, the next beat may get through
            return refused(execution, error)
        execution.late_at = began + LATE * execution.call.lease.renewal_seconds
        return renewed(execution, renewal)

    def _is_over(self, execution: Execution, began: float, task: asyncio.Task[float | None]) -> None:
        """Also a renewal that was cancelled before it began, as by a program that cancels all tasks of its loop."""
        self._tasks.discard(task)
        delay: float | None = execution.call.lease.renewal_seconds / SOONER_AFTER_FAILURE
        if not task.cancelled() and task.exception() is None:
            delay = task.result()
        if delay is not None and execution in self._runs:
            self._is_due(execution, began + delay)


class _Latest(threading.local):
    """The heart of the event loop that ran last in this thread; its loop's timer and its runs are what holds it."""

    heart: Callable[[], AsyncHeart | None] = staticmethod(lambda: None)


_latest = _Latest()


@functools.cache  # an import statement, even of what is loaded, takes a microsecond
def _running_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

    return asyncio.get_running_loop


def start_async(execution: Execution) -> Beat:
    """Renew the lease of an async run until `stop`: by its event loop, or by the heartbeat's thread where it can.

    Raises:
        IdempotencyConfigError: The event loop is not asyncio's.
    """
    try:
        loop = _running_loop()()
    except RuntimeError:
        raise IdempotencyConfigError("async functions run in asyncio's event loop, and there is none here") from None
    if cast("AsyncBasePersistenceLayer", execution.store)._in_threads is not None:
        with contextlib.suppress(RuntimeError):  # no thread is to be had
            beat = heart.start(execution)
            execution.loop = loop
            return beat
    found = _latest.heart()
    if found is None or found.loop is not loop:
        found = AsyncHeart(loop)
        _latest.heart = ref(found)
    return found.start(execution)
