"""What goes on beside the functions of a batch: leases are renewed, and outcomes recorded that have waited long enough.

A sync batch has both done by the heartbeat's thread, since its own is in a function of the user's; and outcomes also by
a `Recorder`, while it goes on to its next keys. These threads carry wishes out and nothing else: what follows from the
answers, listeners and hooks included, is for the batch's own thread.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from retrysafe._batch.leases import Leases
from retrysafe._batch.ports import AsyncBatchPorts, BatchPorts
from retrysafe._batch.recorder import Recorder
from retrysafe.clock import monotonic
from retrysafe.heartbeat import heart
from retrysafe.locks import new_lock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from retrysafe._batch.item import Item
    from retrysafe._batch.state import Batch
    from retrysafe.heartbeat import Busy
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord


class Keeper:
    """Carries out what a sync batch wishes for, partly in the heartbeat's thread.

    Args:
        batch: The batch.
        store: The layer.
        record_after_seconds: How long an outcome may wait to be recorded.

    Attributes:
        leases: The leases of its runs.
        answered: The items whose wishes were carried out, by either thread, each with its answer.
    """

    def __init__(self, batch: Batch, store: BasePersistenceLayer, record_after_seconds: float) -> None:
        self._batch = batch
        self.store = store
        self._ports = BatchPorts(store)
        self._record_after = record_after_seconds
        self.leases = Leases(batch)
        self._record_due = inf
        self._recording = new_lock()
        self._recorder = Recorder() if store.blocking and record_after_seconds else None
        self.answered: deque[tuple[Item, Any]] = deque()

    # --- in the batch's thread -------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Carry out the claims and looks that are wanted."""
        items, self._batch.asking = self._batch.asking, []
        self._batch.answer_all(self._carried_out(items))
        self.leases.claimed()
        if self.leases.due < inf:
            heart.look_after(self)

    def ended(self) -> None:
        """A function has ended: see that its outcome is recorded in time."""
        if self._record_due == inf and self._batch.writing:
            self._record_due = monotonic() + self._record_after
            if self._record_after:
                heart.look_after(self)

    def is_recording_due(self) -> bool:
        """Whether an outcome has waited long enough."""
        return bool(self._batch.writing) and (self._batch.is_urgent or self._record_due <= monotonic())

    def is_recording(self) -> bool:
        """Whether the heartbeat's thread is recording."""
        return self._recording.locked() or bool(self.answered)

    def record(self) -> None:
        """Record what has ended, and wait for what is being recorded."""
        self._record()
        self.take_answers()

    def record_beside(self) -> bool:
        """Let a thread record what has ended; False where none does that."""
        return self._recorder is not None and self._recorder.tell(self._record)

    def take_answers(self) -> None:
        """Go on with the items whose wishes were carried out."""
        while self.answered:
            self._batch.answer(*self.answered.popleft())

    def settle(self) -> None:
        """Wait for what is being recorded, and let each item know."""
        with self._recording:
            pass
        self.take_answers()

    def end(self) -> None:
        """The batch is over."""
        heart.stop(self)
        if self._recorder is not None:
            self._recorder.end()

    # --- in either -------------------------------------------------------------------------------------------------

    @property
    def renewal_due(self) -> float:
        """When the heartbeat's thread is needed, on the monotonic clock, in seconds."""
        return min(self.leases.due, self._record_due)

    def beat(self) -> bool:
        """Renew and record what is due, in the heartbeat's thread."""
        if self.leases.due <= monotonic():
            _renew(self.leases, partial(self._ports.for_each, "renew"))
        if self._record_due <= monotonic():
            self._record()
        return True

    def _record(self) -> None:
        with self._recording:
            # Before they are taken, so that one that comes meanwhile says so anew.
            self._record_due, self._batch.is_urgent = inf, False
            items: list[Item] = []
            while self._batch.writing:
                items.append(self._batch.writing.popleft())
            try:
                self.answered.extend(self._carried_out(items))
            except BaseException:
                self._batch.writing.extendleft(reversed(items))  # to write an outcome twice is harmless
                raise

    def _carried_out(self, items: list[Item]) -> list[tuple[Item, Any]]:
        wishes = [item.op for item in items if item.op is not None]
        return list(zip(items, self._ports.carry_out(wishes), strict=True)) if wishes else []


def _renew(leases: Leases, renew_all: Callable[[list[DataRecord]], list[Any]]) -> None:
    held, records = leases.renewals()
    leases.renewed(held, records, renew_all(records) if records else [])


class Renewing:
    """What the heartbeat's thread does for an async batch: renew, or do so where the event loop has not in time.

    Args:
        leases: The leases of the batch.
        store: Its layer, which works in threads or opens a client in each event loop.
        loop: Its event loop.

    Attributes:
        store: What is busy then.
        helps_out: Whether the event loop renews as long as it can.
    """

    def __init__(self, leases: Leases, store: AsyncBasePersistenceLayer, loop: asyncio.AbstractEventLoop) -> None:
        self._leases = leases
        self._loop = loop
        layer = store._in_threads
        self.helps_out = layer is None
        self.store: Busy = store if layer is None else layer
        self._renew_all: Callable[[list[DataRecord]], list[Any]]
        if layer is None:
            from retrysafe.heartbeat_beside import in_another_loop  # noqa: PLC0415  # see the condition

            self._renew_all = partial(in_another_loop, store)
        else:
            self._renew_all = partial(BatchPorts(layer).for_each, "renew")

    @property
    def renewal_due(self) -> float:
        """When the heartbeat's thread is needed, on the monotonic clock, in seconds."""
        return self._leases.late_at if self.helps_out else self._leases.due

    def beat(self) -> bool:
        """Renew, in the heartbeat's thread; False where nobody is left who would end the batch."""
        if self._loop.is_closed():
            return False
        _renew(self._leases, self._renew_all)
        return True


class AsyncKeeper:
    """Carries out what an async batch wishes for.

    Leases are renewed by a timer of the event loop; by the heartbeat's thread where the layer works in threads, and
    where it opens a client in each event loop, if the batch's own is blocked.

    Args:
        batch: The batch.
        store: The layer.
        record_after_seconds: How long an outcome may wait to be recorded.

    Attributes:
        leases: The leases of its runs.
        record_due: When an outcome has waited long enough, on the monotonic clock, in seconds.
    """

    def __init__(self, batch: Batch, store: AsyncBasePersistenceLayer, record_after_seconds: float) -> None:
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        self._batch = batch
        self.store = store
        self._ports = AsyncBatchPorts(store)
        self._record_after = record_after_seconds
        self.leases = Leases(batch)
        self._loop = asyncio.get_running_loop()
        has_beside = store._in_threads is not None or store._opens_in_each_loop
        self._beside = Renewing(self.leases, store, self._loop) if has_beside else None
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self.record_due = inf

    async def ask(self) -> list[tuple[Item, Any]]:
        """Carry out the claims and looks that are wanted; each item with its answer."""
        items, self._batch.asking = self._batch.asking, []
        return await self._carried_out(items)

    async def record(self) -> list[tuple[Item, Any]]:
        """Record what has ended; each item with its answer."""
        self.record_due, self._batch.is_urgent = inf, False
        items = list(self._batch.writing)
        self._batch.writing.clear()
        return await self._carried_out(items)

    async def record_and_ask(self) -> list[tuple[Item, Any]]:
        """Both at the same time; they are of different keys."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        recorded, asked = await asyncio.gather(self.record(), self.ask())
        return recorded + asked

    def claimed(self) -> None:
        """Keys were claimed: see that their leases are renewed, where they can be."""
        self.leases.claimed()
        self._set_timer()

    def ended(self) -> None:
        """A function has ended: see that its outcome is recorded in time."""
        if self._batch.writing and (self.record_due == inf or self._batch.is_urgent):
            self.record_due = monotonic() + (0.0 if self._batch.is_urgent else self._record_after)

    def end(self) -> None:
        """The batch is over. A renewal under way ends by itself: it can do no harm to a record that is not running."""
        if self._timer is not None:
            self._timer.cancel()
        if self._beside is not None:
            heart.stop(self._beside)
        self.leases.due = inf

    def _set_timer(self) -> None:
        if self._beside is not None:
            if self.leases.due < inf:
                heart.look_after(self._beside)
            if not self._beside.helps_out:
                return
        if self.leases.due < inf and (self._renewing is None or self._renewing.done()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(0.0, self.leases.due - monotonic()), self._fire)

    def _fire(self) -> None:
        self._renewing = self._loop.create_task(self._renew())  # held, so that it isn't collected
        self._renewing.add_done_callback(self._is_renewed)

    async def _renew(self) -> None:
        held, records = self.leases.renewals()
        outcomes = await self._ports.for_each("renew", records) if records else []
        if not self._batch.is_over:
            self.leases.renewed(held, records, outcomes)

    def _is_renewed(self, _: object) -> None:
        """Also a task that was cancelled before it began, as by a program that cancels all of its loop's."""
        if not self._batch.is_over:
            self._set_timer()

    async def _carried_out(self, items: list[Item]) -> list[tuple[Item, Any]]:
        wishes = [item.op for item in items if item.op is not None]
        return list(zip(items, await self._ports.carry_out(wishes), strict=True)) if wishes else []
