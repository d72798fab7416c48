"""Calls of a synchronous client side by side, in threads, for stores that take one record in a request."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from retrysafe.locks import new_lock
from retrysafe.persistence.many import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor


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
        started: list[Future[Any]] = []
        try:
            with self._starting:  # what is handed to the threads is carried out, also if they are closed meanwhile
                executor = self._started()
                started.extend(executor.submit(outcome, function, argument) for argument in arguments)
            return [future.result() for future in started]
        except BaseException:
            for future in started:
                future.cancel()
            for future in started:
                while not future.done():
                    with contextlib.suppress(BaseException):
                        future.result()
            raise

    def close(self) -> None:
        """Let the threads end when they have nothing more to do. A later call starts others."""
        with self._starting:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _started(self) -> ThreadPoolExecutor:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # needed by batches alone

            self._executor = ThreadPoolExecutor(self._most, thread_name_prefix="retrysafe")
        return self._executor
