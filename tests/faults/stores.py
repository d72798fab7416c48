"""The layers under test: their servers, set up to keep what they acknowledge, and what can be done to these.

Each worker's slot has proxies of its own in front of the servers, so that a fault of connections is one worker's alone.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.disk import SharedState, is_reachable
from faults.history import DISK_FULL, FAILING_FSYNC, FAILOVER, SERVER_KILL
from faults.plan import OF_CONNECTIONS
from servers import Proxy, RedisCluster, RedisSentinel, RedisServer, programs
from servers.dynamodb import DynamoDBLocal, Dynoxide
from servers.processes import ServerProcess, guard, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
TABLE = "faults"
# For how long a master has lost its replicas before it dies, in every other failover.
LINK_LOST_SECONDS = 0.1


class Store:
    """A layer under test.

    Attributes:
        faults: The faults of the store itself that it can be made to suffer, and how often each comes.
        connections: The faults of connections, likewise.
        asynchronous: Whether a failover may forget what was acknowledged.
        judged_by_own_clock: Whether leases are judged by the clock of the workers' machine.
        share: How many of all faults are to be of the store.
    """

    faults: Mapping[str, int] = {}
    connections: Mapping[str, int] = OF_CONNECTIONS
    asynchronous = False
    share = 0.04
    judged_by_own_clock = False

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Start all servers."""

    def stop(self) -> None:
        """Stop them."""

    def open_slots(self, count: int) -> None:
        """Put proxies in front of them, for so many workers."""

    def proxies(self, slot: int) -> Sequence[Proxy[Any]]:
        """Those through which the worker in this slot goes."""
        return ()

    def spec(self, slot: int) -> dict[str, Any]:
        """What `layers.make_layer` needs."""
        raise NotImplementedError

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        """Begin a fault of the store; what ends it, where it does not end by itself before this returns."""
        raise NotImplementedError(kind)


class SQLiteStore(Store):
    """A file, on a disk that is full now and then, or fails to sync; where this Python's SQLite lets it be replaced."""

    faults: Mapping[str, int] = {DISK_FULL: 2, FAILING_FSYNC: 1} if is_reachable() else {}
    connections: Mapping[str, int] = {}
    judged_by_own_clock = True
    share = 0.1

    def start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="sqlite-", dir=guard().directory))
        self._disk = SharedState(self._directory / "disk")

    def spec(self, slot: int) -> dict[str, Any]:
        disk = str(self._directory / "disk") if self.faults else None
        return {"kind": "sqlite", "path": str(self._directory / "records.db"), "disk": disk}

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        self._disk.set(kind)
        return lambda: self._disk.set(None)


class ServerStore(Store):
    """What is kept by servers, behind proxies."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stack = contextlib.ExitStack()
        self._proxies: list[dict[int, Proxy[Any]]] = []

    def servers(self) -> Sequence[ServerProcess]:
        """Those that workers go to."""
        raise NotImplementedError

    def open_slots(self, count: int) -> None:
        self._proxies = [
            {server.port: self._stack.enter_context(Proxy(server)) for server in self.servers()} for _ in range(count)
        ]

    def proxies(self, slot: int) -> Sequence[Proxy[Any]]:
        return list(self._proxies[slot].values())

    def through(self, slot: int) -> dict[int, int]:
        """By the port of each server, that of the slot's proxy."""
        return {port: proxy.port for port, proxy in self._proxies[slot].items()}

    def stop(self) -> None:
        self._stack.close()


class CacheStore(ServerStore):
    """One Redis or Valkey server, which writes everything to its disk before it replies."""

    faults: Mapping[str, int] = {SERVER_KILL: 1}

    def __init__(self, name: str, program: Path) -> None:
        super().__init__(name)
        self._server = RedisServer(program, options=DURABLE)

    def servers(self) -> Sequence[ServerProcess]:
        return [self._server]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        super().stop()
        self._server.kill()

    def spec(self, slot: int) -> dict[str, Any]:
        (proxy,) = self.proxies(slot)
        return {"kind": "cache", "url": proxy.server.url, "through": {}, "min_replicas": 0}

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        self._server.kill()
        return self._server.start


class ReplicatedStore(ServerStore):
    """Masters with replicas, of which one follows when its master dies.

    Args:
        name: Of the layer.
        min_replicas: How many replicas confirm each write; 0: what a failover forgets is counted.
    """

    faults: Mapping[str, int] = {FAILOVER: 1}
    share = 0.03

    def __init__(self, name: str, min_replicas: int) -> None:
        super().__init__(name)
        self._min_replicas = min_replicas
        self.asynchronous = min_replicas == 0

    def master(self, size: float) -> RedisServer:
        """The one that is to die."""
        raise NotImplementedError

    def wait_for_successor(self, gone: RedisServer) -> None:
        """Wait until another is in its place."""
        raise NotImplementedError

    def bring_back(self, gone: RedisServer) -> None:
        """Let it follow that one."""
        raise NotImplementedError

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        master = self.master(size)
        if size * 1000 % 2 < 1:
            master.command("ACL", "SETUSER", "default", "-psync", "-sync")
            master.command("CLIENT", "KILL", "TYPE", "replica")
            time.sleep(LINK_LOST_SECONDS)
        master.kill()

        def end() -> None:
            self.wait_for_successor(master)
            self.bring_back(master)

        return end


class ClusterStore(ReplicatedStore):
    """Three masters with a replica each."""

    def __init__(self, name: str, program: Path, min_replicas: int) -> None:
        super().__init__(name, min_replicas)
        self._cluster = RedisCluster(program, replicas=1, options=DURABLE)

    def servers(self) -> Sequence[ServerProcess]:
        return self._cluster.nodes

    def start(self) -> None:
        self._cluster.start()

    def stop(self) -> None:
        super().stop()
        self._cluster.stop()

    def spec(self, slot: int) -> dict[str, Any]:
        through = self.through(slot)
        hosts = ",".join(f"127.0.0.1:{port}" for port in through.values())
        return {
            "kind": "cache",
            "url": f"redis+cluster://{hosts}",
            "through": through,
            "min_replicas": self._min_replicas,
        }

    def master(self, size: float) -> RedisServer:
        # A key that is served by any of the three.
        self._key = f"{size}"
        return self._cluster.master_of(self._key)

    def wait_for_successor(self, gone: RedisServer) -> None:
        wait_until(lambda: self._is_succeeded(gone), "another master")

    def _is_succeeded(self, gone: RedisServer) -> bool:
        try:
            return self._cluster._agrees_without(self._key, gone)
        except (LookupError, StopIteration):  # nobody is known to serve the key
            return False

    def bring_back(self, gone: RedisServer) -> None:
        gone.start()
        self._cluster.wait_until_complete()


class SentinelStore(ReplicatedStore):
    """A master with two replicas, and three Sentinels."""

    def __init__(self, name: str, program: Path, min_replicas: int) -> None:
        super().__init__(name, min_replicas)
        self._set = RedisSentinel(program, options=DURABLE)

    def servers(self) -> Sequence[ServerProcess]:
        return self._set.servers

    def start(self) -> None:
        self._set.start()

    def stop(self) -> None:
        super().stop()
        self._set.stop()

    def spec(self, slot: int) -> dict[str, Any]:
        hosts = ",".join(f"{host}:{port}" for host, port in self._set.addresses)
        return {
            "kind": "cache",
            "url": f"redis+sentinel://{hosts}/{self._set.name}",
            "through": self.through(slot),
            "min_replicas": self._min_replicas,
        }

    def master(self, size: float) -> RedisServer:
        return self._set.master

    def wait_for_successor(self, gone: RedisServer) -> None:
        wait_until(lambda: self._set._agrees_without(gone), "another master")

    def bring_back(self, gone: RedisServer) -> None:
        master = self._set.master
        gone.options["replicaof"] = f"{master.host} {master.port}"
        gone.start()
        self._set.wait_until_complete()


class DynamoDBStore(ServerStore):
    """One table, in files of the server's."""

    faults: Mapping[str, int] = {SERVER_KILL: 1}
    share = 0.015

    def __init__(self, name: str, server: DynamoDBLocal | Dynoxide) -> None:
        super().__init__(name)
        self._server = server

    def servers(self) -> Sequence[ServerProcess]:
        return [self._server]

    def start(self) -> None:
        self._server.start()
        self._server.create_table(TABLE)

    def stop(self) -> None:
        super().stop()
        self._server.kill()

    def spec(self, slot: int) -> dict[str, Any]:
        (proxy,) = self.proxies(slot)
        return {"kind": "dynamodb", "endpoint": proxy.server.url, "table": TABLE}

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        self._server.kill()
        return self._server.start


STORES: dict[str, Callable[[], Store]] = {
    "sqlite": lambda: SQLiteStore("sqlite"),
    "redis": lambda: CacheStore("redis", programs.redis_70()),
    "valkey": lambda: CacheStore("valkey", programs.valkey_91()),
    "valkey-cluster": lambda: ClusterStore("valkey-cluster", programs.valkey_91(), 1),
    "valkey-cluster-async": lambda: ClusterStore("valkey-cluster-async", programs.valkey_91(), 0),
    "redis-sentinel": lambda: SentinelStore("redis-sentinel", programs.redis_70(), 1),
    "redis-sentinel-async": lambda: SentinelStore("redis-sentinel-async", programs.redis_70(), 0),
    "dynamodb-local": lambda: DynamoDBStore("dynamodb-local", DynamoDBLocal(*programs.dynamodb_local(), on_disk=True)),
    "dynoxide": lambda: DynamoDBStore("dynoxide", Dynoxide(programs.dynoxide(), on_disk=True)),
}
