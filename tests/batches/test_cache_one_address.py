"""Batches on a cluster behind a single address, as managed services and proxies offer it to clients that know none."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.testing._contract.driving import settled
from support.any_client import CLIENTS
from support.batch_shops import COUNT, Shop, orders


def refusals(server):
    return int(server.info("errorstats").get("errorstat_CROSSSLOT", "count=0").removeprefix("count="))


@pytest.mark.parametrize("name", CLIENTS)
def test_each_item_runs_once_and_only_the_first_batch_asks_for_all_keys_at_once(name, redis_cluster_of_one):
    client, slots = CLIENTS[name], redis_cluster_of_one  # which the clients do not know to be one
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
