"""A task that is cancelled while the service has its claim is told so when that is settled, and leaves none behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

from retrysafe import idempotent_function
from support.dynamodb_support import async_layer, items_of, new_table


def test_a_claim_is_not_overtaken_by_its_release(service, monkeypatch):
    table = new_table(service.server)
    came, gate, answer = threading.Event(), threading.Event(), service._answer

    def held_up(operation, body, headers):
        if operation == "PutItem":
            came.set()
            gate.wait(20)
        return answer(operation, body, headers)

    monkeypatch.setattr(service, "_answer", held_up)

    async def use():
        async with async_layer(service, table) as layer:

            @idempotent_function(persistence_store=layer, key_prefix="orders")
            async def charge(order):
                return f"receipt for {order}"

            calling = asyncio.ensure_future(charge("order-1"))
            assert await asyncio.to_thread(came.wait, 20)
            calling.cancel()
            assert not (await asyncio.wait({calling}, timeout=0.1))[0]
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await calling

    asyncio.run(use())
    assert "DeleteItem" in service.requests
    assert items_of(service.server, table) == []
