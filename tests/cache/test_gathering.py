"""Commands of many tasks in one pipeline: each gets its own reply, its own error, and never waits for ever."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest
import redis.asyncio
import valkey.asyncio

from retrysafe import idempotent_function
from retrysafe.exceptions import IdempotencyItemNotFoundError, IdempotencyPersistenceConsistencyError
from retrysafe.persistence._cache.commands import READ, Command
from retrysafe.persistence._cache.gathering import Gathering
from retrysafe.persistence.cache import AsyncCachePersistenceLayer
from servers import RedisServer, programs

LIBRARIES = {"redis": redis.asyncio.Redis, "valkey": valkey.asyncio.Valkey}


async def echo(order):
    return order


def once(layer):
    return idempotent_function(echo, persistence_store=layer, key_prefix="p")


async def outcomes(call, orders):
    return await asyncio.gather(*map(call, orders), return_exceptions=True)


def others_are_answered(found, bad):
    assert isinstance(found.pop(bad), IdempotencyPersistenceConsistencyError)
    assert found == [order for order in range(10) if order != bad]


@pytest.fixture(params=LIBRARIES)
def connect(request):
    return LIBRARIES[request.param]


@pytest.fixture
def server(start):
    return start(RedisServer(programs.valkey_91()))


async def key_of(call, order, server):
    await call(order)
    (key,) = server.command("KEYS", "p#*")
    server.command("DEL", key)
    return key


def test_a_value_that_is_no_text_is_the_error_of_its_own_caller_alone(server, connect):
    async def main():
        async with connect(host=server.host, port=server.port, decode_responses=True) as client:
            call = once(AsyncCachePersistenceLayer(client=client))
            server.command("SET", await key_of(call, 5, server), b"\xff\xfe")
            for _ in range(2):
                others_are_answered(await outcomes(call, range(10)), 5)

    asyncio.run(main())


def test_where_the_server_forgot_the_scripts_an_error_is_of_its_own_caller_alone(server, connect):
    async def main():
        async with connect(host=server.host, port=server.port) as client:
            layer = AsyncCachePersistenceLayer(client=client)
            call = once(layer)
            server.command("RPUSH", await key_of(call, 5, server), "no record")
            server.command("SCRIPT", "FLUSH")
            reading, found = await asyncio.gather(
                layer._get_record("none"),  # goes first and alone, so that the claims go together
                outcomes(call, range(10)),
                return_exceptions=True,
            )
            assert isinstance(reading, IdempotencyItemNotFoundError)
            others_are_answered(found, 5)

    asyncio.run(main())


SHUTS_DOWN = """
import asyncio

from retrysafe.persistence._cache.commands import READ, Command
from retrysafe.persistence._cache.gathering import Gathering


async def alone(command):
    await asyncio.Event().wait()


async def together(commands):
    await asyncio.sleep(0.01)
    return [None for _ in commands]


async def main():
    gathering = Gathering(alone, together)
    tasks = [asyncio.create_task(gathering.run(Command(READ, "key", ()))) for _ in range(3)]
    for _ in range({turns}):
        await asyncio.sleep(0)


asyncio.run(main())
"""


@pytest.mark.parametrize("turns", range(4))
def test_a_loop_can_end_at_any_moment_of_a_command(turns):
    subprocess.run([sys.executable, "-c", SHUTS_DOWN.format(turns=turns)], check=True, timeout=30)


def test_a_caller_that_was_closed_leaves_no_error_behind(caplog):
    async def main():
        fails = asyncio.get_running_loop().create_future()
        under_way = asyncio.Event()

        async def alone(_command):
            await under_way.wait()

        async def together(_commands):
            await fails

        gathering = Gathering(alone, together)
        first = asyncio.create_task(gathering.run(Command(READ, "key", ())))
        await asyncio.sleep(0)
        closed = gathering.run(Command(READ, "key", ()))
        closed.send(None)
        await asyncio.sleep(0)
        closed.close()
        fails.set_exception(ConnectionError("lost"))
        under_way.set()
        await first

    asyncio.run(main())
    gc.collect()
    assert caplog.records == []
