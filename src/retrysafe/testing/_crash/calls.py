"""One call of the user's function in one life of a process: in this process, or in a forked one that really dies."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from retrysafe._batch.results import BatchResult, ItemResult
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from retrysafe.testing._crash import detour
from retrysafe.testing._crash.life import Life
from retrysafe.testing._crash.steps import Steps, tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from retrysafe.testing._crash.life import AnyLayer, Phase, Spot


class Ending(NamedTuple):
    """What a caller got: plain values, so that it passes between processes.

    Attributes:
        value: What was returned.
        error: The class of what was raised; "" where something was returned.
        text: What that said.
        retry_after: For how long another call holds the key, in seconds, where that was what it said.
    """

    value: Any = None
    error: str = ""
    text: str = ""
    retry_after: float | None = None

    def same_as(self, other: Ending) -> bool:
        """Whether two callers got the same."""
        if self.error or other.error:
            return (self.error, self.text) == (other.error, other.text)
        try:
            return bool(self.value == other.value)
        except Exception:  # noqa: BLE001  # values that can't be compared, as arrays of numbers can't
            return repr(self.value) == repr(other.value)

    def __str__(self) -> str:
        return f"{self.error}: {self.text}" if self.error else repr(self.value)


class Lived(NamedTuple):
    """How one life went.

    Attributes:
        ending: What the caller got; None where the process died.
        killed: Where it died.
        spots: All points it passed.
        phase: How far its calls had come.
        leases: The ends of the leases that it left behind, in milliseconds; None for one without an end.
        keys: The keys that it claimed or tried to.
        runs: How often an idempotent function was run.
        stopped: Whether a call of it, or an item of a batch, was left to a person, as an earlier run was abandoned.
        ran_on: Whether the user's code ran on after the death.
        error: What was raised, where it was raised in this process.
    """

    ending: Ending | None
    killed: Spot | None
    spots: tuple[Spot, ...]
    phase: Phase
    leases: tuple[int | None, ...]
    keys: tuple[str, ...]
    runs: int
    stopped: bool
    ran_on: bool
    error: Exception | None = None


def in_this_process(
    layer: AnyLayer, func: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Lived:
    """Call the function; its process dies by an exception that no `except Exception` stops.

    Args:
        layer: Where records are kept.
        func: The function.
        args: Its arguments.
        options: Those of `Life`.
    """
    return _live(Life(layer, **options), func, args)


def in_its_own_process(
    layer: AnyLayer, func: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Lived:
    """Call the function in a forked process, which dies by SIGKILL.

    Raises:
        RuntimeError: The process ended without a word.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of forks beside other threads. The child needs none of them, and runs the user's function alone.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(writing, Life(layer, **options, die=lambda life: _die(writing, life)), func, args)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    if not message:
        raise RuntimeError("a process in which the function was called ended without telling how")
    lived: Lived | str = pickle.loads(message)  # noqa: S301  # what our own child has written
    if isinstance(lived, str):
        raise RuntimeError(  # noqa: TRY004  # it is no wrong type, but a traceback
            f"the call could not be made in a process of its own:\n{lived}"
        )
    return lived


def _be_the_child(writing: int, life: Life, func: Callable[..., Any], args: tuple[Any, ...]) -> NoReturn:
    try:
        _send(writing, _live(life, func, args)._replace(error=None))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  # whatever it is must not go on in a copy of the test's process
        _write(writing, pickle.dumps(traceback.format_exc()))
    finally:
        os._exit(0)


def _die(writing: int, life: Life) -> NoReturn:
    _send(writing, _lived(life, None))
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit  # never reached: nothing survives the line above


def _send(writing: int, lived: Lived) -> None:
    try:
        message = pickle.dumps(lived)
        pickle.loads(message)  # noqa: S301  # our own; some classes are written and can't be read
    except Exception:  # noqa: BLE001  # an answer that can't be handed over is known by how it looks
        ending = None if lived.ending is None else lived.ending._replace(value=repr(lived.ending.value))
        message = pickle.dumps(lived._replace(ending=ending))
    _write(writing, message)


def _write(writing: int, message: bytes) -> None:
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(message)


def _live(life: Life, func: Callable[..., Any], args: tuple[Any, ...]) -> Lived:
    life.meet(func)
    ending: Ending | None = None
    raised: Exception | None = None
    token = detour.life.set(life)
    tracing, profiling = sys.gettrace(), sys.getprofile()
    sys.settrace(tracer(life))
    try:
        value = func(*args)
        if hasattr(value, "__await__"):
            value = _awaited(value, life)
        ending = Ending(_shown(value))
    except Exception as error:  # noqa: BLE001  # it is what the caller gets
        raised = error
        ending = _ending_of(error)
    except BaseException as error:
        # Where the process is dead, it is its death, whatever that has become on its way: a group of exceptions, say.
        if life.killed is None or isinstance(error, KeyboardInterrupt):
            raise
    finally:
        sys.settrace(tracing)
        sys.setprofile(profiling)
        detour.life.reset(token)
    return _lived(life, ending, raised)


def _lived(life: Life, ending: Ending | None, raised: Exception | None = None) -> Lived:
    return Lived(
        ending=None if life.killed else ending,
        killed=life.killed,
        spots=tuple(life.spots),
        phase=life.phase,
        leases=tuple(life.leases.values()),
        keys=tuple(life.keys),
        runs=life.runs,
        stopped=bool(life.abandoned),
        ran_on=life.ran_on,
        error=raised,
    )


def _shown(value: Any) -> Any:
    """What was returned, as it is compared: whether an item of a batch ran now or earlier makes no difference."""
    if not isinstance(value, BatchResult):
        return value
    results: list[Any] = [*value]  # pyright: ignore[reportUnknownArgumentType]  # of any items
    return [_shown_item(result) for result in results]


def _shown_item(result: ItemResult[Any, Any]) -> Any:
    if result.ok:
        return result.answer
    return result.status if result.error is None else repr(result.error)


def _ending_of(error: Exception) -> Ending:
    return Ending(
        error=type(error).__qualname__,
        text=str(error),
        retry_after=error.retry_after if isinstance(error, IdempotencyAlreadyInProgressError) else None,
    )


def _awaited(value: Any, life: Life) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        value.close()
        raise RuntimeError(
            "crash_points() runs coroutines in event loops of its own: call it where none is running, in a plain "
            "`def test_...()`"
        )

    def told(loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        if life.killed is None:  # else it is of tasks that died with the process
            loop.default_exception_handler(what)

    def end_tasks() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def alone() -> Any:
        asyncio.get_running_loop().set_exception_handler(told)
        life.on_death = end_tasks
        return await Steps(value, life)

    return asyncio.run(alone())
