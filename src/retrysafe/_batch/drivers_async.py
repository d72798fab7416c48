"""The driver of an async batch: what comes next, until every item has its ending.

Each function runs in a task of its own, as many at a time as it is told to. Loaded only where a loop runs already.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any

from retrysafe._batch.keeping import AsyncKeeper
from retrysafe._batch.runs import ItemRun, leave
from retrysafe.clock import monotonic
from retrysafe.execution import forks
from retrysafe.pauses import INTERRUPTED_TRIES
from retrysafe.running import answered, invoke_async
from retrysafe.wishes import Ending, Invoke, Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from retrysafe._batch.item import Item
    from retrysafe._batch.state import Batch
    from retrysafe.persistence.base import AsyncBasePersistenceLayer


class AsyncBatchRun:
    """An async batch; the arguments are those of `drivers.BatchRun`.

    Args:
        concurrency: How many functions are under way at the same time.
    """

    def __init__(
        self,
        batch: Batch,
        store: AsyncBasePersistenceLayer,
        function: Callable[..., Awaitable[Any]],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        record_after_seconds: float,
        concurrency: int,
    ) -> None:
        self._batch = batch
        self._store = store
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._concurrency = concurrency
        self._keeper = AsyncKeeper(batch, store, record_after_seconds)
        self._start_beat = self._keeper.leases.start
        self._loop = asyncio.get_running_loop()
        self._running: dict[Item, asyncio.Task[None]] = {}
        # Of those, the ones that have ended, with their endings; without one where its task never came to say it.
        self._ended: dict[Item, Ending | None] = {}
        self._awaited: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_due = inf
        self._began_after = forks.times

    async def run(self) -> None:
        """Carry everything out.

        Raises:
            BaseException: What interrupted it, such as a CancelledError.
        """
        torn: BaseException | None = None
        tries = 0
        try:
            while True:
                try:
                    if torn is not None:
                        self._cancel_running()
                        self._batch.stop(torn)  # also if it has been: what was under way is to be done anew
                        torn = None
                    while await self._step():
                        pass
                    break
                except GeneratorExit:
                    raise  # nothing may be awaited any more; keys are free when their leases end
                except BaseException as error:  # a listener raised more than an Exception
                    tries += 1
                    if tries > INTERRUPTED_TRIES or self._began_after != forks.times:
                        raise
                    torn = error
        finally:
            self._keeper.end()
            if self._alarm is not None:
                self._alarm.cancel()
            self._cancel_running()
        if self._batch.interruption is not None:
            raise self._batch.interruption

    async def _step(self) -> bool:
        """Do what comes next; False when nothing does."""
        batch, keeper = self._batch, self._keeper
        if self._ended:
            self._take_ended()
        if batch.paused:
            batch.take_due(monotonic())
        keeper.ended()
        if batch.asking:
            await self._done(keeper.ask())
            keeper.claimed()
        elif batch.writing and not (self._running or batch.is_ready):
            if not batch.is_held_up:
                batch.begin()
            await self._done(keeper.record_and_ask())
            keeper.claimed()
        elif batch.writing and keeper.record_due <= monotonic():
            await self._done(keeper.record())
        elif self._start_ready():
            pass
        elif batch.is_coming and not batch.is_held_up and len(self._running) < self._concurrency:
            batch.begin()
        elif self._running or batch.paused:
            await self._until(min(keeper.record_due, batch.next_due))
        else:
            return bool(batch.asking or batch.writing)
        return True

    def _start_ready(self) -> bool:
        """Start one of the functions that may run now."""
        if len(self._running) >= self._concurrency or self._batch.is_held_up:
            return False
        item = self._batch.take_ready()
        if item is None:
            return bool(self._batch.asking)
        task = self._loop.create_task(self._run(item))
        self._running[item] = task
        item.is_running = True
        task.add_done_callback(lambda _: self._is_over(item))
        return True

    async def _run(self, item: Item) -> None:
        # Here and not when the task is done, which takes another turn of the loop. Nothing is awaited any more. And not
        # by a variable: a frame that is in the traceback of its own ending waits for the garbage collector.
        self._ended[item] = await self._ending(item)
        self._wake()

    async def _ending(self, item: Item) -> Ending:
        arguments, kwargs = (item.value, *self._args), self._kwargs
        if isinstance(item.op, Invoke):
            run = ItemRun() if self._concurrency == 1 else None
            if run is not None:
                run.batch = self._batch
            return await invoke_async(item.op, self._store, self._function, arguments, kwargs, self._start_beat, run)
        try:
            return Returned(await answered(self._function(*arguments, **kwargs)))
        except BaseException as error:  # noqa: BLE001  # the item's ending: without a key there is no protection
            return Raised(error)

    def _is_over(self, item: Item) -> None:
        """Its task is done: also one that was cancelled before it began, and has said nothing."""
        if item in self._running and item not in self._ended:
            self._ended[item] = None
            self._wake()

    def _take_ended(self) -> None:
        while self._ended:
            item = next(iter(self._ended))
            end, task = self._ended.pop(item), self._running.pop(item)
            item.is_running = False
            if end is None:
                if not task.cancelled():
                    task.result()  # raises what tore it apart
                # One that was cancelled before it began has run nothing.
                end = Raised(asyncio.CancelledError())
            if self._began_after != forks.times:
                leave(item, end)
            self._batch.answer(item, end)

    async def _done(self, work: Coroutine[Any, Any, list[tuple[Item, Any]]]) -> None:
        """Carry out wishes to their end, in a task of its own: a cancellation may come again at every await."""
        task = self._loop.create_task(work)
        interruption: BaseException | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                interruption = error
        self._batch.answer_all(task.result())
        if interruption is not None:
            self._interrupt(interruption)

    async def _until(self, due: float) -> None:
        """Wait until a function has ended, or a moment has come."""
        self._set_alarm(due)
        self._awaited = self._loop.create_future()
        try:
            await self._awaited
        except asyncio.CancelledError as error:
            self._interrupt(error)
        finally:
            self._awaited = None

    def _wake(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _set_alarm(self, due: float) -> None:
        """Wake at that moment, or before: an alarm that is set already is left, as most wait for the same moment."""
        if due < inf and (self._alarm is None or due < self._alarm_due):
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_due = due
            self._alarm = self._loop.call_later(max(0.0, due - monotonic()), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._wake()

    def _interrupt(self, error: BaseException) -> None:
        """Nothing more begins, and what runs is cancelled: each time anew, as a function may not heed the first."""
        self._cancel_running()
        if self._batch.interruption is None:
            self._batch.stop(error)

    def _cancel_running(self) -> None:
        if not self._loop.is_closed():
            for task in self._running.values():
                task.cancel()
