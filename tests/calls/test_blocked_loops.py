"""Async functions that block their event loop: they keep their leases wherever a layer can renew beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import uuid

import pytest

from retrysafe import (
    async_layer_from_url,
    current_execution,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
    layer_from_url,
)
from retrysafe.heartbeat import Heart, heart
from retrysafe.heartbeat_async import _latest
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from support.dynamodb_support import async_layer, new_table, sync_layer
from support.renewals import SHORT

LAYERS = {
    "sqlite": (async_layer_from_url, layer_from_url),
    "sqlite, sync layer": (layer_from_url, layer_from_url),
    "valkey": (async_layer_from_url, layer_from_url),
    "valkey, sync layer": (layer_from_url, layer_from_url),
    "dynamodb": (async_layer, sync_layer),
}


@pytest.fixture(params=LAYERS)
def layers(request, tmp_path):
    """A layer, and another one that looks at its records."""
    store, *_ = request.param.split(",")
    if store == "dynamodb":
        server = request.getfixturevalue("dynoxide")
        where = (server, new_table(server))
    else:
        where = (f"sqlite:///{tmp_path}/i.db" if store == "sqlite" else request.getfixturevalue("valkey_91").url,)
    layer, looking = (make(*where) for make in LAYERS[request.param])
    with looking:
        yield layer, looking
        if not isinstance(layer, AsyncBasePersistenceLayer):
            layer.close()


@pytest.fixture
def sqlite(tmp_path):
    with layer_from_url(f"sqlite:///{tmp_path}/i.db") as looking:
        yield async_layer_from_url(f"sqlite:///{tmp_path}/i.db"), looking


def new_prefix():
    """Since servers are shared."""
    return str(uuid.uuid4())


def is_renewed(looking):
    """Whether the lease of the run under way moves on twice while this thread is blocked."""
    ends, deadline, key = set(), time.monotonic() + 30, current_execution().idempotency_key
    while len(ends) < 3 and time.monotonic() < deadline:
        ends.add(looking._get_record(key).in_progress_expiry_timestamp)
        time.sleep(0.01)  # lets the other threads go on
    return len(ends) == 3


async def single(layer, looking):
    async def work(n):
        return is_renewed(looking)

    return await idempotent_function(work, persistence_store=layer, config=SHORT, key_prefix=new_prefix())(1)


async def block(layer, looking):
    async with idempotent_block(1, key_prefix=new_prefix(), persistence_store=layer, config=SHORT) as entered:
        entered.answer = is_renewed(looking)
    return entered.answer


async def batch(layer, looking):
    async def work(n):
        return is_renewed(looking)

    (item,) = await idempotent_batch(work, persistence_store=layer, config=SHORT, key_prefix=new_prefix())([1])
    return item.answer


@pytest.mark.parametrize("form", [single, block, batch], ids=lambda form: form.__name__)
def test_an_async_run_that_blocks_its_event_loop_keeps_its_lease(layers, form):
    async def main():
        layer, looking = layers
        async with layer if isinstance(layer, AsyncBasePersistenceLayer) else contextlib.nullcontext():
            return await form(layer, looking)

    assert asyncio.run(main())


def test_where_only_another_event_loop_can_renew_that_something_blocks_is_logged(valkey_91, caplog):
    async def main():
        async with async_layer_from_url(valkey_91.url) as layer:
            return await single(layer, looking)

    with layer_from_url(valkey_91.url) as looking, caplog.at_level(logging.WARNING, "retrysafe"):
        assert asyncio.run(main())
    assert "something blocks the loop" in caplog.text


def test_a_loop_that_is_not_blocked_renews_by_itself(valkey_91, caplog):
    async def main():
        async with async_layer_from_url(valkey_91.url) as layer:

            async def work(n):
                return await asyncio.to_thread(is_renewed, looking)

            return await idempotent_function(work, persistence_store=layer, config=SHORT, key_prefix=new_prefix())(1)

    with layer_from_url(valkey_91.url) as looking:
        assert asyncio.run(main())
    assert caplog.text == ""


def test_where_no_thread_is_to_be_had_the_event_loop_renews(sqlite, monkeypatch):
    layer, looking = sqlite

    async def work(n):
        return await asyncio.to_thread(is_renewed, looking)

    def start(thread):
        if thread.name == "retrysafe-heartbeat":
            raise RuntimeError("can't start new thread")
        original(thread)

    original = threading.Thread.start
    monkeypatch.setattr("retrysafe.heartbeat_async.heart", Heart())
    monkeypatch.setattr(threading.Thread, "start", start)
    assert asyncio.run(idempotent_function(work, persistence_store=layer, config=SHORT, key_prefix=new_prefix())(1))


def begun(layer, loop, form="function"):
    """A run that has begun in the loop and does not end."""
    options = {"persistence_store": layer, "config": SHORT, "key_prefix": new_prefix()}

    async def work(n):
        has_begun.append(n)
        await asyncio.Event().wait()

    async def block(n):
        async with idempotent_block(n, **options):
            await work(n)

    has_begun = []
    task = loop.create_task((idempotent_function(work, **options) if form == "function" else block)(1))
    while not has_begun:
        loop.run_until_complete(asyncio.sleep(0))
    return task


@pytest.mark.parametrize("form", ["function", "block"])
def test_a_run_whose_event_loop_was_closed_is_not_kept_alive(sqlite, form):
    loop = asyncio.new_event_loop()
    task = begun(sqlite[0], loop, form)
    (beating,) = [held for held in heart._alive() if getattr(held, "loop", None) is loop]
    loop.close()
    assert beating not in heart._alive()
    assert not task.done()


def test_nor_is_one_beside_its_loop(valkey_91):
    loop = asyncio.new_event_loop()
    layer = async_layer_from_url(valkey_91.url)
    task = begun(layer, loop)
    beside = _latest.heart()._beside
    loop.run_until_complete(layer.close())
    loop.close()
    assert beside.beat() is False
    assert not task.done()
