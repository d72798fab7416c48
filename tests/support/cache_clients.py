"""Clients of redis-py and valkey-py in every form that a layer has to know, for the servers of the tests."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from support.any_client import RedisPy

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUTS = {"socket_timeout": 5.0, "socket_connect_timeout": 2.0}


def _on(server: str, library: str, **options: Any) -> Callable[[Any, bool], Any]:
    def make(request: Any, asynchronous: bool) -> Any:
        return RedisPy(library, asynchronous=asynchronous, **options).opened(request.getfixturevalue(server))

    return make


def _blocking_pool_of_one(request: Any, asynchronous: bool) -> Any:
    server = request.getfixturevalue("valkey_91")
    redis: Any = importlib.import_module("redis.asyncio" if asynchronous else "redis")
    pool = redis.BlockingConnectionPool(host=server.host, port=server.port, max_connections=1, timeout=2)
    return redis.Redis.from_pool(pool)


_TEXT = {"protocol": 3, "decode_responses": True, **TIMEOUTS}

CLIENTS: dict[str, Callable[[Any, bool], Any]] = {
    "redis": _on("valkey_91", "redis", **TIMEOUTS),
    "redis, RESP3, text": _on("valkey_91", "redis", health_check_interval=1, **_TEXT),
    "redis, pool of one": _blocking_pool_of_one,
    "redis, cluster": _on("redis_cluster", "redis"),
    "redis, cluster, text": _on("redis_cluster", "redis", decode_responses=True),
    "redis, Sentinel": _on("redis_sentinel", "redis", **TIMEOUTS),
    "valkey": _on("valkey_91", "valkey", **TIMEOUTS),
    "valkey, RESP3, text": _on("valkey_91", "valkey", **_TEXT),
    "valkey, cluster": _on("redis_cluster", "valkey"),
    "valkey, Sentinel": _on("redis_sentinel", "valkey", **TIMEOUTS),
}
"""By name: what makes a client, given pytest's `request` and whether it is to be awaited."""
