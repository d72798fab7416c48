"""Pools of connections that no interruption can lock.

A signal handler may raise anywhere in a request: Ctrl-C, or a task queue's time limit. urllib3 keeps connections in a
queue that takes its lock in Python code. Where that is interrupted after the taking, and before the block that lets go,
nobody ever does, and all later requests of the client wait for it. boto3 waits for no connection, so it needs no lock.
"""

from __future__ import annotations

import contextlib
from collections import deque
from queue import Empty, Full
from typing import Any


class Connections:
    """What urllib3 asks of a queue that nobody waits for: the last one put in comes out first. Each step is one in C.

    Args:
        maxsize: How many it holds.
    """

    def __init__(self, maxsize: int) -> None:
        self._held: deque[Any] = deque()
        self._maxsize = maxsize

    def put(self, connection: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002  # urllib3's
        """Keep it, or raise `Full`."""
        if len(self._held) >= self._maxsize:
            raise Full
        self._held.append(connection)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002  # urllib3's
        """The last one, or raise `Empty`."""
        try:
            return self._held.pop()
        except IndexError:
            raise Empty from None

    def qsize(self) -> int:
        """How many there are."""
        return len(self._held)


def keep_unlocked(client: Any) -> None:
    """Let the client of boto3 keep the connections in such queues that it opens from now on."""
    with contextlib.suppress(AttributeError):  # it only stands in for one
        session = client._endpoint.http_session
        session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"QueueCls": Connections})
            for scheme, pool in session._pool_classes_by_scheme.items()
        }
