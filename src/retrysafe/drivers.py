"""The two drivers: they carry out the protocol's wishes, once synchronously and once asynchronously.

`run` with `SyncPorts` and `run_async` with `AsyncPorts` are all the difference there is between a sync call and an
async one. A block, which has no function to run, steps with `drive` and `drive_async` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.owed import interrupted
from retrysafe.ports import ASYNC_PORTS, SYNC_PORTS, AsyncPorts, SyncPorts
from retrysafe.protocol import idempotent_call, known_answer
from retrysafe.running import invoke, invoke_async
from retrysafe.wishes import Ending, Flow, Invoke, Op, Raised, Returned

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
    end = known_answer(call)
    if end is None:
        flow = idempotent_call(call)
        ports = SyncPorts(store)
        op: Op[Any] | None = None
        answer: Any = None
        try:
            while True:
                op = flow.send(answer)
                if type(op) is Invoke:
                    if ports.watch is not None:
                        ports.unwatch()
                    answer = invoke(op, store, function, args, kwargs)
                else:
                    answer = SYNC_PORTS[type(op)](ports, op)
        except StopIteration as stop:  # the ports let nothing pass, so it is the flow that is over
            end = stop.value
            answer = None  # it may have the error that is raised now; see `conclude`
        except BaseException:  # a signal struck between two wishes, or a listener raised more than an Exception
            drive(interrupted(call, op, answer), ports)
            raise
        finally:
            if ports.watch is not None:
                ports.unwatch()
    return end.value if type(end) is Returned else conclude(end)


def drive(flow: Flow[Any], ports: SyncPorts, answer: Any = None, call: Call | None = None) -> Any:
    """Carry out the flow's wishes until it wants the work done (`Invoke`) or has ended (`Ending`): for a block.

    Args:
        flow: The flow.
        ports: What carries them out.
        answer: What the last wish is answered.
        call: The call whose flow it is, to do what is owed to the store if it is torn apart before the work.
    """
    op: Op[Any] | None = None
    try:
        while True:
            op = flow.send(answer)
            if type(op) is Invoke:
                return op
            answer = SYNC_PORTS[type(op)](ports, op)
    except StopIteration as stop:  # the ports let nothing pass, so it is the flow that is over
        return stop.value
    except BaseException:  # as in `run`
        if call is not None:
            drive(interrupted(call, op, answer), ports)
        raise
    finally:
        if ports.watch is not None:
            ports.unwatch()


def conclude(end: Ending) -> Any:
    """Return the answer, or raise the error."""
    if type(end) is Returned:
        return end.value
    error = end.taken()  # type: ignore[union-attr]  # the other ending
    try:
        raise error
    finally:
        del error  # else it, its traceback and this frame would hold each other


# --- the asynchronous driver --------------------------------------------------------------------------------------


async def run_async(
    call: Call,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Awaitable[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Carry one call out: its answer, or its error raised."""
    step: Any = known_answer(call)
    if step is None:
        flow = idempotent_call(call)
        ports = AsyncPorts(store)
        op = step = await drive_async(flow, ports, call=call)
        try:
            if type(step) is Invoke:
                step = await invoke_async(op, store, function, args, kwargs)
                ports.interrupted = isinstance(step, Raised) and not isinstance(step.error, Exception)
                step = await drive_async(flow, ports, step)
        except GeneratorExit:
            raise  # as in `drive_async`
        except BaseException:  # as in `run`
            await drive_async(interrupted(call, op, step), ports)
            raise
    return conclude(step)


async def drive_async(flow: Flow[Any], ports: AsyncPorts, answer: Any = None, call: Call | None = None) -> Any:
    """`drive`, awaiting each wish."""
    op: Op[Any] | None = None
    try:
        while True:
            op = flow.send(answer)
            if type(op) is Invoke:
                return op
            answer = await ASYNC_PORTS[type(op)](ports, op)
    except StopIteration as stop:
        return stop.value
    except GeneratorExit:
        raise  # nothing may be awaited any more; the key is free when the lease ends
    except BaseException:  # as in `run`
        if call is not None:
            await drive_async(interrupted(call, op, answer), ports)
        raise
    finally:
        if ports.watch is not None:
            ports.unwatch()
