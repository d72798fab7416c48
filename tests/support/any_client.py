"""Every kind of cache client in one form: opened on a server, a cluster or a Sentinel set, and closed again."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Protocol

from servers import RedisCluster, RedisSentinel, RedisServer

if TYPE_CHECKING:
    from typing import TypeAlias

    CacheServer: TypeAlias = RedisServer | RedisCluster | RedisSentinel


class Client(Protocol):
    """A kind of client. With an asynchronous one, both methods give what is to be awaited."""

    is_async: bool

    def open(self, server: CacheServer) -> Any: ...
    def close(self, client: Any) -> Any: ...


class RedisPy:
    """redis-py, and valkey-py, which is made of it.

    Args:
        library: "redis" or "valkey".
        asynchronous: The twin for asyncio.
        options: Of the client, such as decode_responses.
    """

    def __init__(self, library: str = "redis", *, asynchronous: bool = False, **options: Any) -> None:
        self.is_async = asynchronous
        self._module = f"{library}.asyncio" if asynchronous else library
        self._name = library.capitalize()
        self._options = options

    def open(self, server: CacheServer) -> Any:
        return self._awaited(server) if self.is_async else self.opened(server)

    async def _awaited(self, server: CacheServer) -> Any:
        return self.opened(server)

    def opened(self, server: CacheServer) -> Any:
        """A client of either kind, where nothing is to be awaited."""
        module = importlib.import_module(self._module)
        if isinstance(server, RedisCluster):
            first = server.nodes[0]
            return getattr(module, f"{self._name}Cluster")(host=first.host, port=first.port, **self._options)
        if isinstance(server, RedisSentinel):
            return module.Sentinel(server.addresses, **self._options).master_for(server.name)
        return getattr(module, self._name)(host=server.host, port=server.port, **self._options)

    def close(self, client: Any) -> Any:
        if self.is_async:
            return _all(each.aclose() for each in parts(client))
        for each in parts(client):
            each.close()
        return None


class Glide:
    """valkey-glide-sync, or valkey-glide.

    Args:
        asynchronous: The latter.
    """

    def __init__(self, *, asynchronous: bool = False) -> None:
        self.is_async = asynchronous
        self._module = "glide" if asynchronous else "glide_sync"

    def open(self, server: CacheServer) -> Any:
        glide = importlib.import_module(self._module)
        kind = "GlideCluster" if isinstance(server, RedisCluster) else "Glide"
        first = server.nodes[0] if isinstance(server, RedisCluster) else server
        # Its own limit of 250 ms is soon reached where 32 threads share a machine with the server.
        settings = getattr(glide, f"{kind}ClientConfiguration")(
            [glide.NodeAddress(first.host, first.port)], request_timeout=10_000
        )
        return getattr(glide, f"{kind}Client").create(settings)

    def close(self, client: Any) -> Any:
        return client.close()


class Least:
    """Of another client no more than `get`, `set` and `delete`, as its library names their arguments.

    Args:
        client: The other client.
    """

    def __init__(self, client: Client) -> None:
        self.is_async = client.is_async
        self._client = client

    def open(self, server: CacheServer) -> Any:
        opened = self._client.open(server)
        return self._wrapped_later(opened) if inspect.isawaitable(opened) else OnlyGetSetDelete(opened)

    async def _wrapped_later(self, opening: Any) -> Any:
        return OnlyGetSetDelete(await opening)

    def close(self, client: Any) -> Any:
        return self._client.close(client.wrapped)


class OnlyGetSetDelete:
    """An object with these three methods and nothing else that a layer could use."""

    def __init__(self, client: Any) -> None:
        self.wrapped = client
        self.get, self.set, self.delete = client.get, client.set, client.delete


def parts(client: Any) -> list[Any]:
    """All that has to be closed of a client: under Sentinel it has clients of its own."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return [client, *getattr(manager, "sentinels", ())]


async def _all(works: Any) -> None:
    for work in works:
        await work


CLIENTS = {
    "redis-py": RedisPy(),
    "redis-py-async": RedisPy(asynchronous=True),
    "valkey-py": RedisPy("valkey"),
    "valkey-py-async": RedisPy("valkey", asynchronous=True),
    "glide": Glide(),
    "glide-async": Glide(asynchronous=True),
}
