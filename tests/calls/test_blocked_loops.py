"""Async functions that block their event loop: on a layer that works in threads they keep their leases."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from retrysafe import (
    current_execution,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
)
from retrysafe.heartbeat import Heart, heart
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from support.renewals import SHORT


@pytest.fixture
def path(tmp_path):
    return tmp_path / "i.db"


@pytest.fixture(params=["async twin", "sync layer"])
def layer(request, path):
    return AsyncSQLitePersistenceLayer(path) if request.param == "async twin" else SQLitePersistenceLayer(path)


def is_renewed(path):
    """Whether the lease of the run under way moves on twice while this thread is blocked."""
    layer, ends, deadline = SQLitePersistenceLayer(path), set(), time.monotonic() + 30
    key = current_execution().idempotency_key
    while len(ends) < 3 and time.monotonic() < deadline:
        ends.add(layer._get_record(key).in_progress_expiry_timestamp)
    layer.close()
    return len(ends) == 3


async def single(layer, path):
    async def work(n):
        return is_renewed(path)

    return await idempotent_function(work, persistence_store=layer, config=SHORT)(1)


async def block(layer, path):
    async with idempotent_block(1, key_prefix="p", persistence_store=layer, config=SHORT) as entered:
        entered.answer = is_renewed(path)
    return entered.answer


async def batch(layer, path):
    async def work(n):
        return is_renewed(path)

    (item,) = await idempotent_batch(work, persistence_store=layer, config=SHORT)([1])
    return item.answer


@pytest.mark.parametrize("form", [single, block, batch], ids=lambda form: form.__name__)
def test_an_async_run_that_blocks_its_event_loop_keeps_its_lease(layer, path, form):
    assert asyncio.run(form(layer, path))


def test_where_no_thread_is_to_be_had_the_event_loop_renews(layer, path, monkeypatch):
    async def work(n):
        return await asyncio.to_thread(is_renewed, path)

    def start(thread):
        if thread.name == "retrysafe-heartbeat":
            raise RuntimeError("can't start new thread")
        original(thread)

    original = threading.Thread.start
    monkeypatch.setattr("retrysafe.heartbeat_async.heart", Heart())
    monkeypatch.setattr(threading.Thread, "start", start)
    assert asyncio.run(idempotent_function(work, persistence_store=layer, config=SHORT)(1))


def test_a_run_whose_event_loop_was_closed_is_not_kept_alive(layer):
    async def work(n):
        begun.append(n)
        await asyncio.Event().wait()

    begun, loop = [], asyncio.new_event_loop()
    task = loop.create_task(idempotent_function(work, persistence_store=layer, config=SHORT)(1))
    while not begun:
        loop.run_until_complete(asyncio.sleep(0))
    beating = [held for held in heart._alive() if getattr(held, "loop", None) is loop]
    assert len(beating) == 1
    loop.close()
    assert beating[0] not in heart._alive()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_until_complete(task)
