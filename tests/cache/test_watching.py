"""Watches on a real cache, with each kind of client: told of what changes, at once, and of nothing else."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.persistence._cache.channels import AsyncChannel, Channel, can_open
from retrysafe.persistence._cache.watching import Watching
from retrysafe.persistence._cache.watching_async import AsyncWatching
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from support.any_client import parts
from support.cache_clients import CLIENTS
from support.cache_watches import LONG, is_woken, tell, woken


def a_key():
    return f"shop.charge#{uuid.uuid4().hex}é"


@pytest.fixture(params=CLIENTS)
def client(request):
    client = CLIENTS[request.param](request, False)
    yield client
    for part in parts(client):
        part.close()


@pytest.fixture
def watching(client):
    watching = Watching(lambda: Channel(client))
    yield watching
    watching.close()


def test_a_watch_is_woken_once_when_it_begins_to_be_told_and_by_each_change(client, watching):
    assert can_open(client)
    key = a_key()
    watch = watching.watch(key)
    assert woken(watch)
    for news in ("COMPLETED", "RELEASED", "FAILED"):
        tell(client, key, news)
        assert woken(watch)
    assert client.get("the client goes on") is None


def test_a_layer_tells_of_outcomes_and_releases_and_of_nothing_else(server, plain):
    layer, now = CachePersistenceLayer(client=plain), SYSTEM_CLOCK.now_ms()
    claims = [DataRecord(f"order {n}", INPROGRESS, now // 1000 + 60, now + 30_000, owner="me") for n in range(6)]
    outcomes = [claim.replaced(status=COMPLETED, in_progress_expiry_timestamp=None) for claim in claims]
    with plain.pubsub() as listener:
        listener.psubscribe("*")
        assert listener.get_message(timeout=LONG)["type"] == "psubscribe"
        assert layer._for_each("put", claims) == [None] * 6
        layer._renew_record(claims[0])
        layer._delete_record(claims[0].replaced(owner="stranger"))
        with pytest.raises(IdempotencyLeaseLostError):
            layer._update_record(outcomes[0].replaced(owner="stranger"))
        layer._update_record(outcomes[0])
        layer._for_each("update", outcomes[1:3])
        layer._delete_record(claims[3])
        layer._for_each("delete", claims[4:])
        plain.publish("end", "")
        heard = []
        while not heard or heard[-1][0] != b"end":
            message = listener.get_message(timeout=LONG)
            assert message is not None
            heard.append((message["channel"], message["data"]))
    news = [b"COMPLETED"] * 3 + [b"RELEASED"] * 3
    assert heard[:-1] == [(f"retrysafe:order {number}".encode(), each) for number, each in enumerate(news)]


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
        for part in parts(publisher):
            part.close()
        watch.close()
        assert await client.get("the client goes on") is None
        await watching.close()
        for part in parts(client):
            await part.aclose()

    asyncio.run(check())


def test_a_client_that_cannot_subscribe_is_known():
    class Plain:
        def get(self, name): ...

    assert not can_open(Plain())
