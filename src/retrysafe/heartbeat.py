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

    from retrysafe.call import Call
    from retrysafe.execution import Execution
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

# A lease is renewed each time a third of it has passed; after a failure of the store, sooner.
RENEWALS_PER_LEASE = 3
RENEWALS_PER_LEASE_AFTER_FAILURE = 12


class Renewals:
    """The renewals of one running call: what they write, and what follows from how the store took it.

    Args:
        call: The call.
        claim: Its claim.
        execution: Learns the new end of the lease, or that it is lost.
    """

    __slots__ = ("call", "claim", "delay", "execution")

    def __init__(self, call: Call, claim: DataRecord, execution: Execution) -> None:
        self.call = call
        self.claim = claim
        self.execution = execution
        self.delay = call.lease.length_ms / 1000 / RENEWALS_PER_LEASE
        """Seconds until the next renewal."""

    def renewed(self, renewal: DataRecord) -> bool:
        """The store moved the lease on."""
        self.execution.lease_end_ms = renewal.in_progress_expiry_timestamp or 0
        self.delay = self.call.lease.length_ms / 1000 / RENEWALS_PER_LEASE
        return True

    def failed(self, error: Exception) -> bool:
        """The store refused, or failed; False when the lease is no longer ours."""
        if isinstance(error, IdempotencyLeaseLostError):
            self.execution.lease_lost = True
            return False
        logger.warning("could not renew the lease of %s, trying again: %s", self.call.idempotency_key, error)
        self.delay = self.call.lease.length_ms / 1000 / RENEWALS_PER_LEASE_AFTER_FAILURE
        return True


class Beat(Renewals):
    """The renewals of a sync call.

    Args:
        store: Where the lease is renewed.

    Attributes:
        due: When the next renewal is due, on the monotonic clock, in seconds.
    """

    __slots__ = ("due", "store")

    def __init__(self, call: Call, claim: DataRecord, execution: Execution, store: BasePersistenceLayer) -> None:
        super().__init__(call, claim, execution)
        self.store = store
        self.due = time.monotonic() + self.delay
        heart.start(self)

    def stop(self) -> None:
        """No more renewals."""
        heart.stop(self)

    def renew(self) -> bool:
        """Move the lease on; False when it is no longer ours."""
        renewal = self.call.renewal(self.claim)
        try:
            self.store._renew_record(renewal)
        except Exception as error:  # noqa: BLE001  # whatever the store's trouble is, the next beat may get through
            ours = self.failed(error)
        else:
            ours = self.renewed(renewal)
        self.due = time.monotonic() + self.delay
        return ours


class AsyncBeat(Renewals):
    """The renewals of an async call: a timer of its event loop, which starts a task for each renewal."""

    __slots__ = ("_loop", "_stopped", "_task", "_timer", "store")

    def __init__(self, call: Call, claim: DataRecord, execution: Execution, store: AsyncBasePersistenceLayer) -> None:
        super().__init__(call, claim, execution)
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        self.store = store
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(self.delay, self._fire)
        self._stopped = False

    def stop(self) -> None:
        """No more renewals. One under way ends by itself: it can do no harm to a record that is not running."""
        self._stopped = True
        self._timer.cancel()

    def _fire(self) -> None:
        self._task = self._loop.create_task(self._renew())  # held, so that it isn't collected

    async def _renew(self) -> None:
        renewal = self.call.renewal(self.claim)
        try:
            await self.store._renew_record(renewal)
        except Exception as error:  # noqa: BLE001  # whatever the store's trouble is, the next beat may get through
            ours = not self._stopped and self.failed(error)
        else:
            ours = self.renewed(renewal)
        if ours and not self._stopped:
            self._timer = self._loop.call_later(self.delay, self._fire)


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
