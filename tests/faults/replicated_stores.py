"""Stores of several servers, of which another one follows when a master dies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from faults.history import FAILOVER
from faults.store import ServerStore
from servers import RedisCluster, RedisSentinel, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from servers import RedisServer, ServerProcess

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
# For how long a master has lost its replicas before it dies, in every other failover.
LINK_LOST_SECONDS = 0.1


class ReplicatedStore(ServerStore):
    """Masters with replicas, of which one follows when its master dies.

    Args:
        name: Of the layer.
        min_replicas: How many replicas confirm each write; 0: what a failover forgets is counted.
    """

    faults: Mapping[str, int] = {FAILOVER: 1}
    share = 0.03
    replicated = True

    def __init__(self, name: str, min_replicas: int) -> None:
        super().__init__(name)
        self._min_replicas = min_replicas
        self.confirms = min_replicas > 0

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
