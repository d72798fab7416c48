"""Calls of a synchronous client side by side, in threads, for stores that take one record in a request."""

from __future__ import annotations

import contextlib
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from retrysafe.locks import new_lock
from retrysafe.persistence.many import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor


class _Work:
    """A function for many arguments, each taken once, by whichever thread comes first."""

    __slots__ = ("_coming", "_function", "_handed", "_told")

    def __init__(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> None:
        self._function = function
        self._coming = enumerate(arguments)
        self._handed: deque[tuple[int, Any]] = deque()
        self._told: dict[int, Any] = {}

    def handed_out(self) -> Iterator[None]:
        """Let one more be taken with each step."""
        for each in self._coming:
            self._handed.append(each)
            yield

    def take_one(self) -> bool:
        """Carry out the next one; False where none is left."""
        try:
            number, argument = self._handed.popleft()
        except IndexError:
            return False
        self._told[number] = outcome(self._function, argument)
        return True

    def finish(self) -> None:
        """Carry out what nobody has taken."""
        self._handed.extend(self._coming)
        while self.take_one():
            pass

    def outcomes(self) -> list[Any]:
        """What came of each, in order."""
        return [self._told[number] for number in range(len(self._told))]


class Threads:
    """Threads that are started when they are needed first, and stay.

    Args:
        most: How many calls are under way at the same time.
    """

    __slots__ = ("_executor", "_most", "_starting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._executor: ThreadPoolExecutor | None = None
        self._starting = new_lock()

    def outcomes(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """What the function gives for each argument, or the exception that it raises; in order.

        An interruption goes through when what is under way has ended: what its caller does next, such as to release a
        claim, is not overtaken by it.
        """
        if len(arguments) == 1:
            return [outcome(function, arguments[0])]
        work = _Work(function, arguments)
        started: list[Future[Any]] = []
        try:
            if not self._start(work, started):
                self._end()
                work.finish()
            for future in started:
                future.result()
        except BaseException:
            for future in started:
                future.cancel()
            for future in started:
                while not future.done():
                    with contextlib.suppress(BaseException):
                        future.result()
            raise
        return work.outcomes()

    def _start(self, work: _Work, started: list[Future[Any]]) -> bool:
        """Hand the work out; False where no thread is to be had, as in what goes on after the main thread's end."""
        with self._starting:  # what is handed to the threads is carried out, also if they are closed meanwhile
            executor = self._started()
            for _ in work.handed_out():
                try:
                    # In the caller's context, by which tracing knows to what a request belongs.
                    started.append(executor.submit(copy_context().run, work.take_one))
                except RuntimeError:  # the executor may keep it all the same
                    return False
        return True

    def close(self) -> None:
        """Let the threads end when they have nothing more to do. A later call starts others."""
        self._end(wait=False)

    def _end(self, *, wait: bool = True) -> None:
        with self._starting:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait)

    def _started(self) -> ThreadPoolExecutor:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # needed by batches alone

            self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="retrysafe")
        return self._executor
