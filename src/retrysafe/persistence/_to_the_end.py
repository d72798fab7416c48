"""Requests that end before their caller is told that it was cancelled: what it does next does not overtake them.

A claim that is given up under way may still be carried out: by a client that goes on with it, or by a service that has
it already. Its release, on another connection, could come first, and the key would be held until the lease is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Answered(asyncio.Future[Any]):
    """A reply to come. It cannot be given up: a task that is cancelled meanwhile is told so once the reply is there."""

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  # asyncio's signature
        return False

    def answer(self, reply: Any) -> None:
        """Give it, or raise it."""
        if isinstance(reply, BaseException):
            self.set_exception(reply)
            self.exception()  # looked at, so that asyncio does not report it where the caller has gone
        else:
            self.set_result(reply)

    def end_as(self, task: asyncio.Task[Any]) -> None:
        """Give what the task gave, or raise what it raised."""
        error = error_of(task)
        self.answer(task.result() if error is None else error)


async def to_the_end(request: Coroutine[Any, Any, T]) -> T:
    """What the request gives; a caller that is cancelled meanwhile is told so once the request has ended."""
    loop = asyncio.get_running_loop()
    answered = Answered(loop=loop)
    task = loop.create_task(request)
    task.add_done_callback(answered.end_as)
    try:
        reply: T = await answered
    finally:
        del answered, task  # else they, their error, its traceback and this frame would hold each other
    return reply


def error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What ended the task; None where it has a result."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
