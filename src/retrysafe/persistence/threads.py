"""Worker threads: lets asynchronous callers use any synchronous layer, without blocking their event loop.

The threads are the layer's own, as in the loop's default executor a renewal could stand behind an
application's long jobs until its lease is over; nor do they stand behind claims (`_lanes`). asyncio is
imported by the first call, as other layers' modules import this one for synchronous callers too.
"""

# The contract's methods are called by whoever drives a layer; their underscore only keeps users away.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import contextvars
import os
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from retrysafe.persistence._lanes import Lanes
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.persistence.many import form_for_many, one_by_one

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThreadedPersistenceLayer(AsyncBasePersistenceLayer):
    """A synchronous layer for asynchronous callers: each method runs in a worker thread.

    A call that is cancelled waits until its thread has ended, however often it is cancelled, and only then
    lets the cancellation through. So whatever the caller does next, such as releasing its claim, comes after
    it. A layer that does not block (`blocking` is False) is called directly.

    Args:
        layer: The synchronous layer. Closing this one closes it.
        max_threads: How many claims and looks may be under way at once; further ones queue. Default: 32. As many
            outcomes and releases may be under way beside them, and a quarter as many renewals.
    """

    def __init__(self, layer: BasePersistenceLayer, *, max_threads: int = 32) -> None:
        super().__init__(clock=layer.clock)
        self._layer = layer
        if type(self)._renew_record is ThreadedPersistenceLayer._renew_record and _renews_many(layer):
            self._in_threads = layer
        self._workers = Lanes(_Workers, max_threads)

    @property
    def reachable_by_others(self) -> bool:  # type: ignore[override]  # not the class knows, but the object
        """Whether another service can stand on the wrapped layer's store."""
        return self._layer.reachable_by_others

    @property
    def can_renew(self) -> bool:
        """Whether the wrapped layer can move a lease on."""
        return self._layer.can_renew

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        return await self._call("get", self._layer._get_record, idempotency_key)

    async def _put_record(self, data_record: DataRecord) -> None:
        await self._call("put", self._layer._put_record, data_record)

    async def _update_record(self, data_record: DataRecord) -> None:
        await self._call("update", self._layer._update_record, data_record)

    async def _delete_record(self, data_record: DataRecord) -> None:
        await self._call("delete", self._layer._delete_record, data_record)

    async def _renew_record(self, data_record: DataRecord) -> None:
        await self._call("renew", self._layer._renew_record, data_record)

    async def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        return await self._call(operation, form_for_many(self._layer, operation, one_by_one), operation, arguments)

    async def close(self) -> None:
        """Close the wrapped layer, and let the threads end."""
        await self._call("get", self._layer.close)
        for workers in self._workers:
            workers.close()

    async def _call(self, operation: Operation, method: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not self._layer.blocking:
            return method(*args, **kwargs)
        import asyncio  # noqa: PLC0415  # see the module's first lines

        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        turn = [method]  # for whoever comes first: an executor may keep what it could start no thread for

        def work() -> _T:
            return context.run(turn.pop(), *args, **kwargs)

        try:
            # Nothing here holds the future, which would hold the error that is raised here from it, and so this frame.
            ended = _to_its_end(loop.run_in_executor(self._workers.of(operation).executor(), work))
        except RuntimeError:
            if not turn:
                raise  # another thread of theirs has it
            # No thread is to be had, as in what goes on after the main thread's end. Better to hold up the loop than to
            # lose the answer of a run.
            return turn.pop()(*args, **kwargs)
        return await ended


def _renews_many(layer: BasePersistenceLayer) -> bool:
    """Whether one thread is enough for the renewals of many runs: else they go side by side, each in its context."""
    own = layer.__class__._for_each is not BasePersistenceLayer._for_each
    return own and form_for_many(layer, "renew", one_by_one) == layer._for_each


class _Workers:
    """Threads that are started when they are needed.

    Args:
        most: How many.
    """

    __slots__ = ("_executor", "_most", "_pid")

    def __init__(self, most: int) -> None:
        self._most = most
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0

    def executor(self) -> ThreadPoolExecutor:
        """What hands work to them."""
        # A forked child has none of its parent's threads, though the executor counts on them.
        if self._executor is None or self._pid != os.getpid():
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # see the module's first lines

            self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="retrysafe")
            self._pid = os.getpid()
        return self._executor

    def close(self) -> None:
        """Let them end."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None


async def _to_its_end(work: asyncio.Future[_T]) -> _T:
    import asyncio  # noqa: PLC0415  # see the module's first lines

    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        if cancelled is None:
            return work.result()
        work.exception()  # looked at, so that asyncio does not report it as overlooked
        raise cancelled
    finally:
        del work, cancelled  # or the error would hold the frame that holds the error
