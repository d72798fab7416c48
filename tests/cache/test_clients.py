"""Whose a client is: closed by whom it was opened by, shared by threads, and by no forked child or other event loop."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import subprocess
import sys
import threading
import traceback
import warnings

import pytest
import redis.asyncio

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from servers import RedisServer, programs
from support.bodies import counted
from support.cache_steps import connected, once, record, url_of


def test_a_client_that_was_passed_in_is_never_closed(valkey_91):
    with connected(valkey_91) as client:
        with CachePersistenceLayer(client=client) as layer:
            once(layer, counted(), "passed-in")(1)
        assert connections(client) == 1
        layer.close()
        assert connections(client) == 1
        assert once(layer, counted(), "passed-in")(1) == 1


def connections(client):
    """How many of the client's connections are open."""
    pool = client.connection_pool
    return sum(each._sock is not None for each in pool._available_connections)


def test_an_asynchronous_client_that_was_passed_in_is_never_closed(valkey_91):
    async def main():
        async with redis.asyncio.Redis(host=valkey_91.host, port=valkey_91.port) as client:
            async with AsyncCachePersistenceLayer(client=client) as layer:
                await layer._put_record(record("passed-in-async"))
            (connection,) = client.connection_pool._available_connections
            assert connection.is_connected

    asyncio.run(main())


def test_what_is_put_around_a_clients_methods_after_its_first_call_is_called(valkey_91, monkeypatch):
    """As tracing does that begins when the program has been imported, and a test that lets a client fail."""
    execute, commands = redis.Redis.execute_command, []

    def traced(client, *command, **options):
        commands.append(command[0])
        return execute(client, *command, **options)

    with connected(valkey_91) as client:
        call = once(CachePersistenceLayer(client=client), counted(), "traced")
        call(1)
        monkeypatch.setattr(redis.Redis, "execute_command", traced)
        call(2)
    assert commands == ["EVALSHA", "EVALSHA"]


def clients_of(server):
    return [line for line in server.command("CLIENT", "LIST").decode().splitlines() if "cmd=client" not in line]


def test_a_client_that_the_layer_opened_is_closed_with_it_and_opened_again_when_needed(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = CachePersistenceLayer(url_of(server))
    call = once(layer, counted(), "opened")
    assert clients_of(server) == []
    assert call(1) == 1
    assert len(clients_of(server)) == 1
    layer.close()
    layer.close()
    assert clients_of(server) == []
    assert call(1) == 1
    layer.close()
    assert clients_of(server) == []


def test_one_asynchronous_layer_serves_one_event_loop_after_the_other(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = AsyncCachePersistenceLayer(url_of(server))
    runs = []

    async def charge(order):
        runs.append(order)
        return order

    call = once(layer, charge, "loops")

    async def main(payload):
        assert await call(payload) == payload
        assert len(clients_of(server)) == 1
        await layer.close()
        await layer.close()
        assert await call(payload) == payload
        await layer.close()
        assert clients_of(server) == []

    for payload in (1, 2):
        asyncio.run(main(payload))
        gc.collect()  # a connection that nobody closed would warn
    assert runs == [1, 2]


def test_what_belongs_to_loops_that_ended_without_a_close_is_let_go(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = AsyncCachePersistenceLayer(url_of(server))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the client, rightly
        for number in range(10):
            asyncio.run(layer._put_record(record(f"ended-{number}")))
        gc.collect()
        assert len(clients_of(server)) <= 1
        del layer
        gc.collect()


def test_a_forked_child_and_its_parent_both_go_on(valkey_91):
    with CachePersistenceLayer(url_of(valkey_91)) as layer:
        call = once(layer, counted(), "forked")
        assert call(1) == 1
        context = multiprocessing.get_context("fork")
        replies = context.SimpleQueue()

        def in_child():
            try:
                replies.put([call(1), *(call(number) for number in range(100, 120))])
            except BaseException:  # noqa: BLE001  # the parent shows it
                replies.put(traceback.format_exc())

        child = context.Process(target=in_child)
        child.start()
        ours = [call(number) for number in range(200, 220)]
        theirs = replies.get()
        child.join(10)
        assert child.exitcode == 0
        assert ours == theirs[1:] == list(range(2, 22))
        assert [theirs[0], call(1)] == [1, 1]


FORKED_WHILE_OPENING = """
import os, signal, socket, threading
from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.cache import CachePersistenceLayer

def look():
    try:
        layer._get_record("key")
    except IdempotencyPersistenceConnectionError:
        return

silent = socket.create_server(("127.0.0.1", 0))
layer = CachePersistenceLayer(f"redis+cluster://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=1")
opening = threading.Thread(target=look)
opening.start()
accepted = [silent.accept()]
child = os.fork()
if child == 0:
    signal.alarm(30)
    look()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_forked_while_a_thread_opens_the_client_opens_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED_WHILE_OPENING], check=True, timeout=60)


FORKED_WHILE_A_POOL_IS_LOCKED = """
import os, signal, sys, threading
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.cache import CachePersistenceLayer

def look():
    try:
        layer._get_record("key")
    except IdempotencyItemNotFoundError:
        return

def hold():
    with pool._lock:
        held.set()
        forked.wait()

layer = CachePersistenceLayer(sys.argv[1])
look()
pool = layer.client.connection_pool
held, forked = threading.Event(), threading.Event()
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    look()
    del pool
    layer.close()
    sys.exit(0)
forked.set()
assert os.waitpid(child, 0)[1] == 0
look()
"""


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_child_forked_while_a_thread_takes_a_connection_opens_its_own(library, valkey_91):
    program = [sys.executable, "-W", "ignore", "-c", FORKED_WHILE_A_POOL_IS_LOCKED]
    subprocess.run([*program, url_of(valkey_91).replace("redis", library, 1)], check=True, timeout=60)


def test_threads_share_a_layer(valkey_91):
    with CachePersistenceLayer(url_of(valkey_91)) as layer:
        body = counted()
        call = once(layer, body, "threads", on_in_progress="wait", wait_timeout_seconds=20)
        start_together = threading.Barrier(32)
        answers = []

        def one(number):
            start_together.wait()
            answers.append((call(number % 4), call(f"own {number}")))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 32
    assert body.body.runs == 4 + 32
    assert len({shared for shared, _ in answers}) == 4
