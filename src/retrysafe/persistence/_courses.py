"""Courses: what is asked of a store, as a generator that yields questions and is sent the answers.

It does no I/O, so one of them serves the synchronous and the asynchronous callers of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

Q = TypeVar("Q")
T = TypeVar("T")


def carried_out(course: Generator[Q, Any, T], ask: Callable[[Q], Any]) -> T:
    """What the course comes to; what `ask` raises ends it."""
    answer: Any = None
    try:
        while True:
            answer = ask(course.send(answer))
    except StopIteration as stop:
        end: T = stop.value
        return end


async def carried_out_async(course: Generator[Q, Any, T], ask: Callable[[Q], Awaitable[Any]]) -> T:
    """The same, awaiting the answers."""
    answer: Any = None
    try:
        while True:
            answer = await ask(course.send(answer))
    except StopIteration as stop:
        end: T = stop.value
        return end
