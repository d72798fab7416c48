"""A task that is cancelled while the server has its claim, or is about to: the claim is not left behind."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import idempotent_function
from retrysafe.persistence._cache.commands import CLAIM, RELEASE
from retrysafe.persistence.cache import AsyncCachePersistenceLayer
from support.any_client import Glide, Least, RedisPy


def test_a_claim_that_the_client_sends_again_is_not_overtaken_by_its_release(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)

    async def use():
        client = await Glide(asynchronous=True).open(proxy.server)
        layer = AsyncCachePersistenceLayer(client=client)

        @idempotent_function(persistence_store=layer, key_prefix="overtaken")
        async def charge(order):
            return f"receipt for {order}"

        # The server knows how to release, and has to be taught how to claim.
        valkey_91.command("SCRIPT", "FLUSH")
        valkey_91.command("SCRIPT", "LOAD", RELEASE.text)
        proxy.delay(0.05)
        calling = asyncio.ensure_future(charge("order-1"))
        while not proxy.count(CLAIM.sha.encode()):  # noqa: ASYNC110  # the proxy counts, and tells nobody
            await asyncio.sleep(0.001)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        while proxy.count(CLAIM.sha.encode()) < 2:  # noqa: ASYNC110  # the first time it was not known
            await asyncio.sleep(0.001)
        proxy.heal()
        await client.ping()
        assert valkey_91.command("KEYS", "overtaken#*") == []
        await layer.close()
        await client.close()

    asyncio.run(use())


OTHERS = {
    "redis-py": RedisPy(asynchronous=True),
    "valkey-py": RedisPy("valkey", asynchronous=True),
    "plain": Least(RedisPy(asynchronous=True)),
}


@pytest.mark.filterwarnings("ignore:client=OnlyGetSetDelete:UserWarning")
@pytest.mark.parametrize("name", OTHERS)
def test_a_claim_that_is_long_under_way_is_not_overtaken_by_its_release(name, valkey_91, proxy_to):
    """On a connection of its own the release would come first, where the network holds the claim up."""
    proxy, kind = proxy_to(valkey_91), OTHERS[name]

    async def use():
        client = await kind.open(proxy.server)
        layer = AsyncCachePersistenceLayer(client=client)

        @idempotent_function(persistence_store=layer, key_prefix="held-up")
        async def charge(order):
            return f"receipt for {order}"

        await charge("order-1")
        connections = proxy.accepted
        proxy.forget_requests()
        proxy.black_hole()
        calling = asyncio.ensure_future(charge("order-2"))
        while not proxy.count(b"held-up#"):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.001)
        calling.cancel()
        await asyncio.wait({calling}, timeout=0.1)
        then = proxy.accepted
        proxy.heal()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert then == connections, "the release was on its way"
        await layer.close()
        await kind.close(client)

    asyncio.run(use())
    assert len(valkey_91.command("KEYS", "held-up#*")) == 1
