"""Commands that tasks give in the same turn of the event loop, sent as one pipeline.

A command by itself costs a client a write, a read and two turns of the loop; a pipeline of fifty costs the same once.
A command that comes while none is under way is sent at once, so nobody waits for company.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from retrysafe.persistence._to_the_end import Answered, error_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from retrysafe.persistence._cache.commands import Command

MOST_AT_ONCE: Final = 64
"""How many commands a pipeline has at most, so that its first reply is not kept waiting by too many others."""

LARGEST: Final = 16_384
"""Characters. A command with more goes by itself, as it would hold up the others."""


class Gathering:
    """Carries out commands, alone or together.

    Args:
        alone: Carries out one.
        together: Carries out several on one connection; the reply or the exception of each.
    """

    __slots__ = ("_alone", "_tasks", "_together", "_under_way", "_waiting")

    def __init__(
        self,
        alone: Callable[[Command], Awaitable[Any]],
        together: Callable[[list[Command]], Coroutine[Any, Any, list[Any]]],
    ) -> None:
        self._alone = alone
        self._together = together
        self._under_way = 0
        self._waiting: list[tuple[Command, Answered]] = []
        self._tasks: set[asyncio.Task[list[Any]]] = set()

    async def run(self, command: Command) -> Any:
        """The reply to a command.

        A caller whose command goes with others gets away only once that has been answered, though it is cancelled: they
        share its connection, and what it does next, such as to release its claim, is not overtaken by it.
        """
        if not self._under_way or (command.arguments and len(command.arguments[0]) > LARGEST):
            self._under_way += 1
            try:
                return await self._alone(command)
            finally:
                self._under_way -= 1
        loop = asyncio.get_running_loop()
        answered = Answered(loop=loop)
        self._waiting.append((command, answered))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        elif len(self._waiting) == MOST_AT_ONCE:
            self._send()
        return await answered

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        self._under_way += 1
        task = asyncio.get_running_loop().create_task(self._together([command for command, _ in batch]))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._hand_out(batch, done))

    def _hand_out(self, batch: list[tuple[Command, Answered]], task: asyncio.Task[list[Any]]) -> None:
        """Answer all, also where a loop that shuts down has cancelled the task before it began."""
        self._under_way -= 1
        self._tasks.discard(task)
        error = error_of(task)
        replies = task.result() if error is None else [error] * len(batch)
        for (_, answered), reply in zip(batch, replies, strict=True):
            answered.answer(reply)
