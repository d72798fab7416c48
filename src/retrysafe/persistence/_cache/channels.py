"""A connection of our own that hears what the server tells, beside any client of redis-py or valkey-py.

It is made as the client's own connections are, to the same server; to the master where Sentinel names it, and to any
node of a cluster, as all of them tell. It takes nothing from the client's pool, which may be small. valkey-glide can
subscribe too, but doesn't say when it has lost its connection for a while: nobody could be sure to be told.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from retrysafe.persistence._cache.watched import channel_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LIBRARIES = ("redis", "valkey")

# What redis-py's pools tell their own connections about themselves.
_OF_THE_POOL = ("maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler")


def can_open(client: Any) -> bool:
    """Whether a connection can be opened beside this client."""
    return _library(client) is not None


class Channel:
    """What the server tells, for one thread.

    Args:
        client: A synchronous client of redis-py or valkey-py. It is left as it is.

    Raises:
        Exception: What the client's library raises, here and in each method; close the channel then.
    """

    def __init__(self, client: Any) -> None:
        library = _library(client) or ""
        retries = importlib.import_module(f"{library}.retry")
        no_backoff = importlib.import_module(f"{library}.backoff").NoBackoff

        class Once(retries.Retry):  # type: ignore[misc, name-defined]  # a class of either library
            """A connection that is lost is not silently made again: those who wait have to know."""

            def call_with_retry(self, do: Any, *_: Any, **__: Any) -> Any:
                return do()

        connection = importlib.import_module(f"{library}.connection")
        self._pool = connection.ConnectionPool(**_options(client, Once(no_backoff(), 0)))
        self._pubsub = importlib.import_module(f"{library}.client").PubSub(self._pool)

    def subscribe(self, keys: Iterable[str]) -> None:
        """Ask to be told of these keys; it counts when the server has confirmed it."""
        self._pubsub.subscribe(*map(channel_of, keys))

    def unsubscribe(self, keys: Iterable[str]) -> None:
        """Ask not to be told any more."""
        self._pubsub.unsubscribe(*map(channel_of, keys))

    def ping(self) -> None:
        """Ask for a sign of life, which is a message too."""
        self._pubsub.ping()

    def read(self, seconds: float) -> Mapping[str, Any] | None:
        """The next message; None where none has come for so long."""
        message: Mapping[str, Any] | None = self._pubsub.get_message(timeout=seconds)
        return message

    def close(self) -> None:
        """Close the connection."""
        try:
            self._pubsub.close()
        finally:
            self._pool.disconnect()


class AsyncChannel:
    """`Channel` for one task: the same, awaited.

    Args:
        client: An asyncio client of redis-py or valkey-py.
    """

    def __init__(self, client: Any) -> None:
        library = _library(client) or ""
        retries = importlib.import_module(f"{library}.asyncio.retry")
        no_backoff = importlib.import_module(f"{library}.backoff").NoBackoff

        class Once(retries.Retry):  # type: ignore[misc, name-defined]  # a class of either library
            """See `Channel`."""

            async def call_with_retry(self, do: Any, *_: Any, **__: Any) -> Any:
                return await do()

        connection = importlib.import_module(f"{library}.asyncio.connection")
        self._pool = connection.ConnectionPool(**_options(client, Once(no_backoff(), 0)))
        self._pubsub = importlib.import_module(f"{library}.asyncio.client").PubSub(self._pool)

    async def subscribe(self, keys: Iterable[str]) -> None:
        """See `Channel.subscribe`."""
        await self._pubsub.subscribe(*map(channel_of, keys))

    async def unsubscribe(self, keys: Iterable[str]) -> None:
        """See `Channel.unsubscribe`."""
        await self._pubsub.unsubscribe(*map(channel_of, keys))

    async def ping(self) -> None:
        """See `Channel.ping`."""
        await self._pubsub.ping()

    async def read(self, seconds: float) -> Mapping[str, Any] | None:
        """See `Channel.read`."""
        message: Mapping[str, Any] | None = await self._pubsub.get_message(timeout=seconds)
        return message

    async def close(self) -> None:
        """See `Channel.close`."""
        try:
            await self._pubsub.aclose()
        finally:
            await self._pool.disconnect()


def _library(client: Any) -> str | None:
    for cls in type(client).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in _LIBRARIES:
            return name
    return None


def _options(client: Any, retry: Any) -> dict[str, Any]:
    """How the client makes its connections, as a pool of another one takes it."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        node = client.get_random_node()
        client_of = getattr(client, "get_redis_connection", None) or getattr(client, "get_valkey_connection", None)
        # A synchronous cluster's node has a client with a pool; an asynchronous one is its own pool.
        pool = node if client_of is None else client_of(node).connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _OF_THE_POOL}
    # Its own ping is read as any other message, and retrying would hide that the connection was lost.
    return options | {
        "connection_class": pool.connection_class,
        "retry": retry,
        "health_check_interval": 0,
        "decode_responses": False,
    }
