"""The two drivers: they carry out the protocol's wishes, once synchronously and once asynchronously.

`drive` with `SyncPorts` and `drive_async` with `AsyncPorts` are all the difference there is between a sync call and
an async one.
"""

from __future__ import annotations

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.execution import Execution, current
from retrysafe.heartbeat import AsyncBeat, Beat
from retrysafe.ports import AsyncPorts, SyncPorts
from retrysafe.protocol import idempotent_call
from retrysafe.wishes import Ending, Flow, Invoke, Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from retrysafe.call import Call
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

# --- the synchronous driver ---------------------------------------------------------------------------------------


def run(
    call: Call,
    store: BasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Carry one call out: its answer, or its error raised."""
    flow = idempotent_call(call)
    ports = SyncPorts(store)
    step = drive(flow, ports)
    if type(step) is Invoke:
        step = drive(flow, ports, invoke(step, store, function, args, kwargs))
    return step.value if type(step) is Returned else conclude(step)


def drive(flow: Flow[Ending], ports: SyncPorts, answer: Any = None) -> Any:
    """Carry out the flow's wishes until it wants the function run (`Invoke`) or has ended (`Ending`)."""
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        if type(op) is Invoke:
            return op
        answer = getattr(ports, op.port)(op)


def conclude(end: Ending) -> Any:
    """Return the answer, or raise the error."""
    if type(end) is Returned:
        return end.value
    try:
        raise end.error  # type: ignore[union-attr]  # the other ending
    finally:
        del end  # else the error, its traceback and this frame would hold each other


class Running(Execution):
    """The run under way: known to `current_execution()`, and kept alive by a heartbeat where the call has one."""

    __slots__ = ("_beat", "_token")

    def __init__(self, op: Invoke, store: BasePersistenceLayer | AsyncBasePersistenceLayer) -> None:
        super().__init__(op.call, op.claim, store)
        self._beat: Beat | AsyncBeat | None = None
        self._token = current.set(self)

    @classmethod
    def start(cls, op: Invoke, store: BasePersistenceLayer) -> Running:
        """Begin a sync run."""
        running = cls(op, store)
        if op.call.lease.renews:
            running._beat = Beat(running, store)
        return running

    @classmethod
    def start_async(cls, op: Invoke, store: AsyncBasePersistenceLayer) -> Running:
        """Begin an async run."""
        running = cls(op, store)
        if op.call.lease.renews:
            running._beat = AsyncBeat(running, store)
        return running

    def stop(self) -> None:
        """The function is over."""
        if self._beat is not None:
            self._beat.stop()
        current.reset(self._token)

    def abandon(self) -> None:
        """The coroutine is being closed, perhaps from another context: only the heartbeat must not go on."""
        if self._beat is not None:
            self._beat.stop()

    def returned(self, value: Any) -> Ending:
        """How it ends with this answer."""
        if type(value) in _UNSTARTED:
            return _refuse_unstarted(self.call, value)
        return Returned(value, self.lease_end_ms)

    def raised(self, error: BaseException) -> Ending:
        """How it ends with this exception."""
        # A durable execution that suspends itself says so by raising past `except Exception`.
        return Raised(error, self.lease_end_ms, suspended=self.call.resumes and not isinstance(error, Exception))


def invoke(
    op: Invoke,
    store: BasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Ending:
    """Run the function, once."""
    running = Running.start(op, store)
    try:
        value = function(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001  # the protocol decides about each
        return running.raised(error)
    finally:
        running.stop()
    return running.returned(value)


_UNSTARTED = frozenset((CoroutineType, GeneratorType, AsyncGeneratorType))


def _refuse_unstarted(call: Call, value: Any) -> Raised:
    """A coroutine or generator as an answer has not run yet, so the key must not count as done."""
    kind: str = type(value).__name__
    if kind != "async_generator":
        value.close()
    return Raised(
        IdempotencyConfigError(f"{call.plan.function_name} returned a {kind}, which has not run yet; nothing is stored")
    )


# --- the asynchronous driver --------------------------------------------------------------------------------------


async def run_async(
    call: Call,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Awaitable[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Carry one call out: its answer, or its error raised."""
    flow = idempotent_call(call)
    ports = AsyncPorts(store)
    step = await drive_async(flow, ports)
    if isinstance(step, Invoke):
        end = await invoke_async(step, store, function, args, kwargs)
        ports.interrupted = isinstance(end, Raised) and not isinstance(end.error, Exception)
        step = await drive_async(flow, ports, end)
    return conclude(step)


async def drive_async(flow: Flow[Ending], ports: AsyncPorts, answer: Any = None) -> Any:
    """`drive`, awaiting each wish."""
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        if type(op) is Invoke:
            return op
        answer = await getattr(ports, op.port)(op)


async def invoke_async(
    op: Invoke,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Awaitable[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Ending:
    """`invoke`, awaiting the function."""
    running = Running.start_async(op, store)
    try:
        value = await function(*args, **kwargs)
    except GeneratorExit:
        running.abandon()  # nothing may be awaited any more; the key is free when the lease ends
        raise
    except BaseException as error:  # noqa: BLE001  # the protocol decides about each
        running.stop()
        return running.raised(error)
    running.stop()
    return running.returned(value)
