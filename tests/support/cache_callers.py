"""One function on a cache, in the ways in which a layer opens its own clients."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import async_layer_from_url, idempotent_function, layer_from_url

SECRET = "pa55-w0rd"  # noqa: S105 - of servers that are gone a moment later
QUICK = "socket_timeout=0.2&socket_connect_timeout=0.2"

WAYS = ["redis", "redis-async", "valkey", "valkey-async"]


class Caller:
    """One function on a cache, called through a layer that is opened for each call.

    Args:
        way: One of WAYS: the client library, and whether it is awaited.
    """

    def __init__(self, way):
        self.scheme, _, kind = way.partition("-")
        self.asynchronous = bool(kind)
        self.ran = []

    def __call__(self, url, answer="done", order=1):
        url = url.replace("redis", self.scheme, 1)
        if "socket_timeout=" not in url:
            url += ("&" if "?" in url else "?") + QUICK

        def work(order):
            self.ran.append(order)
            return answer() if callable(answer) else answer

        async def async_work(order):
            return work(order)

        async def call():
            async with async_layer_from_url(url) as layer:
                decorated = idempotent_function(async_work, persistence_store=layer, key_prefix="p")
                return await decorated(order)

        if self.asynchronous:
            return asyncio.run(call())
        with layer_from_url(url) as layer:
            return idempotent_function(work, persistence_store=layer, key_prefix="p")(order)

    def refused(self, url, kind, message):
        """The call fails like this, the function has not run, and no error shows a password."""
        with pytest.raises(kind, match=message) as refused:
            self(url)
        assert self.ran == []
        assert type(refused.value) is kind
        error = refused.value
        while error is not None:
            assert SECRET not in f"{error} {error!r} {error.args}"
            error = error.__cause__ or error.__context__
