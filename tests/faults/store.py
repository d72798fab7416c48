"""What every store of a campaign has in common: how it starts, how workers reach it, and what it can be made to suffer.

Each worker's slot has proxies of its own in front of the servers, so that a fault of connections is one worker's alone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from faults.plan import OF_CONNECTIONS
from servers import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servers import ServerProcess


class Store:
    """A layer under test.

    Attributes:
        faults: The faults of the store itself that it can be made to suffer, and how often each comes.
        connections: The faults of connections, likewise.
        replicated: Whether a failover may forget what was acknowledged,
        confirms: and not what the call was told that ran, as replicas had to confirm it.
        judged_by_own_clock: Whether leases are judged by the clock of the workers' machine.
        lease_seconds: Of the functions.
        clock_slack_ms: How far the clock by which leases are judged may be off.
        recovery_slack_ms: How long a key may stay locked beyond the lease of its dead owner.
        share: How many of all faults are to be of the store.
    """

    faults: Mapping[str, int] = {}
    connections: Mapping[str, int] = OF_CONNECTIONS
    replicated = False
    confirms = False
    lease_seconds = 1.0
    clock_slack_ms = 20
    recovery_slack_ms = 1_000
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
