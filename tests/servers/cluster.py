"""A cluster of Redis or Valkey servers, with or without replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servers.processes import wait_until
from servers.resp import ReplyError
from servers.standalone import NEVER_SECONDS, RedisServer

if TYPE_CHECKING:
    from pathlib import Path

    from servers.clocks import ServerClock

SLOTS = 16_384


class RedisCluster:
    """Three masters, each with as many replicas as asked for.

    Args:
        program: one of `servers.programs`.
        replicas: per master.
        options: more lines of redis.conf for each node.
        clock: what the nodes take for the time, instead of the machine's. None of them then ever counts as down.
    """

    def __init__(
        self,
        program: Path,
        *,
        replicas: int = 0,
        options: dict[str, str] | None = None,
        clock: ServerClock | None = None,
    ) -> None:
        self.replicas = replicas
        self.clock = clock
        cluster = {"cluster-enabled": "yes", "cluster-node-timeout": "1000"}
        self.nodes = [
            RedisServer(program, options=cluster | (options or {}), clock=clock) for _ in range(3 * (1 + replicas))
        ]

    @property
    def url(self) -> str:
        """Of the first node, from which a client learns of the others."""
        return self.nodes[0].url

    def start(self) -> None:
        """Start the nodes, make them one cluster, and wait until it could bear the loss of a master."""
        for node in self.nodes:
            node.start()
        masters = self.nodes[:3]
        share = -(-SLOTS // len(masters))
        for i, master in enumerate(masters):
            master.command("CLUSTER", "ADDSLOTS", *range(i * share, min((i + 1) * share, SLOTS)))
        for i, node in enumerate(self.nodes):
            node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in self.nodes[1:]:
            self.nodes[0].command("CLUSTER", "MEET", node.host, node.port)
        for i, replica in enumerate(self.nodes[3:]):
            master = masters[i % 3]
            identity = master.command("CLUSTER", "MYID")
            wait_until(lambda r=replica, i=identity: i in r.command("CLUSTER", "NODES"), "nodes that know each other")
            wait_until(lambda r=replica, i=identity: _replicate(r, i), "a replica that follows its master")
        wait_until(self._is_complete, "a complete cluster")
        if self.clock is not None:
            # Until now it had to be short, for them to find each other soon.
            for node in self.nodes:
                node.command("CONFIG", "SET", "cluster-node-timeout", 1000 * NEVER_SECONDS)

    def _is_complete(self) -> bool:
        """Whether every node knows all others and their roles, and every replica has its master's data."""
        return all(
            "cluster_state:ok" in (state := node.command("CLUSTER", "INFO").decode())
            and f"cluster_slots_ok:{SLOTS}" in state
            and len(_known(node)) == len(self.nodes)
            and sum("slave" in line for line in _known(node)) == 3 * self.replicas
            for node in self.nodes
        ) and all(node.info("replication").get("master_link_status", "up") == "up" for node in self.nodes)

    def stop(self) -> None:
        # A frozen or dead node would hold up the others' shutdown, and nobody needs their data.
        for node in self.nodes:
            node.kill()

    def advance(self, seconds: float) -> None:
        """Move the clock of all nodes on."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.advance(seconds, self.nodes)

    def stop_clock_at(self, moment_ms: int) -> None:
        """Have the clock of all nodes stand still, until it is moved."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.stop_at(moment_ms, self.nodes)

    def master_of(self, key: str) -> RedisServer:
        """The node that serves this key, as the nodes that live see it."""
        living = next(node for node in self.nodes if node.process is not None)
        slot = living.command("CLUSTER", "KEYSLOT", key)
        for first, last, master, *_ in living.command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        raise LookupError(f"no node serves slot {slot}")

    def kill_master_of(self, key: str) -> RedisServer:
        """Kill it at once, and return it. Nobody has taken its place by then; see `wait_for_failover`."""
        master = self.master_of(key)
        master.kill()
        return master

    def wait_for_failover(self, key: str, gone: RedisServer) -> RedisServer:
        """Wait until all that live agree on another master for the key, and return that one."""
        wait_until(lambda: self._agrees_without(key, gone), f"another master for {key!r}")
        return self.master_of(key)

    def _agrees_without(self, key: str, gone: RedisServer) -> bool:
        return self.master_of(key) is not gone and all(
            b"cluster_state:ok" in node.command("CLUSTER", "INFO") for node in self.nodes if node.process is not None
        )

    def wait_until_complete(self) -> None:
        """After nodes came back: until all are there, and all replicas follow."""
        wait_until(self._is_complete, "a complete cluster")

    def __iter__(self):
        return iter(self.nodes)


def _known(node: RedisServer) -> list[str]:
    return [line for line in node.command("CLUSTER", "NODES").decode().splitlines() if "handshake" not in line]


def _replicate(replica: RedisServer, identity: bytes) -> bool:
    try:
        return replica.command("CLUSTER", "REPLICATE", identity) == b"OK"
    except ReplyError:  # it does not know yet that the other is a master
        return False
