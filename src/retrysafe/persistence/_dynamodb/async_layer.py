"""The DynamoDB layer for asynchronous callers; what it promises stands with its synchronous twin, in `dynamodb`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from retrysafe.persistence._courses import carried_out_async
from retrysafe.persistence._dynamodb.clients import opens_with_the_layer
from retrysafe.persistence._dynamodb.settings import Settings
from retrysafe.persistence._event_loops import forget_ended
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.many import at_once
from retrysafe.persistence.wire import AttributeNames

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from aiobotocore.session import AioSession
    from botocore.config import Config

    from retrysafe.clock import Clock
    from retrysafe.persistence._dynamodb.clients import AsyncBackend
    from retrysafe.persistence._dynamodb.steps import Steps
    from retrysafe.persistence._dynamodb.tables import DynamoDBFinding
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

T = TypeVar("T")


class AsyncDynamoDBPersistenceLayer(AsyncBasePersistenceLayer):
    """`DynamoDBPersistenceLayer` for asynchronous callers, with aiobotocore.

    The arguments and errors are the same, but that session and client are aiobotocore's, `session` and `client`. A
    client that the layer opens belongs to the event loop that runs then; in another loop it opens another. In Lambda
    the library alone is loaded with the layer.
    """

    def __init__(
        self,
        table_name: str,
        key_attr: str = "id",
        static_pk_value: str | None = None,
        sort_key_attr: str | None = None,
        expiry_attr: str = "expiration",
        in_progress_expiry_attr: str = "in_progress_expiration",
        status_attr: str = "status",
        data_attr: str = "data",
        validation_key_attr: str = "validation",
        boto_config: Config | None = None,
        session: AioSession | None = None,
        client: Any = None,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        clock_skew_limit_seconds: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self._settings = Settings(
            table_name,
            key_attr,
            static_pk_value,
            sort_key_attr,
            AttributeNames(expiry_attr, in_progress_expiry_attr, status_attr, data_attr, validation_key_attr),
            clock=self.clock,
            clock_skew_limit_seconds=clock_skew_limit_seconds,
            config=boto_config,
            session=session,
            client=client,
            region_name=region_name,
            endpoint_url=endpoint_url,
            asynchronous=True,
        )
        if opens_with_the_layer():
            self._settings.load_async()
        self._steps = self._settings.steps
        self._opens_in_each_loop = client is None
        # By event loop, which a connection belongs to.
        self._opened: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[AsyncBackend, Callable[[], Awaitable[None]]]]
        self._opened = WeakKeyDictionary()
        self._opening: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def _put_record(self, data_record: DataRecord) -> None:
        from retrysafe.persistence._to_the_end import to_the_end  # noqa: PLC0415  # asyncio is loaded by now

        await to_the_end(self._carry_out(self._steps.put(data_record)))

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        return await self._carry_out(self._steps.get(idempotency_key))

    async def _update_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.update(data_record))

    async def _delete_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.delete(data_record))

    async def _renew_record(self, data_record: DataRecord) -> None:
        await self._carry_out(self._steps.renew(data_record))

    async def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        backend = await self._backend()
        rounds = self._settings.many.for_each(operation, arguments, backend.has)
        return await carried_out_async(rounds, partial(at_once, self._carry_out))

    @property
    def clock_skew_seconds(self) -> float:
        """See `DynamoDBPersistenceLayer.clock_skew_seconds`."""
        return self._settings.time.skew_ms / 1000

    async def check(self) -> list[DynamoDBFinding]:
        """See `DynamoDBPersistenceLayer.check`."""
        return await self._carry_out(self._settings.tables.check())

    async def create_table(self) -> None:
        """See `DynamoDBPersistenceLayer.create_table`."""
        await self._carry_out(self._settings.tables.create())

    async def close(self) -> None:
        """Close the client of this event loop, if the layer opened it. A later call opens another."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[1]()

    async def _carry_out(self, steps: Steps[T]) -> T:
        backend = await self._backend()
        reply = None
        try:
            while True:
                reply = await backend.run(steps.send(reply))
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    async def _backend(self) -> AsyncBackend:
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is None:
            async with self._opening.setdefault(loop, asyncio.Lock()):
                opened = self._opened.get(loop)
                if opened is None:
                    forget_ended(self._opened)
                    forget_ended(self._opening)
                    opened = self._opened[loop] = await self._settings.open_async()
        return opened[0]
