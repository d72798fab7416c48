"""The detour: while a crash test runs, calls of idempotent functions in it keep their records in the test's own store.

It is laid by exchanging what the front doors call, so that nothing for tests stands in the way of a call. A context
variable says who takes it; calls in other threads and tasks go their usual way.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from retrysafe import block
from retrysafe.drivers import run, run_async
from retrysafe.events import DEBUG, Listener
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.plan import checked_layer, plan_on
from retrysafe.testing._crash_layers import AsyncLifeLayer, LifeLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from retrysafe.call import Call
    from retrysafe.events import IdempotencyEvent
    from retrysafe.persistence.base import BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._crash_life import AnyLayer, Life

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
    was, moved = call.plan, copy(call)
    moved.plan = plan_on(layer, was.function_name, was.key_prefix, was.config, was.codec)
    moved.plan.listener = _LifeListener(current, was.function_name, was.config.event_hook)
    return moved


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
}
_lock = threading.Lock()
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
