"""A master that becomes a replica while its connections live on, behind an address that leads to the new master now.

So it is with a load balancer, a Kubernetes service or a managed service's name. Whoever stayed on the old connections
would be refused until the lease is over, and the function would run again.
"""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import idempotent_function
from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from servers import RedisServer, programs, wait_until


class Moving:
    """A master and a replica behind one address, which change places."""

    def __init__(self, start, proxy_to):
        self.old = start(RedisServer(programs.redis_70()))
        self.new = start(RedisServer(programs.redis_70(), options={"replicaof": f"{self.old.host} {self.old.port}"}))
        wait_until(lambda: ",state=online" in self.old.info("replication").get("slave0", ""), "a replica")
        self.proxy = proxy_to(self.old)

    def url(self, library):
        return self.proxy.server.url.replace("redis", library, 1)

    def move(self):
        """No connection is closed for it."""
        wait_until(lambda: self.new.command("DBSIZE") == self.old.command("DBSIZE"), "a replica that has all")
        self.new.command("REPLICAOF", "NO", "ONE")
        self.old.command("REPLICAOF", self.new.host, self.new.port)
        self.proxy.lead_to(self.new)


@pytest.fixture
def moving(start, proxy_to):
    return Moving(start, proxy_to)


@pytest.fixture(params=["redis", "valkey"])
def library(request):
    return request.param


@pytest.mark.parametrize("min_replicas", [0, 1])
def test_the_answer_is_stored_by_the_new_master(moving, library, min_replicas):
    with CachePersistenceLayer(moving.url(library), min_replicas=min_replicas) as layer:
        runs = []

        @idempotent_function(persistence_store=layer, key_prefix="pay")
        def pay(order):
            runs.append(order)
            moving.move()
            return "receipt"

        assert [pay(1), pay(1), runs] == ["receipt", "receipt", [1]]
        assert moving.new.command("DBSIZE") == 1


@pytest.mark.parametrize("min_replicas", [0, 1])
def test_so_is_that_of_an_asynchronous_function(moving, library, min_replicas):
    async def check():
        async with AsyncCachePersistenceLayer(moving.url(library), min_replicas=min_replicas) as layer:
            runs = []

            @idempotent_function(persistence_store=layer, key_prefix="pay")
            async def pay(order):
                runs.append(order)
                await asyncio.to_thread(moving.move)
                return "receipt"

            assert [await pay(1), await pay(1), runs] == ["receipt", "receipt", [1]]

    asyncio.run(check())


@pytest.mark.parametrize("layer_class", [CachePersistenceLayer, AsyncCachePersistenceLayer])
def test_many_records_that_the_old_master_refused_are_stored_by_the_new_one_when_they_come_again(
    moving, library, layer_class
):
    now = SYSTEM_CLOCK.now_ms()
    claims = [
        DataRecord(f"key {number}", INPROGRESS, now // 1000 + 3600, now + 30_000, owner="me", made_at_ms=now)
        for number in range(5)
    ]
    outcomes = [
        each.replaced(status=COMPLETED, response_data='"paid"', in_progress_expiry_timestamp=None) for each in claims
    ]
    layer = layer_class(moving.url(library))

    async def awaited(result):
        return await result if asyncio.iscoroutine(result) else result

    async def check():
        assert await awaited(layer._for_each("put", claims)) == [None] * 5
        moving.move()
        refused = await awaited(layer._for_each("update", outcomes))
        assert {type(each) for each in refused} == {IdempotencyPersistenceConnectionError}
        assert await awaited(layer._for_each("update", outcomes)) == [None] * 5
        await awaited(layer.close())

    asyncio.run(check())
