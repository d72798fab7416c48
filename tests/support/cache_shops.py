"""One idempotent function over a proxied cache, with every kind of client, sync and async called alike."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import warnings

import redis
import redis.asyncio
from redis.backoff import NoBackoff

from retrysafe import IdempotencyConfig, async_layer_from_url, idempotent_function, layer_from_url
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer

KINDS = ["redis", "valkey", "glide", "plain", "cluster"]
SECONDS = 0.4


class Shop:
    """A layer with a client of some kind, and a function on it.

    Args:
        kind: One of KINDS.
        server: The server as seen through the proxy.
        asynchronous: Whether function, layer and client are.
    """

    def __init__(self, kind, server, *, asynchronous):
        self.asynchronous = asynchronous
        self.ran = []
        self._stack = contextlib.ExitStack()
        self._runner = self._stack.enter_context(asyncio.Runner()) if asynchronous else None
        make = getattr(self, f"_{kind}", self._by_url)
        self.layer = self._await(self._made(make, kind, server)) if asynchronous else make(kind, server)
        self._stack.callback(self._close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def order(self, work=lambda: "paid", number=1, **config):
        """One call of the decorated function: its answer, or its exception raised."""
        config = IdempotencyConfig(**config)

        def charge(number):
            self.ran.append(number)
            return work()

        async def charge_async(number):
            self.ran.append(number)
            return await asyncio.to_thread(work)

        function = charge_async if self.asynchronous else charge
        decorated = idempotent_function(function, persistence_store=self.layer, config=config, key_prefix="order")
        answer = decorated(number)
        return self._await(answer) if self.asynchronous else answer

    def _await(self, coroutine):
        return self._runner.run(coroutine)

    async def _made(self, make, kind, server):
        made = make(kind, server)
        return await made if asyncio.iscoroutine(made) else made

    def _close(self):
        if self.asynchronous:
            self._await(self.layer.close())
        else:
            self.layer.close()

    def _by_url(self, kind, server):
        scheme = "redis+cluster" if kind == "cluster" else kind
        url = server.url.replace("redis", scheme, 1) + f"?socket_timeout={SECONDS}"
        return async_layer_from_url(url) if self.asynchronous else layer_from_url(url)

    def _glide(self, kind, server):
        glide = importlib.import_module("glide" if self.asynchronous else "glide_sync")
        settings = glide.GlideClientConfiguration(
            [glide.NodeAddress(server.host, server.port)], request_timeout=int(SECONDS * 1000)
        )
        if self.asynchronous:
            return self._glide_async(glide, settings)
        client = glide.GlideClient.create(settings)
        self._stack.callback(client.close)
        return CachePersistenceLayer(client=client)

    async def _glide_async(self, glide, settings):
        client = await glide.GlideClient.create(settings)
        self._stack.callback(lambda: self._await(client.close()))
        return AsyncCachePersistenceLayer(client=client)

    def _plain(self, kind, server):
        library = redis.asyncio if self.asynchronous else redis
        once = importlib.import_module(f"{library.__name__}.retry").Retry(NoBackoff(), 0)
        client = library.Redis(host=server.host, port=server.port, socket_timeout=SECONDS, retry=once)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it can do no more than this
            if self.asynchronous:
                self._stack.callback(lambda: self._await(client.aclose()))
                return AsyncCachePersistenceLayer(client=AsyncPlain(client))
            self._stack.callback(client.close)
            return CachePersistenceLayer(client=Plain(client))


class Plain:
    """The least that a client must have."""

    def __init__(self, client):
        self._client = client

    def get(self, name):
        return self._client.get(name)

    def set(self, name, value, ex=None, px=None, nx=False):
        return self._client.set(name, value, ex=ex, px=px, nx=nx)

    def delete(self, keys):
        return self._client.delete(keys)


class AsyncPlain(Plain):
    """The same, to be awaited."""

    async def get(self, name):
        return await self._client.get(name)

    async def set(self, name, value, ex=None, px=None, nx=False):
        return await self._client.set(name, value, ex=ex, px=px, nx=nx)

    async def delete(self, keys):
        return await self._client.delete(keys)
