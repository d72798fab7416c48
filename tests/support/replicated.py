"""Servers with replicas, and every kind of client for them behind one way to make a call."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
from typing import TYPE_CHECKING, Any, Self, cast

from retrysafe import IdempotencyConfig, idempotent_batch, idempotent_function
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from servers import RedisCluster, RedisSentinel, RedisServer, programs, wait_until
from support.any_client import RedisPy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from retrysafe.batch import BatchResult

PREFIX = "charge"
# How long replicas may take to confirm, in seconds. Long where they answer, so that a slow machine passes; short where
# they are stopped.
PATIENT, IMPATIENT = 4.0, 0.05


class Pair:
    """A master with a replica."""

    min_replicas = 1

    def __init__(self) -> None:
        self.master = RedisServer(programs.redis_70())
        self.replica = RedisServer(programs.redis_70(), options={"replicaof": f"{self.master.host} {self.master.port}"})

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        # Asked of the master: a replica calls the link up before it is counted.
        wait_until(lambda: "state=online" in self.master.info("replication").get("slave0", ""), "a replica")

    def stop(self) -> None:
        self.replica.kill()
        self.master.kill()

    def master_of(self, key: str) -> RedisServer:
        return self.master

    def replicas_of(self, key: str) -> list[RedisServer]:
        return [self.replica]

    def client(self, library: str, asynchronous: bool, at: RedisServer | None = None) -> Any:
        server = at or self.master
        if library == "glide":
            return _glide("GlideClient", asynchronous, [server])
        return RedisPy(library, asynchronous=asynchronous, socket_timeout=5).opened(server)


class Cluster(RedisCluster):
    """Three masters with a replica each."""

    min_replicas = 1

    def __init__(self) -> None:
        super().__init__(programs.redis_70(), replicas=1)

    def replicas_of(self, key: str) -> list[RedisServer]:
        master = self.master_of(key).port
        living = [node for node in self.nodes if node.process is not None]
        return [node for node in living if node.role == "slave" and node.command("ROLE")[2] == master]

    def client(self, library: str, asynchronous: bool) -> Any:
        living = [node for node in self.nodes if node.process is not None]
        if library == "glide":
            return _glide("GlideClusterClient", asynchronous, living)
        cluster = importlib.import_module(f"{library}.asyncio.cluster" if asynchronous else f"{library}.cluster")
        nodes = [cluster.ClusterNode(node.host, node.port) for node in living]
        return getattr(cluster, f"{library.capitalize()}Cluster")(startup_nodes=nodes, socket_timeout=5)


class Sentinels(RedisSentinel):
    """A master with two replicas, and three sentinels."""

    min_replicas = 2

    def __init__(self) -> None:
        super().__init__(programs.redis_70())

    def master_of(self, key: str) -> RedisServer:
        return self.master

    def replicas_of(self, key: str) -> list[RedisServer]:
        return [server for server in self.servers if server.process is not None and server is not self.master]

    def client(self, library: str, asynchronous: bool) -> Any:
        return RedisPy(library, asynchronous=asynchronous, socket_timeout=5).opened(self)


def _glide(name: str, asynchronous: bool, servers: list[RedisServer]) -> Any:
    """The client, or the coroutine that makes it."""
    module = importlib.import_module("glide" if asynchronous else "glide_sync")
    addresses = [module.NodeAddress(server.host, server.port) for server in servers]
    return getattr(module, name).create(getattr(module, f"{name}Configuration")(addresses))


class Caller:
    """A client with a layer over it, synchronous or in an event loop of its own; a context manager.

    Args:
        world: One of the three above.
        library: `redis`, `valkey` or `glide`.
        asynchronous: Whether client, layer and function are.
        lease: The calls' lease, in seconds.
        at: Another place to find the server at.
        **options: The layer's.
    """

    def __init__(
        self, world: Any, library: str, asynchronous: bool, *, lease: float = 30.0, at: Any = None, **options: Any
    ) -> None:
        self._loop = asyncio.Runner() if asynchronous else None
        self._config = IdempotencyConfig(in_progress_expires_after_seconds=lease)
        self.client = self.run(lambda: world.client(library, asynchronous, **({} if at is None else {"at": at})))
        made = AsyncCachePersistenceLayer if asynchronous else CachePersistenceLayer
        try:
            self.layer = self.run(lambda: made(client=self.client, **options))
        except BaseException:
            self.close()
            raise

    def run(self, function: Callable[[], Any]) -> Any:
        """Call it where this caller's loop runs, and await what it gives if need be."""
        if self._loop is None:
            return function()

        async def called() -> Any:
            result = function()
            return await result if hasattr(result, "__await__") else result

        return self._loop.run(called())

    def call(self, order: str, work: Callable[[], Any] = lambda: "done") -> Any:
        """One protected call with this order's key, which does this work."""
        if self._loop is None:

            def charge(order: str) -> Any:
                return work()
        else:

            async def charge(order: str) -> Any:
                return work()

        protected = idempotent_function(
            persistence_store=self.layer, config=self._config, key_prefix=PREFIX, data_keyword_argument="order"
        )(charge)
        return self.run(lambda: protected(order))

    def batch(self, orders: list[str], work: Callable[[str], Any]) -> BatchResult[str, Any]:
        """One batch of these orders, with the keys of single calls, which does this work for each."""
        options: Any = {"persistence_store": self.layer, "config": self._config, "key_prefix": PREFIX}
        if self._loop is None:

            def charge(order: str) -> Any:
                return work(order)
        else:

            async def charge(order: str) -> Any:
                return work(order)

        protected: Any = idempotent_batch(charge, **options)
        return cast("BatchResult[str, Any]", self.run(lambda: protected(orders)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the client, and those with which it asks Sentinels."""
        asking = getattr(getattr(self.client, "connection_pool", None), "sentinel_manager", None)
        for client in (self.client, *getattr(asking, "sentinels", ())):
            self.run(getattr(client, "aclose", client.close))
        if self._loop is not None:
            self._loop.close()


def caller(world: Any, library: str, asynchronous: bool, seconds: float, **options: Any) -> Caller:
    """One that waits so long for all the replicas there are."""
    options = {"min_replicas": world.min_replicas, "replica_timeout_seconds": seconds} | options
    return Caller(world, library, asynchronous, **options)


@contextlib.contextmanager
def stopped(servers: Iterable[RedisServer]) -> Iterator[None]:
    """These servers stand still meanwhile."""
    for server in servers:
        server.stop_process()
    try:
        yield
    finally:
        for server in servers:
            server.continue_process()


def key_of(order: str) -> str:
    """Where the record of this order stands."""
    return f"{PREFIX}#{hashlib.md5(json.dumps(order).encode(), usedforsecurity=False).hexdigest()}"


def status_of(server: RedisServer, order: str) -> str | None:
    """The status of the order's record on this very server; None where it has none."""
    with server.connect() as connection:
        if server.info("cluster").get("cluster_enabled") == "1":
            connection.command("READONLY")  # else a replica would send us to its master
        record = connection.command("GET", key_of(order))
    return None if record is None else json.loads(record)["status"]
