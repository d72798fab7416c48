"""`crash_points`: kills a call of an idempotent function at every point, retries it, and looks at what it did."""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from typing import TYPE_CHECKING, Any, Literal

from retrysafe.persistence.memory import MemoryPersistenceLayer
from retrysafe.testing._crash.calls import in_its_own_process, in_this_process
from retrysafe.testing._crash.detour import detours
from retrysafe.testing._crash.trial import Trial
from retrysafe.testing._crash.user_code import code_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.testing._crash.calls import Lived
    from retrysafe.testing._crash.effects import Effects
    from retrysafe.testing._crash.life import AnyLayer
    from retrysafe.testing.clock import ManualClock
    from retrysafe.testing.crash_report import CrashReport


def crash_points(
    func: Callable[..., Any],
    *args: Any,
    effects: Effects,
    before_each: Callable[[], object] | None = None,
    on_kill: Callable[[], object] | None = None,
    steps: Literal["function", "file"] = "function",
    max_points: int = 1000,
    seed: int = 0,
    retries: int = 5,
    processes: bool = False,
    make_layer: Callable[[ManualClock], AnyLayer] | None = None,
    advance: Callable[[float], object] | None = None,
) -> CrashReport:
    """Kill a call at every point, retry it as a client does, and report where its effects double or get lost.

    ```python
    report = crash_points(charge, "order-1", 4200, effects=provider.charges)
    report.raise_for_problems()
    ```

    A call is made for each point: before and after each operation of the store takes effect, before each line of the
    function, and (async) at each wait, as it begins and when it is over. There its process dies. Then the lease is made
    to lapse, the same call is made again until it gets an answer, and once more as a duplicate. The effects of all
    that are compared with those of one undisturbed call, and so are the answers.

    Every idempotent function that is called in the course of it, in this thread and its tasks, keeps its records in a
    store of the test's own; its own layer is not touched. Of an `idempotent_batch` each claim and each outcome is an
    operation by itself, and its answers are those of its items.

    Args:
        func: What a client calls: an idempotent function, a Lambda handler, or whatever calls them; sync or async.
        *args: Its arguments, the same in each call. For keyword arguments, or arguments made anew, pass a lambda.
        effects: The ledger of what was done to the world: a number, a collection with an entry for each effect, or a
            mapping from effects to numbers; or a function that reads it.
        before_each: Called before each point: puts the world back to the start.
        on_kill: Called after each kill: drops what goes with a process's memory, such as buffers and caches.
        steps: "function": the lines of the functions that are called here and of idempotent ones. "file": also those of
            other functions in the same files.
        max_points: How many points are tried at most: of the store's all, or as many as make up a half; of the others
            as many as are left.
        seed: By which they are chosen.
        retries: After how many tries without an answer a client gives up.
        processes: False: a kill is an exception that no `except Exception` stops; `finally` and `with` of the function
            still run. True: each call is made in a forked process that dies by SIGKILL; effects must then be kept
            outside of it, in a file or a database.
        make_layer: Makes a layer on a store without records, to use instead of the one in memory (SQLite, with
            `processes`); a synchronous one serves coroutines too. It gets the clock by which it is to judge leases.
        advance: Lets time pass for that layer, in seconds. Default: moves the clock handed to `make_layer`.

    Returns:
        The report. `report.ok`, `report.problems`, `report.raise_for_problems()`, `str(report)`.

    Raises:
        ValueError: The test would mean nothing: an undisturbed call makes no effect, calls no idempotent function,
            has no answer, or the next such call makes other effects; or an option is wrong.
        TypeError: `effects` can't be counted.
    """
    if steps not in ("function", "file"):
        raise ValueError(f"steps={steps!r}: must be 'function' or 'file'")
    numbers: dict[str, object] = {"max_points": max_points, "retries": retries}
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}={number!r}: must be a whole number from 1")
    drawn_by: object = seed
    if isinstance(drawn_by, bool) or not isinstance(drawn_by, int):
        raise ValueError(f"seed={drawn_by!r}: must be a whole number")  # noqa: TRY004  # as of any wrong option
    functions = {
        "before_each": before_each,
        "on_kill": on_kill,
        "make_layer": make_layer,
        "advance": advance,
        "effects": effects if callable(effects) else None,
    }
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise ValueError(f"{name}={function!r}: must be callable")
        if inspect.iscoroutinefunction(function):
            raise ValueError(f"{name}={function!r}: must be a plain function; nothing would await it")
    if processes and not hasattr(os, "fork"):
        raise ValueError("processes=True needs os.fork, which this system does not have")
    with detours(), tempfile.TemporaryDirectory(prefix="retrysafe-") as directory:
        trial = Trial(
            functools.partial(_live, processes, func, args, steps == "file"),
            effects,
            before_each or _nothing,
            on_kill or _nothing,
            retries,
            make_layer or (functools.partial(_sqlite_layer, directory) if processes else _memory_layer),
            advance,
        )
        return trial.report(_name(func), max_points, seed)


def _live(
    processes: bool,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    whole_file: bool,
    layer: AnyLayer,
    kill_at: int | None,
) -> Lived:
    call = in_its_own_process if processes else in_this_process
    return call(layer, func, args, {"kill_at": kill_at, "whole_file": whole_file})


def _name(func: Callable[..., Any]) -> str:
    code = code_of(func)
    if code is None:
        return repr(func)
    return f"the lambda in line {code.co_firstlineno}" if code.co_name == "<lambda>" else code.co_qualname


def _memory_layer(clock: ManualClock) -> AnyLayer:
    return MemoryPersistenceLayer(clock=clock)


def _sqlite_layer(directory: str, clock: ManualClock) -> AnyLayer:
    """A store that outlives processes; of their death nothing is lost that waits for no disk."""
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer  # noqa: PLC0415  # for `processes` alone

    file, path = tempfile.mkstemp(suffix=".db", dir=directory)
    os.close(file)
    return SQLitePersistenceLayer(path, synchronous="off", clock=clock)


def _nothing() -> None:
    """What is done where nothing is asked for."""
