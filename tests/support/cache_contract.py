"""The conformance suite over the cache layer: a class names a server and a client, and inherits every check.

The servers run by a clock that is moved, so no check waits for a lease or a window to end; where a server cannot, the
class is a `RealTimeContract`, which waits for what is short and leaves the rest out.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from retrysafe.testing import PersistenceLayerContract
from retrysafe.testing._driving import settled
from servers import RedisCluster, RedisSentinel

if TYPE_CHECKING:
    from support.any_client import CacheServer, Client


class CacheContract(PersistenceLayerContract):
    """Every layer object has a client of its own, as each process of a fleet has.

    Attributes:
        server_name: The fixture of the server.
        client: What the layer is given.
    """

    own_clock = True

    server_name: str
    client: Client

    @pytest.fixture(autouse=True)
    def _server(self, request):
        self.server: CacheServer = request.getfixturevalue(self.server_name)
        self.opened: list[tuple[Any, Any]] = []

    def make_layer(self, clock):
        opening = self.client.open(self.server)
        return self._layer_later(opening) if self.client.is_async else self._layer_of(opening)

    async def _layer_later(self, opening):
        return self._layer_of(await opening)

    def _layer_of(self, client):
        layer_class = AsyncCachePersistenceLayer if self.client.is_async else CachePersistenceLayer
        layer = layer_class(client=client, clock=self.clock)
        self.opened.append((layer, client))
        return layer

    def second_layer(self, layer):
        return self.make_layer(self.clock)

    async def _close(self, layer):
        await settled(layer.close())
        (client,) = [client for opened, client in self.opened if opened is layer]
        await settled(self.client.close(client))

    def close_layer(self, layer):
        return self._close(layer)

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.server.advance(seconds)

    def plant_unreadable(self, layer, idempotency_key):
        holder = self.server
        if isinstance(holder, RedisCluster):
            holder = holder.master_of(idempotency_key)
        elif isinstance(holder, RedisSentinel):
            holder = holder.master
        holder.command("SET", idempotency_key, "no record")
        return True


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

    def make_layer(self, clock):
        if self.flavour == "async":
            return AsyncCachePersistenceLayer(self.url, clock=clock)
        layer = CachePersistenceLayer(self.url, clock=clock)
        return ThreadedPersistenceLayer(layer) if self.flavour == "threads" else layer

    def close_layer(self, layer):
        return layer.close()


class LeastContract(CacheContract):
    """A client with three methods. The caller's clock judges; the server's, which only ends what is long over, runs."""

    own_clock = False

    def _layer_of(self, client):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "client=OnlyGetSetDelete has only get, set and delete")
            return super()._layer_of(client)

    def advance(self, seconds):
        self.clock.advance(seconds)


class RealTimeContract(CacheContract):
    """On a server whose clock cannot be moved: short leases are waited for, and windows left out.

    Attributes:
        waits: Whether leases are waited for at all.
    """

    lease_seconds = 0.3
    window_seconds = 60
    waits = True

    def advance(self, seconds):
        if seconds > 1 or not self.waits:
            raise SkipTest(f"{self.server_name} has a clock that cannot be moved")
        import time

        time.sleep(seconds)
        self.clock.advance(seconds)
