"""Sync and async from one source: how coroutines are run for a layer of either kind.

A check is a coroutine. Over an asynchronous layer it runs in an event loop. Over a synchronous one nothing in it ever
waits, so it runs plainly, without a loop, and several at once run in threads.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

T = TypeVar("T")

STUCK_SECONDS = 60.0
"""After so long, rivals that have not answered count as stuck."""


class StuckError(Exception):
    """Some rivals did not come back."""


async def settled(value: Any) -> Any:
    """The value, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value


def plainly(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, without an event loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    work.close()
    raise RuntimeError("a synchronous layer's check had to wait for an event loop, and there is none")


def in_threads(rivals: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """Run each in a thread of its own, all let go at the same moment; their answers in order.

    Raises:
        StuckError: Some did not come back.
        Exception: What the first of them raised.
    """
    start = threading.Barrier(len(rivals), timeout=STUCK_SECONDS)
    answers: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait()
            answers[number] = plainly(rivals[number]())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits for the threads
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(rivals))]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds; so that threads also take turns in the middle of a layer's own code
    try:
        for thread in threads:
            thread.start()
        give_up = time.monotonic() + STUCK_SECONDS
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))
    finally:
        sys.setswitchinterval(usual)
    if errors:
        raise errors[0]
    if len(answers) < len(rivals):
        raise StuckError
    return [answers[number] for number in range(len(rivals))]


async def in_tasks(rivals: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """Run each in a task of its own; their answers in order.

    Raises:
        StuckError: Some did not come back.
        Exception: What the first of them raised.
    """
    try:
        return list(await asyncio.wait_for(asyncio.gather(*(rival() for rival in rivals)), STUCK_SECONDS))
    except TimeoutError as error:
        raise StuckError from error
