"""Batches on a cluster behind a single address, as managed services and proxies offer it to clients that know none."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.testing._contract.driving import settled
from servers import RedisServer, programs
from servers.processes import wait_until
from support.any_client import Glide, RedisPy
from support.batch_shops import COUNT, Shop, orders

CLIENTS = {
    "redis-py": RedisPy(),
    "redis-py-async": RedisPy(asynchronous=True),
    "valkey-py": RedisPy("valkey"),
    "valkey-py-async": RedisPy("valkey", asynchronous=True),
    "glide": Glide(),
    "glide-async": Glide(asynchronous=True),
}


@pytest.fixture(scope="module")
def slots(start_shared):
    """A server that has all slots of a cluster: it knows them, and the clients do not."""
    server = start_shared(RedisServer(programs.redis_70(), options={"cluster-enabled": "yes"}))
    server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    wait_until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), "a server for all slots")
    return server


def refusals(server):
    return int(server.info("errorstats").get("errorstat_CROSSSLOT", "count=0").removeprefix("count="))


@pytest.mark.parametrize("name", CLIENTS)
def test_each_item_runs_once_and_only_the_first_batch_asks_for_all_keys_at_once(name, slots):
    client = CLIENTS[name]
    slots.command("SCRIPT", "FLUSH")
    slots.command("CONFIG", "RESETSTAT")

    async def use():
        opened = await settled(client.open(slots))
        layer = (AsyncCachePersistenceLayer if client.is_async else CachePersistenceLayer)(client=opened)
        shop = Shop(layer)
        for prefix in ("new", "new", "bad", "more"):
            result = await settled(shop.charge(orders(f"{prefix}-{name}")))
            assert len(result) == COUNT
            assert len({each.status for each in result}) == 1
        assert sorted(shop.runs) == sorted(
            each["id"] for prefix in ("new", "bad", "more") for each in orders(f"{prefix}-{name}")
        )
        await settled(layer.close())
        await settled(client.close(opened))

    asyncio.run(use())
    # Those that began before the first refusal was heard may have been refused too.
    assert 1 <= refusals(slots) <= 4
