"""One read for many who ask for the same at the same time, as all do who were told of one change.

A read may be shared only by those who asked before it was sent, since what it finds may be older than a later question.
So the first who asks reads, and all who ask meanwhile share the read after that.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from retrysafe.locks import new_lock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# Seconds. Whoever was to read for others may have been interrupted at a moment at which nothing could tell them.
PATIENCE = 5.0


class _Turn(Generic[T]):
    """One read that is to be made, or is under way.

    Attributes:
        after: The read that must be over before.
        begun: Whether it may have been sent, so that nobody else may share it.
        done: Set when it is over.
        answers: What it found, or
        error: what it raised; neither where it was interrupted.
    """

    __slots__ = ("after", "answers", "begun", "done", "error")

    def __init__(self, after: _Turn[T] | None) -> None:
        self.after = after
        self.begun = False
        self.done = threading.Event()
        self.answers: list[T] = []
        self.error: Exception | None = None


class SharedReads(Generic[T]):
    """Shares reads among threads. What a read raises is raised to all who share it.

    Args:
        read: Reads what stands under a key.
    """

    def __init__(self, read: Callable[[str], T]) -> None:
        self._read = read
        self._lock = new_lock()
        self._last: dict[str, _Turn[T]] = {}

    def read(self, key: str) -> T:
        """What stands under the key."""
        while True:
            with self._lock:
                last = self._last.get(key)
                if last is None or last.begun:
                    turn = self._last[key] = _Turn(last)
                    break
            last.done.wait(PATIENCE)
            if last.answers:
                return last.answers[0]
            if last.error is not None:
                try:
                    raise last.error
                finally:
                    del last  # else the error, its traceback and this frame would hold each other
            self._forget(key, last)
        return self._take(key, turn)

    def _take(self, key: str, turn: _Turn[T]) -> T:
        try:
            if turn.after is not None:
                turn.after.done.wait(PATIENCE)
                turn.after = None
            turn.begun = True
            answer = self._read(key)
            turn.answers.append(answer)
        except Exception as error:
            turn.error = error
            raise
        finally:
            self._forget(key, turn)
            turn.done.set()
        return answer

    def _forget(self, key: str, turn: _Turn[T]) -> None:
        with self._lock:
            if self._last.get(key) is turn:
                del self._last[key]


class AsyncSharedReads(Generic[T]):
    """Shares reads among the tasks of an event loop. Each has a task of its own, so that nobody's cancellation ends it.

    Args:
        read: Reads what stands under a key.
    """

    def __init__(self, read: Callable[[str], Awaitable[T]]) -> None:
        self._read = read
        self._last: dict[str, _AsyncTurn[T]] = {}

    async def read(self, key: str) -> T:
        """What stands under the key."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; synchronous callers do without

        loop = asyncio.get_running_loop()
        turn = self._last.get(key)
        if turn is not None and turn.loop is not loop:
            turn = None
        if turn is None or turn.begun:
            before = None if turn is None else turn.task
            turn = self._last[key] = _AsyncTurn(loop)
            turn.task = loop.create_task(self._take(key, turn, before))
            turn.task.add_done_callback(_look_at)
        assert turn.task is not None  # noqa: S101  # for the type checkers
        return await asyncio.shield(turn.task)

    async def _take(self, key: str, turn: _AsyncTurn[T], before: asyncio.Task[T] | None) -> T:
        import asyncio  # noqa: PLC0415  # see above

        try:
            if before is not None:
                await asyncio.wait((before,))
            turn.begun = True
            return await self._read(key)
        finally:
            if self._last.get(key) is turn:
                self._last.pop(key, None)  # another loop's thread may have been faster


def _look_at(task: asyncio.Task[Any]) -> None:
    """Else asyncio would report an error as overlooked where all who asked have been cancelled."""
    if not task.cancelled():
        task.exception()


class _AsyncTurn(Generic[T]):
    """One read that is to be made, or is under way; see `_Turn`."""

    __slots__ = ("begun", "loop", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.begun = False
        self.task: asyncio.Task[T] | None = None
