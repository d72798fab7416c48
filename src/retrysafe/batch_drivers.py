"""The two drivers of a batch: what comes next, until every item has its ending, once synchronously and once not.

A sync batch runs one function after the other in its caller's thread. An async one runs each in a task of its own, as
many at a time as it is told to.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Any

from retrysafe.batch_keeping import AsyncKeeper, Keeper
from retrysafe.drivers import answered, invoke, invoke_async
from retrysafe.pauses import INTERRUPTED_TRIES
from retrysafe.wishes import Ending, Invoke, Raised, Returned

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from retrysafe.batch_state import Batch, Item
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer


# --- the synchronous driver ---------------------------------------------------------------------------------------


class BatchRun:
    """A sync batch.

    Args:
        batch: The batch.
        store: The layer.
        function: What runs for each item: the item is its first argument.
        args: Its further arguments.
        kwargs: And those by name.
        record_after_seconds: How long an outcome may wait to be recorded.
    """

    def __init__(
        self,
        batch: Batch,
        store: BasePersistenceLayer,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        record_after_seconds: float,
    ) -> None:
        self._batch = batch
        self._store = store
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._keeper = Keeper(batch, store, record_after_seconds)
        self._start_beat = self._keeper.leases.start

    def run(self) -> None:
        """Carry everything out.

        Raises:
            BaseException: What interrupted it, such as a KeyboardInterrupt.
        """
        batch, keeper = self._batch, self._keeper
        torn: BaseException | None = None
        tries = 0
        try:
            while True:
                try:
                    if torn is not None:
                        keeper.settle()
                        batch.stop(torn)
                        torn = None
                    while self._step():
                        pass
                    break
                except BaseException as error:  # a signal struck, or a listener raised more than an Exception
                    tries += 1
                    if tries > INTERRUPTED_TRIES:
                        raise
                    torn = error
        finally:
            keeper.end()
        if batch.interruption is not None:
            raise batch.interruption

    def _step(self) -> bool:
        """Do what comes next; False when nothing does."""
        batch, keeper = self._batch, self._keeper
        keeper.take_answers()
        if batch.paused:
            batch.take_due(time.monotonic())
        if batch.asking:
            keeper.ask()
        elif keeper.is_recording_due():
            keeper.record()
        elif batch.is_held_up:
            self._rest()
        elif (item := batch.take_ready()) is not None:
            self._run(item)
            keeper.ended()
        elif batch.asking:
            pass
        elif batch.writing or keeper.is_recording():
            keeper.record()
        elif batch.is_coming:
            batch.begin()
        elif batch.paused:
            self._rest()
        else:
            return False
        return True

    def _run(self, item: Item) -> None:
        # Straight to where an interruption, wherever it strikes, finds that the function has run.
        if isinstance(item.op, Invoke):
            arguments = (item.value, *self._args)
            item.answer = invoke(item.op, self._store, self._function, arguments, self._kwargs, self._start_beat)
        else:
            item.answer = self._plainly(item)
        self._batch.answer(item, item.answer)

    def _plainly(self, item: Item) -> Ending:
        """Without a key there is no protection."""
        try:
            return Returned(self._function(item.value, *self._args, **self._kwargs))
        except BaseException as error:  # noqa: BLE001  # the item's ending
            return Raised(error)

    def _rest(self) -> None:
        left = self._batch.next_due - time.monotonic()
        if left > 0:
            time.sleep(left)


# --- the asynchronous driver --------------------------------------------------------------------------------------


class AsyncBatchRun:
    """An async batch; the arguments are `BatchRun`'s.

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
        self._running: dict[asyncio.Task[Ending], Item] = {}

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
                        self._interrupt(torn)
                        torn = None
                    while await self._step():
                        pass
                    break
                except GeneratorExit:
                    raise  # nothing may be awaited any more; keys are free when their leases end
                except BaseException as error:  # a listener raised more than an Exception
                    tries += 1
                    if tries > INTERRUPTED_TRIES:
                        raise
                    torn = error
        finally:
            self._keeper.end()
            for task in self._running:
                task.cancel()
        if self._batch.interruption is not None:
            raise self._batch.interruption

    async def _step(self) -> bool:
        """Do what comes next; False when nothing does."""
        batch, keeper = self._batch, self._keeper
        self._take_ended()
        if batch.paused:
            batch.take_due(time.monotonic())
        keeper.ended()
        now = time.monotonic()
        if batch.asking:
            await self._done(keeper.ask())
            keeper.claimed()
        elif batch.writing and (keeper.record_due <= now or not (batch.ready or self._running)):
            await self._done(keeper.record())
        elif self._start_ready():
            pass
        elif batch.is_coming and not (batch.ready or batch.is_held_up) and len(self._running) < self._concurrency:
            batch.begin()
        elif self._running or batch.paused:
            await self._until(list(self._running), min(keeper.record_due, batch.next_due))
        else:
            return bool(batch.asking or batch.writing)
        return True

    def _start_ready(self) -> bool:
        """Start one of the functions that may run now."""
        if self._batch.is_held_up or len(self._running) >= self._concurrency:
            return False
        item = self._batch.take_ready()
        if item is None:
            return bool(self._batch.asking)
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        self._running[asyncio.get_running_loop().create_task(self._run(item))] = item
        item.is_running = True
        return True

    async def _run(self, item: Item) -> Ending:
        arguments = (item.value, *self._args)
        if isinstance(item.op, Invoke):
            return await invoke_async(item.op, self._store, self._function, arguments, self._kwargs, self._start_beat)
        try:
            return Returned(await answered(self._function(*arguments, **self._kwargs)))
        except BaseException as error:  # noqa: BLE001  # the item's ending: without a key there is no protection
            return Raised(error)

    def _take_ended(self) -> None:
        for task in [task for task in self._running if task.done()]:
            item = self._running.pop(task)
            item.is_running = False
            # A task that was cancelled before it began has run nothing.
            self._batch.answer(item, Raised(_cancelled()) if task.cancelled() else task.result())

    async def _done(self, work: Coroutine[Any, Any, list[tuple[Item, Any]]]) -> None:
        """Carry out wishes to their end, in a task of its own: a cancellation may come again at every await."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        task = asyncio.get_running_loop().create_task(work)
        interruption: BaseException | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                interruption = error
        for item, answer in task.result():
            self._batch.answer(item, answer)
        if interruption is not None:
            self._interrupt(interruption)

    async def _until(self, tasks: list[asyncio.Task[Ending]], due: float) -> None:
        """Wait until a function has ended, or a moment has come."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        seconds = None if due == inf else max(0.0, due - time.monotonic())
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(seconds or 0.0)
        except asyncio.CancelledError as error:
            self._interrupt(error)

    def _interrupt(self, error: BaseException) -> None:
        """Nothing more begins, and what runs is cancelled: each time anew, as a function may not heed the first."""
        for task in self._running:
            task.cancel()
        if self._batch.interruption is None:
            self._batch.stop(error)


def _cancelled() -> BaseException:
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

    return asyncio.CancelledError()
