"""What the cache layer sends: how many commands each step takes, and its scripts again where a server forgot them."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.testing import ManualClock
from servers import RedisCluster, RedisSentinel, RedisServer, programs
from support.bodies import counted
from support.cache_steps import connected, once, record, url_of

# --- round trips ------------------------------------------------------------------------------------------------------


class Counting(redis.Redis):
    """Counts the commands that it is given."""

    commands = 0

    def execute_command(self, *args, **options):
        self.commands += 1
        return super().execute_command(*args, **options)


def test_a_first_call_is_two_commands_and_a_replay_one(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)
    with Counting(host=proxy.host, port=proxy.port) as client:
        call = once(CachePersistenceLayer(client=client), counted(), "trips-call")
        call(0)  # makes the connection, and may teach the server the scripts
        for payload, expected in ((1, 2), (1, 1), (1, 1), (2, 2)):
            proxy.forget_requests()
            client.commands = 0
            call(payload)
            assert client.commands == proxy.count() == expected


def test_a_release_and_a_renewal_are_one_command_each(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)
    with connected(proxy.server) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        for _ in range(2):  # the first time teaches the server the scripts
            claim = record("trips-steps")
            layer._put_record(claim)
            proxy.forget_requests()
            layer._renew_record(claim)
            renewed = proxy.count()
            layer._delete_record(claim)
        assert (renewed, proxy.count()) == (1, 2)


def test_the_server_counts_one_script_for_each_step(start):
    server = start(RedisServer(programs.valkey_91()))
    with connected(server) as client:
        call = once(CachePersistenceLayer(client=client), counted(), "trips-stats")
        call(0)
        server.command("CONFIG", "RESETSTAT")
        call(1)
        call(1)
        stats = server.info("commandstats")
    assert stats["cmdstat_evalsha"].startswith("calls=3,")
    assert "cmdstat_eval" not in stats


def test_an_asynchronous_call_takes_as_many(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)

    async def main():
        async with redis.asyncio.Redis(host=proxy.host, port=proxy.port) as client:

            async def charge(order):
                return order

            call = once(AsyncCachePersistenceLayer(client=client), charge, "trips-async")
            await call(0)
            for expected in (2, 1):
                proxy.forget_requests()
                await call(1)
                assert proxy.count() == expected

    asyncio.run(main())


# --- scripts that the server has forgotten ----------------------------------------------------------------------------


@pytest.mark.parametrize("forget", ["SCRIPT FLUSH", "restart"])
def test_scripts_that_a_server_forgot_are_sent_again(forget, start):
    server = start(RedisServer(programs.valkey_91(), options={"appendonly": "yes", "appendfsync": "always"}))
    with CachePersistenceLayer(url_of(server)) as layer:
        body = counted()
        call = once(layer, body, "forgotten")
        assert call(1) == 1
        for payload in (2, 3):
            if forget == "restart":
                server.restart()
            else:
                server.command("SCRIPT", "FLUSH")
            assert [call(payload), call(payload), call(1)] == [payload, payload, 1]
        assert body.body.runs == 3


def test_a_call_follows_a_slot_that_moved(start):
    cluster = start(RedisCluster(programs.valkey_91()))
    with CachePersistenceLayer(f"redis+cluster://{cluster.nodes[0].host}:{cluster.nodes[0].port}") as layer:
        body = counted()
        call = once(layer, body, "{moved}")
        assert call(1) == 1
        source = cluster.master_of("{moved}")
        target = next(node for node in cluster if node is not source)
        move_slot(cluster, "{moved}", source, target)
        assert [call(2), call(2)] == [2, 2]
        assert cluster.master_of("{moved}") is target
        assert call(1) == 1  # its record has moved along
        assert body.body.runs == 2


def test_a_call_follows_a_failover(start):
    sentinel = start(RedisSentinel(programs.valkey_81()))
    addresses = ",".join(f"{host}:{port}" for host, port in sentinel.addresses)
    with CachePersistenceLayer(f"redis+sentinel://{addresses}/{sentinel.name}") as layer:
        call = once(layer, counted(), "failover")
        assert call(1) == 1
        sentinel.master.command("WAIT", 2, 5000)
        sentinel.fail_over()  # the new master has never seen the scripts
        assert [call(2), call(2), call(1)] == [2, 2, 1]


def move_slot(cluster, key, source, target):
    slot = source.command("CLUSTER", "KEYSLOT", key)
    names = {node: node.command("CLUSTER", "MYID") for node in cluster}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    for moved in source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.command("MIGRATE", target.host, target.port, moved, 0, 5000)
    for node in (target, source):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", names[target])
