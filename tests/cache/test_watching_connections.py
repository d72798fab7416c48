"""The one connection by which all watches are told: as long as it is needed, after a loss, and in each process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import pytest
import redis
import redis.asyncio

from retrysafe.persistence._cache import watched, watching_async
from retrysafe.persistence._cache import watching as watching_module
from retrysafe.persistence._cache.channels import AsyncChannel, Channel
from retrysafe.persistence._cache.watching import Watching
from retrysafe.persistence._cache.watching_async import AsyncWatching
from servers import wait_until
from support.cache_watches import LONG, is_woken, tell, woken


@pytest.fixture
def watches(plain):
    watching = Watching(lambda: Channel(plain))
    yield watching
    watching.close()


def connections_that_are_told(server):
    return server.command("CLIENT", "LIST", "TYPE", "pubsub").decode().splitlines()


def told_channels(server):
    return {channel.decode().removeprefix("retrysafe:") for channel in server.command("PUBSUB", "CHANNELS")}


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "retrysafe-watching"]


# --- one connection, as long as it is needed --------------------------------------------------------------------------


def test_many_watches_on_many_keys_share_one_connection(server, watches):
    watching = [watches.watch(f"order {number % 20}") for number in range(100)]
    assert all(woken(watch) for watch in watching)
    assert len(connections_that_are_told(server)) == 1
    assert told_channels(server) == {f"order {number}" for number in range(20)}
    assert len(threads()) == 1


def test_a_key_is_told_of_until_the_last_who_watches_has_gone(server, watches):
    first, second, other = (watches.watch(key) for key in ("order", "order", "other"))
    assert all(woken(watch) for watch in (first, second, other))
    first.close()
    wait_until(lambda: told_channels(server) == {"order", "other"}, "both channels")
    second.close()
    wait_until(lambda: told_channels(server) == {"other"}, "one channel")
    again = watches.watch("order")
    assert woken(again)
    assert told_channels(server) == {"order", "other"}


def test_a_watch_that_was_torn_out_of_its_call_is_not_kept(server, watches):
    kept, lost = watches.watch("kept"), watches.watch("lost")
    assert woken(kept)
    assert woken(lost)
    del lost
    gc.collect()
    wait_until(lambda: told_channels(server) == {"kept"}, "one channel")


def test_the_thread_and_its_connection_end_when_nobody_has_watched_for_a_while(server, watches, monkeypatch):
    monkeypatch.setattr(watching_module, "LINGER", 0.05)
    for _ in range(2):
        watch = watches.watch("order")
        assert woken(watch)
        assert len(threads()) == 1
        watch.close()
        wait_until(lambda: not threads() and not connections_that_are_told(server), "the end of the thread")


def test_closing_ends_the_connection_and_not_the_client(server, plain, watches):
    watch = watches.watch("order")
    assert woken(watch)
    watches.close()
    assert not threads()
    wait_until(lambda: not connections_that_are_told(server), "the end of the connection")
    watch.wait(0.001, LONG)  # wakes, as it is told no more; and from then on waits the shorter time
    watch.wait(0.001, LONG)
    assert plain.ping()
    assert woken(watches.watch("order"))


# --- when the connection is lost --------------------------------------------------------------------------------------


def test_who_watches_is_woken_when_the_connection_is_lost_and_when_it_is_back(server, plain, watches, caplog):
    watch = watches.watch("order")
    assert woken(watch)
    assert plain.client_kill_filter(_type="pubsub") == 1
    assert woken(watch)
    wait_until(lambda: told_channels(server) == {"order"}, "another subscription")
    assert woken(watch)
    tell(plain, "order")
    assert woken(watch)
    assert [record.name for record in caplog.records if record.name.startswith("retrysafe")] == ["retrysafe"]


def test_who_watches_looks_now_and_then_while_the_server_is_gone(server, watches):
    watch = watches.watch("order")
    assert woken(watch)
    server.kill()
    assert woken(watch)
    for _ in range(20):
        watch.wait(0.001, LONG)
    server.start()
    assert woken(watch)
    assert told_channels(server) == {"order"}


def test_a_connection_that_has_gone_silent_counts_as_lost(server, proxy_to, monkeypatch):
    monkeypatch.setattr(watched, "SILENCE", 0.1)
    proxy = proxy_to(server)
    client = redis.Redis(host=proxy.host, port=proxy.port, socket_timeout=0.2)
    watching = Watching(lambda: Channel(client))
    watch = watching.watch("order")
    assert woken(watch)
    proxy.black_hole()
    assert woken(watch)
    watch.wait(0.001, LONG)
    proxy.heal()
    assert woken(watch)
    watching.close()
    client.close()


def test_a_task_begins_anew_likewise(server):
    async def check():
        client = redis.asyncio.Redis(host=server.host, port=server.port)
        watching = AsyncWatching(lambda: AsyncChannel(client))
        watch = watching.watch("order")
        assert await is_woken(watch)
        assert await client.client_kill_filter(_type="pubsub") == 1
        assert await is_woken(watch)
        assert await is_woken(watch)
        tell(await asyncio.to_thread(redis.Redis, host=server.host, port=server.port), "order")
        assert await is_woken(watch)
        assert len(connections_that_are_told(server)) == 1
        await watching.close()
        wait_until(lambda: not connections_that_are_told(server), "the end of the connection")
        await watch.wait(0.001, LONG)
        await watch.wait(0.001, LONG)
        await client.aclose()

    asyncio.run(check())


def test_the_task_ends_when_nobody_has_watched_for_a_while_and_with_its_loop(server, monkeypatch):
    monkeypatch.setattr(watching_async, "LINGER", 0.05)
    monkeypatch.setattr(watching_async, "SILENCE", 0.05)
    client = redis.asyncio.Redis(host=server.host, port=server.port)
    watching = AsyncWatching(lambda: AsyncChannel(client))

    async def once(key):
        watch = watching.watch(key)
        assert await is_woken(watch)
        watch.close()

    async def until_the_end():
        await once("order")
        await asyncio.to_thread(wait_until, lambda: not connections_that_are_told(server), "the end of the connection")
        assert [task.get_name() for task in asyncio.all_tasks()] != ["retrysafe-watching"]
        await once("order")

    asyncio.run(until_the_end())
    asyncio.run(once("order"))
    wait_until(lambda: not connections_that_are_told(server), "the end of all connections")
    gc.collect()
    assert len(watching._rooms) == 0


def test_a_task_that_was_cancelled_before_it_began_is_replaced(server):
    async def check():
        client = redis.asyncio.Redis(host=server.host, port=server.port)
        watching = AsyncWatching(lambda: AsyncChannel(client))
        watching.watch("order").close()
        (task,) = asyncio.all_tasks() - {asyncio.current_task()}
        task.cancel()
        await asyncio.wait((task,))
        assert await is_woken(watching.watch("order"))
        await watching.close()
        await client.aclose()

    asyncio.run(check())


# --- processes --------------------------------------------------------------------------------------------------------

FORKED = """
import os, redis, sys, time
from retrysafe.persistence._cache.channels import Channel
from retrysafe.persistence._cache.watching import Watching

client = redis.Redis(port=int(sys.argv[1]))
watching = Watching(lambda: Channel(client))

def is_told(watch, tell):
    watch.wait(30, 30)
    started = time.monotonic()
    tell()
    watch.wait(30, 30)
    return time.monotonic() - started < 30

tell = lambda: client.publish("retrysafe:order", "COMPLETED")
watch = watching.watch("order")
assert is_told(watch, tell)
child = os.fork()
if child == 0:
    watch.close()
    os._exit(0 if is_told(watching.watch("order"), tell) else 1)
assert os.waitpid(child, 0)[1] == 0
tell()
watch.wait(30, 30)
assert len(client.client_list(_type="pubsub")) == 1
"""


def test_a_forked_child_watches_for_itself_and_leaves_its_parents_watches_alone(server):
    subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", FORKED, str(server.port)], check=True, timeout=90
    )


ENDING = """
import redis, sys, threading
from retrysafe.persistence._cache.channels import Channel
from retrysafe.persistence._cache.watching import Watching

watching = Watching(lambda: Channel(redis.Redis(port=int(sys.argv[1]))))
watch = watching.watch("order")
watch.wait(30, 30)
threading.Thread(target=watch.wait, args=(30, 30), daemon=True).start()
"""


def test_a_program_ends_at_once_and_silently_while_somebody_watches(server):
    command = [sys.executable, "-c", ENDING, str(server.port)]
    ended = subprocess.run(command, check=True, timeout=25, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("", "")
