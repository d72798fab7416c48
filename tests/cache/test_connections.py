"""How many connections a layer's own clients open: as many as its calls need at the same time, with either library."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import glide
import pytest
import redis
import redis.asyncio
import valkey

from retrysafe import async_layer_from_url, layer_from_url
from retrysafe.exceptions import IdempotencyItemNotFoundError, IdempotencyPersistenceConnectionError
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.persistence.many import outcome
from servers import RedisServer, programs, wait_until

MANY = 150
"""More than the 100 connections that newer versions of redis-py open when they are not told how many."""

LIBRARIES = ["redis", "valkey"]
LATER = 4_000_000_000


def connections_to(server):
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[2].endswith(f":{server.port:04X}") and row[3] == "01" for row in rows)


def asked_by_threads(server, layer, count):
    """What so many threads get that ask at the same time: none is answered before all have asked, or one has failed."""
    with ThreadPoolExecutor(count) as threads:
        server.stop_process()
        asked = [threads.submit(outcome, layer._get_record, f"key {number}") for number in range(count)]
        wait_until(lambda: connections_to(server) >= count or any(each.done() for each in asked), "those who ask")
        server.continue_process()
        return [each.result() for each in asked]


def record(key, status, data=""):
    lease_end = LATER * 1000 if status == INPROGRESS else None
    return DataRecord(key, status, LATER, lease_end, data, owner="owner")


@pytest.fixture
def server(start):
    return start(RedisServer(programs.valkey_91()))


@pytest.mark.parametrize("library", LIBRARIES)
def test_many_threads_that_ask_at_the_same_time_are_all_answered(server, library):
    with layer_from_url(server.url.replace("redis", library, 1)) as layer:
        told = asked_by_threads(server, layer, MANY)
    assert {type(each) for each in told} == {IdempotencyItemNotFoundError}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["standalone", "cluster"])
def test_many_tasks_that_store_large_answers_at_the_same_time_all_succeed(request, kind, library):
    server = request.getfixturevalue("valkey_91" if kind == "standalone" else "redis_cluster")
    scheme = library if kind == "standalone" else f"{library}+cluster"
    keys = [f"{{large answers by {library}}} {number}" for number in range(MANY)]

    async def check():
        async with async_layer_from_url(server.url.replace("redis", scheme, 1)) as layer:
            await layer._for_each("put", [record(key, INPROGRESS) for key in keys])
            answers = [record(key, COMPLETED, f'"{key}{"x" * 20_000}"') for key in keys]
            return await asyncio.gather(*map(layer._update_record, answers), return_exceptions=True)

    assert asyncio.run(check()) == [None] * MANY


@pytest.mark.parametrize("library", [redis, valkey], ids=LIBRARIES)
@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
def test_a_client_that_may_open_no_more_connections_is_named_as_the_cause(server, library, pool):
    waiting = {"timeout": 0.1} if pool == "BlockingConnectionPool" else {}
    opened = getattr(library, pool)(host=server.host, port=server.port, max_connections=1, **waiting)
    with (redis.Redis if library is redis else valkey.Valkey)(connection_pool=opened) as client:
        told = asked_by_threads(server, CachePersistenceLayer(client=client), 2)
    (refused,) = [each for each in told if isinstance(each, IdempotencyPersistenceConnectionError)]
    assert "was not asked: all connections that the client may open are busy (max_connections)" in str(refused)
    opened.disconnect()


def test_so_is_one_of_a_cluster_which_has_no_words_for_it(redis_cluster):
    async def check():
        node = redis_cluster.nodes[0]
        async with redis.asyncio.RedisCluster(host=node.host, port=node.port, max_connections=1) as client:
            layer = AsyncCachePersistenceLayer(client=client)
            keys = [f"{{busy}} {number}" for number in range(10)]
            return await asyncio.gather(*map(layer._get_record, keys), return_exceptions=True)

    told = asyncio.run(check())
    refused = [each for each in told if isinstance(each, IdempotencyPersistenceConnectionError)]
    assert refused
    assert all("max_connections" in str(each) for each in refused)


def test_so_is_one_that_may_have_no_more_requests_under_way(valkey_91):
    async def check():
        address = glide.NodeAddress(valkey_91.host, valkey_91.port)
        client = await glide.GlideClient.create(glide.GlideClientConfiguration([address], inflight_requests_limit=1))
        layer = AsyncCachePersistenceLayer(client=client)
        keys = [f"under way {number}" for number in range(10)]
        told = await asyncio.gather(*map(layer._get_record, keys), return_exceptions=True)
        await client.close()
        return told

    told = asyncio.run(check())
    refused = [each for each in told if not isinstance(each, IdempotencyItemNotFoundError)]
    assert refused
    assert {type(each) for each in refused} == {IdempotencyPersistenceConnectionError}
    assert all("was not asked: as many requests are under way as the client may have" in str(each) for each in refused)
