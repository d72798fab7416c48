"""Interruptions of a synchronous client: no connection stays behind on which a reply is still to come.

A signal handler may raise between a command and its reply: Ctrl-C, or a task queue's time limit. redis-py and valkey-py
close the connection where that happens while they read, and put it back into their pool as it is where it happens just
before. Whoever takes it next reads the reply that is left: what stands under a stranger's key, or that a claim got
through which did not. The connection cannot be told from the others in the pool, so all that are idle there are closed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_LIBRARIES: Final = frozenset({"redis", "valkey"})


def unbroken(client: Any, send: Callable[..., T], *words: Any) -> T:
    """What `send(*words)` gives, by this client; where it is interrupted, its idle connections are closed."""
    try:
        return send(*words)
    except BaseException as error:
        close_if_interrupted(client, error)
        raise


def close_if_interrupted(client: Any, error: BaseException) -> None:
    """Close the idle connections, unless the library itself raised this: it has read the reply, or closed its own.

    Close them also where the error says that the server takes no writes any more.
    """
    if type(error).__module__.partition(".")[0] in _LIBRARIES and not is_demoted(error):
        return
    with contextlib.suppress(AttributeError):  # made like these libraries' clients, but for its connections
        for each in _nodes(client):
            own = getattr(each, "connection", None)  # of a client that has a single one
            if own is not None:
                own.disconnect()
            _close_idle(each.connection_pool)


async def close_if_demoted(client: Any, error: BaseException) -> None:
    """The same for an asynchronous client, which closes by itself what is interrupted."""
    if not is_demoted(error):
        return
    with contextlib.suppress(Exception):
        if getattr(client, "connection", None) is not None:
            await client.connection.disconnect()
        await client.connection_pool.disconnect(inuse_connections=False)


def is_demoted(error: BaseException) -> bool:
    """Whether the server says that it takes no writes any more."""
    return type(error).__name__ == "ReadOnlyError" or "READONLY" in str(error)


def _nodes(client: Any) -> Iterator[Any]:
    """The client, or those of a cluster's nodes."""
    if not hasattr(client, "get_nodes"):
        yield client
        return
    for node in client.get_nodes():
        connected = getattr(node, "redis_connection", None) or getattr(node, "valkey_connection", None)
        if connected is not None:
            yield connected


def _close_idle(pool: Any) -> None:
    waiting = getattr(pool, "pool", None)
    if waiting is None:
        pool.disconnect(inuse_connections=False)
        return
    from queue import Empty, Full  # noqa: PLC0415  # loaded by now, with the pool

    # A pool that blocks would close other threads' too. Each is taken out, so that none of them gets it meanwhile.
    taken: list[Any] = []
    try:
        with contextlib.suppress(Empty):
            while True:
                taken.append(waiting.get_nowait())
                if taken[-1] is not None:
                    taken[-1].disconnect()
    finally:
        with contextlib.suppress(Full):
            while taken:
                waiting.put_nowait(taken.pop())
