"""Many records at once where their servers change roles: each goes where the command for one would have gone."""

from __future__ import annotations

import asyncio

import pytest
import redis
import valkey

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyPersistenceConnectionError
from retrysafe.persistence._cache.commands import READ, Command
from retrysafe.persistence._cache.pipelines import sending
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from servers import RedisCluster, RedisSentinel, programs


def claim(key, owner="me"):
    now = SYSTEM_CLOCK.now_ms()
    return DataRecord(key, INPROGRESS, now // 1000 + 3600, now + 30_000, owner=owner, made_at_ms=now)


def outcome(claimed):
    return claimed.replaced(status=COMPLETED, response_data='"paid"', in_progress_expiry_timestamp=None)


def begin_to_move_slot(cluster, key, moved):
    """Some of its keys have gone to the other node, and those that come are to go there."""
    source = cluster.master_of(key)
    target = next(node for node in cluster if node is not source)
    slot = source.command("CLUSTER", "KEYSLOT", key)
    names = {node: node.command("CLUSTER", "MYID") for node in cluster}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    for each in moved:
        source.command("MIGRATE", target.host, target.port, each, 0, 5000)


async def awaited(result):
    return await result if asyncio.iscoroutine(result) else result


@pytest.mark.parametrize("library", ["redis", "valkey"])
@pytest.mark.parametrize("layer_class", [CachePersistenceLayer, AsyncCachePersistenceLayer])
def test_while_a_slot_moves_each_record_is_found_on_either_side(layer_class, library, start):
    cluster = start(RedisCluster(programs.valkey_91()))
    layer = layer_class(f"{library}+cluster://{cluster.nodes[0].host}:{cluster.nodes[0].port}")
    here, there = [f"{{slot}}{number}" for number in range(4)], [f"{{other{number}}}" for number in range(4)]
    mine = [
        each for pair in zip([claim(key) for key in here], [claim(key) for key in there], strict=True) for each in pair
    ]
    new = [claim(f"{{slot}}new {number}") for number in range(4)]

    async def use():
        assert await awaited(layer._for_each("put", mine)) == [None] * 8
        begin_to_move_slot(cluster, "{slot}", here[:2])
        rivals = [claim(each.idempotency_key, "rival") for each in mine]
        refused = await awaited(layer._for_each("put", [*rivals, *new]))
        assert [type(each) for each in refused] == [IdempotencyItemAlreadyExistsError] * 8 + [type(None)] * 4
        told = [each.old_data_record for each in refused[:8]]
        assert [(each.idempotency_key, each.owner) for each in told] == [(each.idempotency_key, "me") for each in mine]
        assert await awaited(layer._for_each("renew", [*mine, *new])) == [None] * 12
        assert await awaited(layer._for_each("update", [outcome(each) for each in mine])) == [None] * 8
        assert await awaited(layer._for_each("delete", new)) == [None] * 4
        left = await awaited(layer._for_each("get", [each.idempotency_key for each in mine]))
        assert {each.stored_status for each in left} == {COMPLETED}
        assert await awaited(layer._for_each("put", new)) == [None] * 4
        await awaited(layer.close())

    asyncio.run(use())


def test_a_master_of_before_is_left_by_those_who_ask_for_many_as_by_those_who_ask_for_one(start):
    sentinel = start(RedisSentinel(programs.valkey_81()))
    addresses = ",".join(f"{host}:{port}" for host, port in sentinel.addresses)
    with CachePersistenceLayer(f"redis+sentinel://{addresses}/{sentinel.name}") as layer:
        assert layer._for_each("put", [claim("first 1"), claim("first 2")]) == [None] * 2
        master = sentinel.master
        # It takes no writes any more, while its connections stay as they are.
        master.command("REPLICAOF", master.host, 1)
        with pytest.raises(IdempotencyPersistenceConnectionError) as alone:
            layer._put_record(claim("second"))
        told = layer._for_each("put", [claim("third 1"), claim("third 2")])
    # By this the client closes the connection, and asks the Sentinels anew.
    assert "previous master" in alone.value.args[1]
    assert [each.args for each in told] == [alone.value.args] * 2


@pytest.mark.parametrize("client_class", [redis.RedisCluster, valkey.ValkeyCluster])
def test_where_a_slot_has_no_node_the_records_of_others_are_claimed(client_class, start):
    cluster = start(RedisCluster(programs.redis_70(), options={"cluster-require-full-coverage": "no"}))
    slot = cluster.nodes[0].command("CLUSTER", "KEYSLOT", "{slot}")
    for node in cluster:
        node.command("CLUSTER", "DELSLOTS", slot)
    first = cluster.nodes[0]
    with client_class(host=first.host, port=first.port, require_full_coverage=False) as client:
        layer = CachePersistenceLayer(client=client)
        told = layer._for_each("put", [claim(key) for key in ("{a}", "{slot}1", "{b}", "{c}", "{slot}2", "{d}")])
    assert [type(each) for each in told if each is not None] == [IdempotencyPersistenceConnectionError] * 2
    assert [number for number, each in enumerate(told) if each is not None] == [1, 4]


class MovedError(Exception):
    """As redis-py calls it."""


class NoScriptError(Exception):
    """As redis-py calls it."""


def test_what_has_moved_while_a_script_was_taught_is_followed_too():
    commands = [Command(READ, f"key {number}", ()) for number in range(3)]
    course = sending(commands)
    assert next(course) == commands
    assert course.send([NoScriptError(), NoScriptError(), NoScriptError()]) == commands[:1]
    assert course.send(["a"]) == commands[1:]
    assert course.send([MovedError(), "c"]) == commands[1:2]
    with pytest.raises(StopIteration) as ended:
        course.send(["b"])
    assert ended.value.value == ["a", "b", "c"]
