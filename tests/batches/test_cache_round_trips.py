"""What a batch costs on Redis and Valkey, by each kind of client, and what a reply that is lost or unreadable does."""

from __future__ import annotations

import asyncio

import pytest
import redis

from retrysafe import IdempotencyConfig, idempotent_batch
from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyPersistenceConnectionError, IdempotencyPersistenceConsistencyError
from retrysafe.persistence._cache.commands import READ, Command
from retrysafe.persistence._cache.pipelines import sending
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.testing._contract.driving import settled
from servers import RedisCluster, RedisServer, programs
from support.any_client import CLIENTS
from support.batch_shops import Shop, orders


def reads(server):
    """How often the server's nodes have read from a connection: a pipeline is read at once, or in a few parts."""
    nodes = server.nodes if isinstance(server, RedisCluster) else [server]
    return sum(int(node.info("stats")["total_reads_processed"]) for node in nodes)


async def with_client(client, server, use):
    opened = await settled(client.open(server))
    layer = (AsyncCachePersistenceLayer if client.is_async else CachePersistenceLayer)(client=opened)
    try:
        return await use(layer)
    finally:
        await settled(layer.close())
        await settled(client.close(opened))


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("server_name", ["valkey_91", "redis_cluster"])
def test_a_batch_asks_each_node_twice_and_a_replayed_one_once(name, server_name, request):
    server = request.getfixturevalue(server_name)
    nodes = len(server.nodes) if isinstance(server, RedisCluster) else 1

    async def use(layer):
        shop = Shop(layer)
        for prefix in ("first", "bad first"):  # connects, and teaches the server the scripts
            await settled(shop.charge(orders(f"{prefix}-{name}")))
        asked = []
        for prefix in ("good", "good", "bad"):
            before = reads(server)
            result = await settled(shop.charge(orders(f"{prefix}-{name}")))
            asked.append(reads(server) - before)
            assert len({each.status for each in result}) == 1
        return asked

    new, replayed, failed = asyncio.run(with_client(CLIENTS[name], server, use))
    # The count has a part for itself, and clients send 20 kB in parts, which may be read apart. One by one it is 120.
    assert max(new, replayed, failed) <= 20 * nodes


@pytest.mark.parametrize("name", CLIENTS)
def test_500_new_messages_are_ten_commands_and_replayed_ones_five(name, start):
    server = start(RedisServer(programs.valkey_91()))

    async def use(layer):
        shop = Shop(layer, record_after_seconds=60)
        await settled(shop.charge(orders("first")))  # teaches the server the scripts
        # Where the machine is busy, the thread that records a round may begin so late that it takes a part of the next
        # one along: then they are too many for one command.
        for least, most in ((10, 14), (5, 5)):
            server.command("CONFIG", "RESETSTAT")
            result = await settled(shop.charge(orders("order", 500)))
            assert len({each.status for each in result}) == 1
            stats = server.info("commandstats")
            calls = {
                name: int(stats[f"cmdstat_{name}"].split(",")[0].removeprefix("calls=")) for name in ("evalsha", "time")
            }
            # The server's clock is read once for all records of a command.
            assert calls["evalsha"] == calls["time"]
            assert least <= calls["evalsha"] <= most

    asyncio.run(with_client(CLIENTS[name], server, use))


@pytest.mark.parametrize("name", CLIENTS)
def test_an_owner_whose_name_has_two_lines_goes_apart_from_the_others(name, valkey_91):
    owners = ["one line", "two\nlines", "another"]
    now = SYSTEM_CLOCK.now_ms()
    claims = [
        DataRecord(f"lines#{name}#{owner}", INPROGRESS, now // 1000 + 60, now + 60_000, owner=owner) for owner in owners
    ]
    outcomes = [
        claim.replaced(status=COMPLETED, in_progress_expiry_timestamp=None, response_data="1") for claim in claims
    ]

    async def use(layer):
        assert await settled(layer._for_each("put", claims)) == [None] * 3
        assert await settled(layer._for_each("update", outcomes)) == [None] * 3
        stored = await settled(layer._for_each("get", [claim.idempotency_key for claim in claims]))
        assert [(each.stored_status, each.owner) for each in stored] == [(COMPLETED, owner) for owner in owners]

    asyncio.run(with_client(CLIENTS[name], valkey_91, use))


@pytest.mark.parametrize("name", ["redis-py", "redis-py-async"])
def test_a_batch_of_ten_is_two_requests_and_a_replayed_one_a_single_one(name, valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)

    async def use(layer):
        shop = Shop(layer)
        await settled(shop.charge(orders("trips", 3)))
        for expected in (2, 1):
            proxy.forget_requests()
            await settled(shop.charge(orders(f"ten-{name}", 10)))
            assert proxy.count() == expected

    asyncio.run(with_client(CLIENTS[name], proxy, use))


@pytest.mark.parametrize("name", CLIENTS)
def test_scripts_that_a_server_forgot_are_sent_once_and_the_rest_goes_together(name, start):
    server = start(RedisServer(programs.valkey_91()))

    async def use(layer):
        shop = Shop(layer)
        await settled(shop.charge(orders("first")))
        server.command("SCRIPT", "FLUSH")
        server.command("CONFIG", "RESETSTAT")
        result = await settled(shop.charge(orders("second")))
        assert {each.status for each in result} == {"returned"}
        stats = server.info("commandstats")
        taught = [stats.get(f"cmdstat_{command}", "calls=0,") for command in ("eval", "script|load")]
        assert sum(int(each.partition(",")[0].removeprefix("calls=")) for each in taught) <= 4

    asyncio.run(with_client(CLIENTS[name], server, use))


@pytest.mark.parametrize("fault", ["drop_reply", "drop_request"])
@pytest.mark.parametrize("name", ["redis-py", "redis-py-async", "valkey-py", "glide"])
@pytest.mark.parametrize("nth", [1, 2])
def test_what_is_lost_on_the_way_is_found_out_for_each(name, fault, nth, start, proxy_to):
    server = start(RedisServer(programs.valkey_91()))
    proxy = proxy_to(server)

    async def use(layer):
        shop = Shop(layer)
        await settled(shop.charge(orders("first", 2)))
        struck = getattr(proxy, fault)(b"EVALSHA", nth)
        result = await settled(shop.charge(orders("second", 20)))
        struck.wait()
        assert {each.status for each in result} == {"returned"}
        assert len(shop.runs) == 22
        again = await settled(shop.charge(orders("second", 20)))
        assert {each.status for each in again} == {"replayed"}

    asyncio.run(with_client(CLIENTS[name], proxy, use))


def test_a_record_that_cannot_be_read_fails_its_item_alone(valkey_91):
    with redis.Redis(host=valkey_91.host, port=valkey_91.port, decode_responses=True) as client:
        shop = Shop(CachePersistenceLayer(client=client))
        batch = orders("unreadable", 6)
        shop.charge(batch)
        keys = sorted(key.decode() for key in valkey_91.command("KEYS", "shop#*"))
        held = {key: valkey_91.command("GET", key) for key in keys}
        spoilt = next(key for key, text in held.items() if b"unreadable-3" in text)
        valkey_91.command("SET", spoilt, b"\xff\xfe")
        result = shop.charge(batch)
    assert [each.status for each in result] == ["replayed"] * 3 + ["raised"] + ["replayed"] * 2


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("server_name", ["valkey_91", "redis_62", "redis_cluster"])
def test_what_is_no_text_under_a_key_fails_its_item_alone(name, server_name, request):
    server = request.getfixturevalue(server_name)

    async def use(layer):
        shop = Shop(layer, key_prefix=f"no text {name}")
        batch = orders("order", 6)
        assert {each.status for each in await settled(shop.charge(batch))} == {"returned"}
        record = (await settled(layer._for_each("get", [f"no text {name}#{digest('order-3')}"])))[0]
        holder = server.master_of(record.idempotency_key) if isinstance(server, RedisCluster) else server
        holder.command("DEL", record.idempotency_key)
        holder.command("LPUSH", record.idempotency_key, "a list")
        result = await settled(shop.charge(batch))
        assert [each.status for each in result] == ["replayed"] * 3 + ["raised"] + ["replayed"] * 2
        assert isinstance(result[3].error, IdempotencyPersistenceConsistencyError)

    asyncio.run(with_client(CLIENTS[name], server, use))


def digest(order_id):
    return IdempotencyConfig().keys.key_hash({"id": order_id})


class MovedError(Exception):
    """As redis-py calls it."""


def test_of_commands_whose_node_is_gone_one_is_tried_again_and_the_rest_when_that_went_well():
    commands = [Command(READ, f"key {number}", ()) for number in range(4)]
    for again, replies in (
        (["a", "b", "c"], ["a", "there", "b", "c"]),
        ([gone := IdempotencyPersistenceConnectionError("gone")], [gone, "there", gone, gone]),
    ):
        course = sending(commands)
        assert next(course) == commands
        asked = course.send([MovedError(), "there", MovedError(), MovedError()])
        for reply in again[:-1]:
            assert len(asked) == 1
            asked = course.send([reply])
        with pytest.raises(StopIteration) as ended:
            course.send([again[-1]])
        assert ended.value.value == replies


def test_answers_too_large_to_go_with_others_go_by_themselves(valkey_91):
    with redis.Redis(host=valkey_91.host, port=valkey_91.port) as client:

        @idempotent_batch(persistence_store=CachePersistenceLayer(client=client), key_prefix="large")
        def charge(order):
            return "x" * (100_000 if order["id"].endswith("1") else 10)

        for status in ("returned", "replayed"):
            result = charge(orders("large", 12))
            assert {each.status for each in result} == {status}
            assert [len(each.answer) for each in result] == [100_000 if n % 10 == 1 else 10 for n in range(12)]
