"""Watches on a real cache, with each kind of client: told of what changes, at once, by one connection of their own."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest

from retrysafe.persistence._cache_channels import AsyncChannel, Channel, can_open
from retrysafe.persistence._cache_watching import Watching
from retrysafe.persistence._cache_watching_async import AsyncWatching
from support.cache_clients import CLIENTS

LONG = 30.0  # seconds; a wait that takes as long was not woken


def woken(watch):
    """Whether the wait ends before its time."""
    started = time.monotonic()
    watch.wait(LONG, LONG)
    return time.monotonic() - started < LONG


async def is_woken(watch):
    started = time.monotonic()
    await watch.wait(LONG, LONG)
    return time.monotonic() - started < LONG


def tell(client, key, news="COMPLETED"):
    return client.publish(f"retrysafe:{key}", news)


def a_key():
    return f"shop.charge#{uuid.uuid4().hex}é"


def served(client):
    """What the watches of a synchronous client stand on."""
    return Watching(lambda: Channel(client))


@pytest.fixture(params=CLIENTS)
def client(request):
    client = CLIENTS[request.param](request, False)
    yield client
    client.close()


@pytest.fixture
def watching(client):
    watching = served(client)
    yield watching
    watching.close()


@pytest.fixture
def plain(request):
    """A client of one kind, for what doesn't depend on it."""
    client = CLIENTS["redis"](request, False)
    yield client
    client.close()


@pytest.fixture
def server(valkey_91):
    return valkey_91


# --- each client, synchronous and asynchronous ---------------------------------------------------------------------


def test_a_watch_is_woken_once_when_it_begins_to_be_told_and_by_each_change(client, watching):
    assert can_open(client)
    key = a_key()
    watch = watching.watch(key)
    assert woken(watch)
    for news in ("COMPLETED", "RELEASED", "FAILED"):
        tell(client, key, news)
        assert woken(watch)
    assert watch._woken.empty()
    assert client.get("the client goes on") is None


@pytest.mark.parametrize("name", CLIENTS)
def test_an_asynchronous_watch_is_woken_likewise(request, name):
    async def check():
        client = CLIENTS[name](request, True)
        if hasattr(client, "initialize"):
            await client.initialize()
        watching = AsyncWatching(lambda: AsyncChannel(client))
        key = a_key()
        watch = watching.watch(key)
        assert await is_woken(watch)
        publisher = CLIENTS[name](request, False)
        for news in ("COMPLETED", "RELEASED", "FAILED"):
            tell(publisher, key, news)
            assert await is_woken(watch)
        publisher.close()
        watch.close()
        assert await client.get("the client goes on") is None
        await watching.close()
        await client.aclose()

    asyncio.run(check())


def test_a_client_that_cannot_subscribe_is_known():
    class Plain:
        def get(self, name): ...

    assert not can_open(Plain())
