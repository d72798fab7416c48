"""The conformance suite over the cache layer: a class names a server and a client, and inherits every check.

The servers run by a clock that is moved, so no check waits for a lease or a window to end; where a server cannot, the
class is a `RealTimeContract`, which waits for what is short and leaves the rest out.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from retrysafe.testing import PersistenceLayerContract
from retrysafe.testing._contract.driving import settled
from servers import RedisCluster, RedisSentinel

if TYPE_CHECKING:
    from support.any_client import CacheServer, Client


class CacheContract(PersistenceLayerContract):
    """The server's clock differs from the caller's. Every layer object has a client of its own, as each process has.

    Attributes:
        server_name: The fixture of the server.
        client: What the layer is given.
        ahead_ms: By how much the server's clock is ahead of the caller's.
    """

    own_clock = True
    ahead_ms = 7_100
    # Fewer than by default, as there are many classes; one for each way to run scripts has all.
    rivals = 12
    rounds = 2

    server_name: str
    client: Client

    @pytest.fixture(autouse=True)
    def _server(self, request):
        self.server: CacheServer = request.getfixturevalue(self.server_name)
        self.opened: list[tuple[Any, Any]] = []

    def make_layer(self, clock):
        self.set_server_clock()
        return self.new_layer()

    def new_layer(self):
        opening = self.client.open(self.server)
        return self._layer_later(opening) if self.client.is_async else self._layer_of(opening)

    def set_server_clock(self):
        self.server.stop_clock_at(self.clock.now_ms() + self.ahead_ms)

    async def _layer_later(self, opening):
        return self._layer_of(await opening)

    def _layer_of(self, client):
        layer_class = AsyncCachePersistenceLayer if self.client.is_async else CachePersistenceLayer
        layer = layer_class(client=client, clock=self.clock)
        self.opened.append((layer, client))
        return layer

    def second_layer(self, layer):
        return self.new_layer()

    async def _close(self, layer):
        await settled(layer.close())
        (client,) = [client for opened, client in self.opened if opened is layer]
        await settled(self.client.close(client))

    def close_layer(self, layer):
        return self._close(layer)

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.set_server_clock()

    def plant_unreadable(self, layer, idempotency_key):
        holder = self.server
        if isinstance(holder, RedisCluster):
            holder = holder.master_of(idempotency_key)
        elif isinstance(holder, RedisSentinel):
            holder = holder.master
        holder.command("SET", idempotency_key, "no record")
        return True


class SameClock:
    """The server's clock shows the caller's time to the millisecond: before other bases, for servers that bear it."""

    own_clock = False
    ahead_ms = 0


class UrlContract(CacheContract):
    """The layer opens its client by itself.

    Attributes:
        scheme: What the URL begins with.
        flavour: "sync", "async" or "threads": the sync layer for async callers.
    """

    scheme = "redis"
    flavour = "sync"

    @property
    def url(self) -> str:
        if isinstance(self.server, RedisCluster):
            first, second, _ = self.server.nodes
            return f"{self.scheme}+cluster://{first.host}:{first.port},{second.host}:{second.port}"
        if isinstance(self.server, RedisSentinel):
            addresses = ",".join(f"{host}:{port}" for host, port in self.server.addresses)
            return f"{self.scheme}+sentinel://{addresses}/{self.server.name}"
        return f"{self.scheme}://{self.server.host}:{self.server.port}/0"

    def new_layer(self):
        if self.flavour == "async":
            return AsyncCachePersistenceLayer(self.url, clock=self.clock)
        layer = CachePersistenceLayer(self.url, clock=self.clock)
        return ThreadedPersistenceLayer(layer) if self.flavour == "threads" else layer

    def close_layer(self, layer):
        return layer.close()


class LeastContract(CacheContract):
    """A client with three methods. The caller's clock judges; the server's, which only ends what is long over, runs."""

    own_clock = False
    compares_in_one_step = False

    def set_server_clock(self):
        pass

    def _layer_of(self, client):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "client=OnlyGetSetDelete has only get, set and delete")
            return super()._layer_of(client)


class RealTimeContract(CacheContract):
    """On a server whose clock cannot be moved: short leases are waited for, and what takes longer is left out.

    Attributes:
        waits: Whether leases are waited for at all.
    """

    lease_seconds = 0.3
    window_seconds = 60
    waits = True

    def set_server_clock(self):
        pass

    def advance(self, seconds):
        if seconds > 1 or not self.waits:
            pytest.skip(f"the clock of {self.server_name} cannot be moved")
        time.sleep(seconds)
        self.clock.advance(seconds)
