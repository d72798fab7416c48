"""The layers under test: their servers, set up to keep what they acknowledge."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.disk import SharedState, is_reachable
from faults.history import DISK_FULL, FAILING_FSYNC, SERVER_KILL
from faults.replicated_stores import DURABLE, ClusterStore, SentinelStore
from faults.store import ServerStore, Store
from servers import DynamoDBLocal, Dynoxide, RedisServer, programs
from servers.processes import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servers import DynamoDBServer, ServerProcess

TABLE = "faults"


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


class OneServerStore(ServerStore):
    """One server, which is killed now and then, and started again with what is on its disk."""

    faults: Mapping[str, int] = {SERVER_KILL: 1}

    def __init__(self, name: str, server: ServerProcess) -> None:
        super().__init__(name)
        self._server = server

    def servers(self) -> Sequence[ServerProcess]:
        return [self._server]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        super().stop()
        self._server.kill()

    def suffer(self, kind: str, size: float) -> Callable[[], None]:
        self._server.kill()
        return self._server.start


class CacheStore(OneServerStore):
    """Redis or Valkey, which writes everything to its disk before it replies."""

    def __init__(self, name: str, program: Path) -> None:
        super().__init__(name, RedisServer(program, options=DURABLE))

    def spec(self, slot: int) -> dict[str, Any]:
        (proxy,) = self.proxies(slot)
        return {"kind": "cache", "url": proxy.server.url, "through": {}, "min_replicas": 0}


class DynamoDBStore(OneServerStore):
    """One table, in files of the server's.

    It is by the `Date` of replies, in whole seconds, that workers know how wrong their clocks are. So a lease must have
    more than a second left when it is renewed. It may end up to a second late where such a clock dates it, and another
    where such a clock judges it, and never early.
    """

    lease_seconds = 2.5
    clock_slack_ms = 50
    recovery_slack_ms = 3_000
    share = 0.015

    def __init__(self, name: str, server: DynamoDBServer) -> None:
        super().__init__(name, server)
        self._tables = server

    def start(self) -> None:
        super().start()
        self._tables.create_table(TABLE)

    def spec(self, slot: int) -> dict[str, Any]:
        (proxy,) = self.proxies(slot)
        return {"kind": "dynamodb", "endpoint": proxy.server.url, "table": TABLE}


STORES: dict[str, Callable[[], Store]] = {
    "sqlite": lambda: SQLiteStore("sqlite"),
    "redis": lambda: CacheStore("redis", programs.redis_70()),
    "valkey": lambda: CacheStore("valkey", programs.valkey_91()),
    "valkey-cluster": lambda: ClusterStore("valkey-cluster", programs.valkey_91(), 1),
    "valkey-cluster-async": lambda: ClusterStore("valkey-cluster-async", programs.valkey_91(), 0),
    "redis-sentinel": lambda: SentinelStore("redis-sentinel", programs.redis_70(), 2),
    "redis-sentinel-async": lambda: SentinelStore("redis-sentinel-async", programs.redis_70(), 0),
    "dynamodb-local": lambda: DynamoDBStore("dynamodb-local", DynamoDBLocal(*programs.dynamodb_local(), on_disk=True)),
    "dynoxide": lambda: DynamoDBStore("dynoxide", Dynoxide(programs.dynoxide(), on_disk=True)),
}
