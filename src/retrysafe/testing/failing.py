"""Layers that fail on demand: what a program does when its store is down, at the moment a test chooses."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyPersistenceConnectionError
from retrysafe.locks import new_lock
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Generator

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.watch import AsyncWatch, Watch

Operation = Literal["get", "put", "update", "delete", "renew"]
"""The five methods of a layer: `_get_record` and so on. A call claims with a put and completes with an update."""

Failure = BaseException | type[BaseException]


class _Fault:
    """One failure to come: of every call of an operation, or of one."""

    __slots__ = ("applied", "call", "error")

    def __init__(self, call: int | None, applied: bool, error: Failure) -> None:
        self.call = call
        self.applied = applied
        self.error = error


class _Faults:
    """What the sync and the async layer share: the counters, and the failures to come."""

    calls: dict[Operation, int]
    """How often each operation was called so far, the failed calls included."""

    def _start(self) -> None:
        self.calls = {"get": 0, "put": 0, "update": 0, "delete": 0, "renew": 0}
        self._faults: dict[Operation, list[_Fault]] = {}
        self._lock = new_lock()

    def fail(
        self, operation: Operation, *, call: int | None = None, applied: bool = False, error: Failure | None = None
    ) -> None:
        """Let an operation fail from now on, until `heal()`.

        Args:
            operation: "get", "put", "update", "delete" or "renew".
            call: Which call of it fails, counted as `calls` does: 1 is the first call that the layer ever gets.
                Default: every call from now on.
            applied: False: the request is lost, the store never hears of it. True: the store does as it is told, and
                the reply is lost.
            error: What is raised, an exception or its class. Default: `IdempotencyPersistenceConnectionError`.

        Raises:
            ValueError: There is no such operation, that call of it has been made already, or `error` is no exception.
        """
        if operation not in tuple(self.calls):
            raise ValueError(f"operation={operation!r}: must be one of {', '.join(map(repr, self.calls))}")
        if error is None:
            what = "reply" if applied else "request"
            error = IdempotencyPersistenceConnectionError(f"the {what} of this {operation} was lost, as a test asked")
        raised: object = error
        if not isinstance(raised, BaseException) and not (
            isinstance(raised, type) and issubclass(raised, BaseException)
        ):
            raise ValueError(f"error={raised!r}: must be an exception or its class")  # noqa: TRY004  # as all options
        number: object = call
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise ValueError(f"call={number!r}: must be a whole number")
        with self._lock:
            if call is not None and call <= self.calls[operation]:
                raise ValueError(f"call={call}: the layer has had {self.calls[operation]} calls of {operation} already")
            self._faults.setdefault(operation, []).append(_Fault(call, applied, error))

    def heal(self) -> None:
        """Forget all failures to come; the counters go on."""
        with self._lock:
            self._faults.clear()

    @contextlib.contextmanager
    def _call(self, operation: Operation) -> Generator[None]:
        with self._lock:
            number = self.calls[operation] = self.calls[operation] + 1
            fault = next((each for each in self._faults.get(operation, ()) if each.call in (None, number)), None)
        if fault is None:
            yield
            return
        if fault.applied:
            with contextlib.suppress(Exception):  # the reply is lost, whichever it was
                yield
        raise fault.error


def _check_layer(layer: object, kind: type) -> None:
    if not isinstance(layer, kind):
        what = layer.__name__ if isinstance(layer, type) else f"a {type(layer).__name__}"
        raise IdempotencyConfigError(f"layer must be an object of a {kind.__name__}; it is {what}")


class FailingLayer(_Faults, BasePersistenceLayer):
    """A synchronous layer whose operations fail when a test says so, and which counts them.

    ```python
    layer = FailingLayer(MemoryPersistenceLayer())
    layer.fail("update")  # the store is down when the answer is to be stored
    layer.fail("put", call=1, applied=True)  # the first claim gets through, its reply is lost
    assert layer.calls["put"] == 0
    ```

    Args:
        layer: The layer that does the work. Closing this one closes it.

    Attributes:
        calls: How often each operation was called so far, the failed calls included.

    Raises:
        IdempotencyConfigError: It is no layer, or one of the other kind.
    """

    def __init__(self, layer: BasePersistenceLayer) -> None:
        _check_layer(layer, BasePersistenceLayer)
        super().__init__(clock=layer.clock)
        self._layer = layer
        self._start()

    @property
    def reachable_by_others(self) -> bool:  # type: ignore[override]  # not the class knows, but the object
        """Whether another service can stand on the wrapped layer's store."""
        return self._layer.reachable_by_others

    @property
    def blocking(self) -> bool:  # type: ignore[override]  # not the class knows, but the object
        """Whether a call of the wrapped layer may wait."""
        return self._layer.blocking

    @property
    def can_renew(self) -> bool:
        """Whether the wrapped layer can move a lease on."""
        return self._layer.can_renew

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._call("get"):
            return self._layer._get_record(idempotency_key)

    def _put_record(self, data_record: DataRecord) -> None:
        with self._call("put"):
            self._layer._put_record(data_record)

    def _update_record(self, data_record: DataRecord) -> None:
        with self._call("update"):
            self._layer._update_record(data_record)

    def _delete_record(self, data_record: DataRecord) -> None:
        with self._call("delete"):
            self._layer._delete_record(data_record)

    def _renew_record(self, data_record: DataRecord) -> None:
        with self._call("renew"):
            self._layer._renew_record(data_record)

    def _watch_record(self, idempotency_key: str) -> Watch | None:
        return self._layer._watch_record(idempotency_key)

    def close(self) -> None:
        """Close the wrapped layer."""
        self._layer.close()


class AsyncFailingLayer(_Faults, AsyncBasePersistenceLayer):
    """`FailingLayer` for asynchronous layers.

    Args:
        layer: The layer that does the work. Closing this one closes it.

    Attributes:
        calls: How often each operation was called so far, the failed calls included.

    Raises:
        IdempotencyConfigError: It is no layer, or one of the other kind.
    """

    def __init__(self, layer: AsyncBasePersistenceLayer) -> None:
        _check_layer(layer, AsyncBasePersistenceLayer)
        super().__init__(clock=layer.clock)
        self._layer = layer
        self._start()

    @property
    def reachable_by_others(self) -> bool:  # type: ignore[override]  # not the class knows, but the object
        """Whether another service can stand on the wrapped layer's store."""
        return self._layer.reachable_by_others

    @property
    def can_renew(self) -> bool:
        """Whether the wrapped layer can move a lease on."""
        return self._layer.can_renew

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._call("get"):
            return await self._layer._get_record(idempotency_key)

    async def _put_record(self, data_record: DataRecord) -> None:
        with self._call("put"):
            await self._layer._put_record(data_record)

    async def _update_record(self, data_record: DataRecord) -> None:
        with self._call("update"):
            await self._layer._update_record(data_record)

    async def _delete_record(self, data_record: DataRecord) -> None:
        with self._call("delete"):
            await self._layer._delete_record(data_record)

    async def _renew_record(self, data_record: DataRecord) -> None:
        with self._call("renew"):
            await self._layer._renew_record(data_record)

    def _watch_record(self, idempotency_key: str) -> AsyncWatch | None:
        return self._layer._watch_record(idempotency_key)

    async def close(self) -> None:
        """Close the wrapped layer."""
        await self._layer.close()
