"""The detour: while a crash test runs, calls of idempotent functions in it keep their records in the test's own store.

It is laid by exchanging what the front doors call, so that nothing for tests stands in the way of a call. A context
variable says who takes it; calls in other threads and tasks go their usual way.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from retrysafe import block
from retrysafe._batch.drivers import BatchRun
from retrysafe._batch.drivers_async import AsyncBatchRun
from retrysafe._batch.state import Batch
from retrysafe.checks import checked_layer
from retrysafe.drivers import run, run_async
from retrysafe.events import DEBUG, Listener
from retrysafe.locks import new_lock
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.plan import plan_on
from retrysafe.testing._crash.layers import AsyncLifeLayer, LifeLayer
from retrysafe.testing._crash.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from retrysafe._batch.item import Item
    from retrysafe.call import Call
    from retrysafe.events import IdempotencyEvent
    from retrysafe.persistence.base import BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.plan import Plan
    from retrysafe.testing._crash.life import AnyLayer, Life

life: ContextVar[Life | None] = ContextVar("retrysafe_life", default=None)
"""The life that the running thread or task belongs to."""


class _LifeListener(Listener):
    """Events for the user's hook, until the process is dead; no warnings in the log, as takeovers are the rule here."""

    __slots__ = ("_life",)

    def __init__(self, current: Life, function_name: str, hook: Any) -> None:
        super().__init__(function_name, hook)
        self._life = current

    def hears(self, level: int = DEBUG) -> bool:  # noqa: ARG002  # as in Listener
        return self._life.killed is None and super().hears(DEBUG)

    def tell(self, kind: type[IdempotencyEvent], record: DataRecord, level: int, **details: Any) -> None:  # noqa: ARG002  # as in Listener
        super().tell(kind, record, DEBUG, **details)


def _moved(call: Call, layer: AnyLayer, current: Life) -> Call:
    """The call as it would be, had its function been decorated with this layer."""
    moved = copy(call)
    moved.plan = _moved_plan(call.plan, layer, current)
    return moved


def _moved_plan(was: Plan, layer: AnyLayer, current: Life) -> Plan:
    plan = plan_on(layer, was.function_name, was.key_prefix, was.config, was.codec)
    plan.listener = _LifeListener(current, was.function_name, was.config.event_hook)
    return plan


def _counted(function: Callable[..., Any], current: Life) -> Callable[..., Any]:
    current.meet(function)

    def begun(*args: Any, **kwargs: Any) -> Any:
        current.runs += 1
        return function(*args, **kwargs)

    return begun


def _run(
    call: Call,
    store: BasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    current = life.get()
    if current is None:
        return run(call, store, function, args, kwargs)
    layer = LifeLayer(current)
    return run(_moved(call, layer, current), layer, _counted(function, current), args, kwargs)


async def _run_async(
    call: Call,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    current = life.get()
    if current is None:
        return await run_async(call, store, function, args, kwargs)
    layer = AsyncLifeLayer(current)
    return await run_async(_moved(call, layer, current), layer, _counted(function, current), args, kwargs)


# --- batches ------------------------------------------------------------------------------------------------------

# In seconds: outcomes wait for those of the whole group. When the heartbeat comes for them, no run repeats.
_NOT_MEANWHILE: Final = 86_400.0


def _batch(items: Sequence[Item], **options: Any) -> Batch:
    current = life.get()
    calls = [item.call for item in items if item.call is not None]
    if current is not None and calls:
        # What is decided of a layer in advance is the same of both kinds; the run brings the one that is used.
        plan = _moved_plan(calls[0].plan, AsyncLifeLayer(current), current)
        for call in calls:
            call.plan = plan
    return Batch(items, **options)


def _batch_run(
    batch: Batch,
    store: BasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    record_after_seconds: float,
) -> BatchRun:
    current = life.get()
    if current is not None:
        store, function = LifeLayer(current), _counted(function, current)
        record_after_seconds = record_after_seconds and _NOT_MEANWHILE
    return BatchRun(batch, store, function, args, kwargs, record_after_seconds=record_after_seconds)


def _async_batch_run(
    batch: Batch,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    record_after_seconds: float,
    concurrency: int,
) -> AsyncBatchRun:
    current = life.get()
    if current is not None:
        store, function = AsyncLifeLayer(current), _in_steps(_counted(function, current), current)
        record_after_seconds = record_after_seconds and _NOT_MEANWHILE
    return AsyncBatchRun(
        batch, store, function, args, kwargs, record_after_seconds=record_after_seconds, concurrency=concurrency
    )


def _in_steps(function: Callable[..., Any], current: Life) -> Callable[..., Any]:
    """Each item's function runs in a task of its own, whose waits the caller's awaitable does not show."""

    def begun(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return Steps(result, current) if hasattr(result, "__await__") else result

    return begun


# --- blocks -------------------------------------------------------------------------------------------------------


def _layer_of_block(persistence_store: AnyLayer) -> AnyLayer:
    """What an `idempotent_block` is made on: a layer of the same kind as its own."""
    checked = checked_layer(persistence_store)
    current = life.get()
    if current is None:
        return checked
    return AsyncLifeLayer(current) if isinstance(checked, AsyncBasePersistenceLayer) else LifeLayer(current)


_ROADS: Final[dict[str, tuple[Any, Any]]] = {
    "run": (run, _run),
    "run_async": (run_async, _run_async),
    "Batch": (Batch, _batch),
    "BatchRun": (BatchRun, _batch_run),
    "AsyncBatchRun": (AsyncBatchRun, _async_batch_run),
}
_lock = new_lock()
_users = 0


@contextmanager
def detours() -> Generator[None]:
    """Lay the detour as long as anybody is in here."""
    global _users  # noqa: PLW0603  # tests in several threads share one detour
    with _lock:
        _users += 1
        if _users == 1:
            _exchange(lay=True)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _exchange(lay=False)


def _exchange(*, lay: bool) -> None:
    # In the drivers' own module too, for front doors that are opened while the test runs.
    for name, module in tuple(sys.modules.items()):
        if not name.startswith("retrysafe.") or name == __name__:
            continue
        for road, (usual, detour) in _ROADS.items():
            old, new = (usual, detour) if lay else (detour, usual)
            if vars(module).get(road) is old:
                setattr(module, road, new)
    setattr(block, "checked_layer", _layer_of_block if lay else checked_layer)  # noqa: B010  # that module's import
