"""A master with two replicas, and three sentinels that watch over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servers.processes import wait_until
from servers.standalone import RedisServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from servers.clocks import ServerClock

NAME = "mymaster"


class SentinelServer(RedisServer):
    """One sentinel."""

    def __init__(self, program: Path, master: RedisServer) -> None:
        super().__init__(program)
        # A sentinel writes what it learns into its file.
        (self.directory / "sentinel.conf").write_text(
            f"bind {self.host}\n"
            f"port {self.port}\n"
            f"dir {self.directory}\n"
            f"sentinel monitor {NAME} {master.host} {master.port} 2\n"
            f"sentinel down-after-milliseconds {NAME} 500\n"
            f"sentinel failover-timeout {NAME} 3000\n",
        )

    def arguments(self) -> Sequence[str]:
        return [f"{self.name}-server", "sentinel.conf", "--sentinel"]

    def master_state(self) -> dict[str, str]:
        """What it thinks of the master."""
        reply = [part.decode() for part in self.command("SENTINEL", "MASTER", NAME)]
        return dict(zip(reply[::2], reply[1::2], strict=True))


class RedisSentinel:
    """The whole set.

    Args:
        program: one of `servers.programs`.
        options: more lines of redis.conf, for the three that hold data.
        clock: what these three take for the time, instead of the machine's.
    """

    name = NAME

    def __init__(
        self, program: Path, *, options: dict[str, str] | None = None, clock: ServerClock | None = None
    ) -> None:
        self.clock = clock
        master = RedisServer(program, options=options, clock=clock)
        replicas = [
            RedisServer(program, options={"replicaof": f"{master.host} {master.port}"} | (options or {}), clock=clock)
            for _ in range(2)
        ]
        self.servers = [master, *replicas]
        self.sentinels = [SentinelServer(program, master) for _ in range(3)]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The sentinels', as the clients want them."""
        return [(sentinel.host, sentinel.port) for sentinel in self.sentinels]

    def start(self) -> None:
        """Start all six, and wait until the sentinels know each other and the replicas, which have their data."""
        for server in self.servers:
            server.start()
        # Earlier, a sentinel would learn of the replicas only 10 s later, by its next look at the master.
        wait_until(lambda: all(map(_follows, self.servers[1:])), "replicas that follow the master")
        for sentinel in self.sentinels:
            sentinel.start()
        self.wait_until_complete()

    def wait_until_complete(self) -> None:
        """Until all six are there and agree."""
        wait_until(self._is_complete, "a complete set of sentinels")

    def _is_complete(self) -> bool:
        states = [sentinel.master_state() for sentinel in self.sentinels]
        return all(
            (state["num-slaves"], state["num-other-sentinels"], state["flags"]) == ("2", "2", "master")
            for state in states
        ) and all(_follows(server) for server in self.servers if server is not self.master)

    def advance(self, seconds: float) -> None:
        """Move the clock of the three that hold data on."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.advance(seconds, self.servers)

    def stop_clock_at(self, moment_ms: int) -> None:
        """Have the clock of the three that hold data stand still, until it is moved."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.stop_at(moment_ms, self.servers)

    @property
    def master(self) -> RedisServer:
        """The master, as the sentinels that live see it; by majority."""
        ports = [
            int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
            for sentinel in self.sentinels
            if sentinel.process is not None
        ]
        port = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> RedisServer:
        """Kill the master, and wait until all sentinels name another one, which serves as such. Returns the new one."""
        gone = self.master
        gone.kill()
        wait_until(lambda: self._agrees_without(gone), "another master")
        return self.master

    def _agrees_without(self, gone: RedisServer) -> bool:
        named = {
            int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
            for sentinel in self.sentinels
            if sentinel.process is not None
        }
        return len(named) == 1 and gone.port not in named and self.master.role == "master"

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()


def _follows(server: RedisServer) -> bool:
    return server.info("replication").get("master_link_status") == "up"
