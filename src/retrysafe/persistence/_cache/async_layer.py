"""The cache layer for asynchronous callers; what it promises stands with its synchronous twin, in `cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from retrysafe.exceptions import IdempotencyPersistenceLayerError
from retrysafe.persistence._cache.asking import Asker, ask_async
from retrysafe.persistence._cache.connection import CacheConnection, GivenClient
from retrysafe.persistence._cache.settings import Settings
from retrysafe.persistence._cache.steps import for_each
from retrysafe.persistence._courses import carried_out_async
from retrysafe.persistence._event_loops import forget_ended
from retrysafe.persistence._shared_reads import AsyncSharedReads
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.wire import AttributeNames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from retrysafe.clock import Clock
    from retrysafe.persistence._cache.addresses import Mode
    from retrysafe.persistence._cache.check import CacheFinding
    from retrysafe.persistence._cache.settings import AsyncOpened
    from retrysafe.persistence._cache.steps import Steps
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome
    from retrysafe.persistence.watch import AsyncWatch

T = TypeVar("T")


class AsyncCachePersistenceLayer(AsyncBasePersistenceLayer):
    """`CachePersistenceLayer` for asynchronous callers, with the asyncio clients of the same libraries.

    The arguments and errors are the same. A client that the layer opens belongs to the event loop that runs then; in
    another loop it opens another. So `close()` belongs at the end of each loop: `async with layer` in what
    `asyncio.run` is given. Where it is forgotten, the connections stay until the garbage collector finds them.
    """

    def __init__(
        self,
        url: str = "",
        host: str = "",
        port: int | str = 6379,
        username: str = "",
        password: str = "",
        db_index: int = 0,
        mode: Mode = "standalone",
        ssl: bool = True,
        client: Any = None,
        in_progress_expiry_attr: str = "in_progress_expiration",
        expiry_attr: str = "expiration",
        status_attr: str = "status",
        data_attr: str = "data",
        validation_key_attr: str = "validation",
        *,
        min_replicas: int = 0,
        replica_timeout_seconds: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self._settings = Settings(
            AttributeNames(expiry_attr, in_progress_expiry_attr, status_attr, data_attr, validation_key_attr),
            CacheConnection(url, host, port, username, password, db_index, mode, ssl)
            if client is None
            else GivenClient(client),
            client,
            asynchronous=True,
            min_replicas=min_replicas,
            replica_timeout_seconds=replica_timeout_seconds,
            clock=self.clock,
        )
        self._steps = self._settings.steps
        self._opens_in_each_loop = client is None
        # By event loop, which a connection belongs to.
        self._opened: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpened] = WeakKeyDictionary()
        self._reads = AsyncSharedReads(lambda key: self._carry_out(self._steps.get(key)))

    async def _put_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.put(data_record))

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        return await self._reads.read(idempotency_key)

    async def _update_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.update(data_record))

    async def _delete_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.delete(data_record))

    async def _renew_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.renew(data_record))

    async def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        backend = self._open().backend
        return await carried_out_async(for_each(self._steps, operation, arguments), backend.run_all)

    def _watch_record(self, idempotency_key: str) -> AsyncWatch | None:
        watching = self._open().watching
        return None if watching is None else watching.watch(idempotency_key)

    async def check(self) -> list[CacheFinding]:
        """See `CachePersistenceLayer.check`."""
        backend = self._open().backend
        return await ask_async(Asker(backend.client, backend.run, self._settings.options))

    async def close(self) -> None:
        """Close the client of this event loop, if the layer opened it. A later call opens another."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened.close()

    async def _carry_out(self, steps: Steps[T]) -> T:
        backend = self._open().backend
        try:
            command = next(steps)
            while True:
                try:
                    reply = await backend.run(command)
                except IdempotencyPersistenceLayerError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    def _open(self) -> AsyncOpened:
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is None:
            forget_ended(self._opened)
            opened = self._opened[loop] = self._settings.open_async()
        return opened
