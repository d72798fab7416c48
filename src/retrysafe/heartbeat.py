"""The heartbeat: renews the leases of running calls, so that only a dead one's ends.

Sync calls are renewed by one daemon thread for all of them. Starting and stopping a beat costs an entry in a dict:
the thread looks at the entries when the earliest can be due, and sleeps without limit while there is none. Async
calls are renewed from their own event loop.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from retrysafe.events import logger
from retrysafe.exceptions import IdempotencyLeaseLostError

if TYPE_CHECKING:
    import asyncio

    from retrysafe.execution import Execution
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

SOONER_AFTER_FAILURE = 4


class Beat:
    """The renewals of a sync call.

    Args:
        execution: The run that is kept alive. It learns the new end of its lease, or that it is lost.
        store: Where the lease is renewed.

    Attributes:
        due: When the next renewal is due, on the monotonic clock, in seconds.
    """

    __slots__ = ("due", "execution", "store")

    def __init__(self, execution: Execution, store: BasePersistenceLayer) -> None:
        self.execution = execution
        self.store = store
        self.due = time.monotonic() + execution.call.lease.renewal_seconds
        heart.start(self)

    def stop(self) -> None:
        """No more renewals."""
        heart.stop(self)

    def renew(self) -> bool:
        """Move the lease on; False when it is no longer ours."""
        execution = self.execution
        renewal = execution.call.renewal(execution.claim)
        try:
            self.store._renew_record(renewal)
        except Exception as error:  # noqa: BLE001  # whatever the store's trouble is, the next beat may get through
            delay = _refused(execution, error)
        else:
            delay = _renewed(execution, renewal)
        self.due = time.monotonic() + (delay or 0.0)
        return delay is not None


class AsyncBeat:
    """The renewals of an async call: a timer of its event loop, which starts a task for each renewal."""

    __slots__ = ("_execution", "_loop", "_stopped", "_store", "_task", "_timer")

    def __init__(self, execution: Execution, store: AsyncBasePersistenceLayer) -> None:
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        self._execution = execution
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(execution.call.lease.renewal_seconds, self._fire)
        self._stopped = False

    def stop(self) -> None:
        """No more renewals. One under way ends by itself: it can do no harm to a record that is not running."""
        self._stopped = True
        self._timer.cancel()

    def _fire(self) -> None:
        self._task = self._loop.create_task(self._renew())  # held, so that it isn't collected

    async def _renew(self) -> None:
        renewal = self._execution.call.renewal(self._execution.claim)
        delay: float | None
        try:
            await self._store._renew_record(renewal)
        except Exception as error:  # noqa: BLE001  # whatever the store's trouble is, the next beat may get through
            delay = None if self._stopped else _refused(self._execution, error)
        else:
            delay = _renewed(self._execution, renewal)
        if delay is not None and not self._stopped:
            self._timer = self._loop.call_later(delay, self._fire)


def _renewed(execution: Execution, renewal: DataRecord) -> float:
    """The store moved the lease on: seconds until the next renewal."""
    execution.lease_end_ms = renewal.in_progress_expiry_timestamp or 0
    return execution.call.lease.renewal_seconds


def _refused(execution: Execution, error: Exception) -> float | None:
    """The store refused, or failed: seconds until the next try; None where the lease is no longer ours."""
    if isinstance(error, IdempotencyLeaseLostError):
        execution.lease_lost = True
        return None
    logger().warning("could not renew the lease of %s, trying again: %s", execution.idempotency_key, error)
    return execution.call.lease.renewal_seconds / SOONER_AFTER_FAILURE


class Heart:
    """The thread, started by the first beat, and the beats it looks after."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: also in a forked child, whose copies of the beats belong to the parent's calls."""
        self._beats: dict[int, Beat] = {}
        self._wake = threading.Event()
        self._wakes_at = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self, beat: Beat) -> None:
        """Look after a beat until `stop`."""
        self._beats[id(beat)] = beat
        if self._thread is None:
            self._begin()
        if beat.due < self._wakes_at:
            self._wake.set()

    def stop(self, beat: Beat) -> None:
        """Leave a beat alone."""
        self._beats.pop(id(beat), None)

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="retrysafe-heartbeat", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        wake = self._wake
        while True:
            # In this order no beat is missed: one added before the dict is read is seen there, a later one wakes us.
            wake.clear()
            self._wakes_at = float("inf")
            now = time.monotonic()
            due = min((beat.due for beat in tuple(self._beats.values())), default=float("inf"))
            if due > now:
                self._wakes_at = due
                wake.wait(None if due == float("inf") else due - now)
                continue
            for key, beat in tuple(self._beats.items()):
                if beat.due <= now and key in self._beats and not beat.renew():
                    self._beats.pop(key, None)


heart = Heart()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=heart.reset)
