"""Clients of every kind for the servers of the tests, each opened and closed within a test."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUTS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}


def _standalone(library: str, **options: Any) -> Callable[[Any, bool], Any]:
    def make(request: Any, asynchronous: bool) -> Any:
        server = request.getfixturevalue("valkey_91")
        module, name = _module(library, asynchronous)
        return getattr(module, name)(host=server.host, port=server.port, **TIMEOUTS, **options)

    return make


def _blocking_pool_of_one(library: str) -> Callable[[Any, bool], Any]:
    def make(request: Any, asynchronous: bool) -> Any:
        server = request.getfixturevalue("valkey_91")
        module, name = _module(library, asynchronous)
        pool = module.BlockingConnectionPool(host=server.host, port=server.port, max_connections=1, timeout=2)
        return getattr(module, name).from_pool(pool)

    return make


def _cluster(library: str, **options: Any) -> Callable[[Any, bool], Any]:
    def make(request: Any, asynchronous: bool) -> Any:
        node = request.getfixturevalue("redis_cluster").nodes[0]
        module, name = _module(library, asynchronous)
        return getattr(module, f"{name}Cluster")(host=node.host, port=node.port, **options)

    return make


def _sentinel(library: str) -> Callable[[Any, bool], Any]:
    def make(request: Any, asynchronous: bool) -> Any:
        sentinels = request.getfixturevalue("redis_sentinel")
        name = f"{library}.asyncio.sentinel" if asynchronous else f"{library}.sentinel"
        return importlib.import_module(name).Sentinel(sentinels.addresses, **TIMEOUTS).master_for(sentinels.name)

    return make


def _module(library: str, asynchronous: bool) -> tuple[Any, str]:
    return importlib.import_module(f"{library}.asyncio" if asynchronous else library), library.capitalize()


CLIENTS: dict[str, Callable[[Any, bool], Any]] = {
    "redis": _standalone("redis"),
    "redis, RESP3, text": _standalone("redis", protocol=3, decode_responses=True, health_check_interval=1),
    "redis, pool of one": _blocking_pool_of_one("redis"),
    "redis, cluster": _cluster("redis"),
    "redis, cluster, text": _cluster("redis", decode_responses=True),
    "redis, Sentinel": _sentinel("redis"),
    "valkey": _standalone("valkey"),
    "valkey, RESP3, text": _standalone("valkey", protocol=3, decode_responses=True),
    "valkey, cluster": _cluster("valkey"),
    "valkey, Sentinel": _sentinel("valkey"),
}
"""By name: what makes a client, given pytest's `request` and whether it is to be awaited."""


def parts(client: Any) -> list[Any]:
    """All that has to be closed of a client: under Sentinel it has clients of its own."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return [client, *getattr(manager, "sentinels", ())]
