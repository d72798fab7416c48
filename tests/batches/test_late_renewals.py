"""Renewals that a store answers late, when their items have been claimed anew: they say nothing of the new claims."""

from __future__ import annotations

import asyncio
import threading

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent_batch,
    idempotent_function,
)
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.testing import ManualClock

CONFIG = IdempotencyConfig(event_key_jmespath="id", in_progress_expires_after_seconds=0.3)
ORDERS = [{"id": 1}, {"id": 2}]


class LateRenewals(MemoryPersistenceLayer):
    """Answers the first renewal of a key that was lost only when that key's function runs."""

    can_peek = False

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.asked, self.may_look, self.lost, self.runs, self.renewed = (threading.Event() for _ in range(5))

    def _renew_record(self, data_record):
        self.asked.set()
        assert self.may_look.wait(30)
        try:
            super()._renew_record(data_record)
        except IdempotencyLeaseLostError:
            self.lost.set()
            assert self.runs.wait(30)
            raise
        if self.runs.is_set():
            self.renewed.set()


class AsyncLateRenewals(AsyncMemoryPersistenceLayer):
    """The same for asynchronous callers."""

    can_peek = False

    def __init__(self, layer):
        super().__init__(clock=layer.clock)
        self._layer = layer

    async def _renew_record(self, data_record):
        await asyncio.to_thread(self._layer._renew_record, data_record)


def standing_still(layer, clock):
    """While the renewals are under way this machine stands still; a rival takes the second order over, and fails."""

    @idempotent_function(data_keyword_argument="order", persistence_store=layer, config=CONFIG, key_prefix="charge")
    def rival(order):
        raise ValueError(order)

    assert layer.asked.wait(30)
    clock.advance(1)
    with pytest.raises(ValueError, match="2"):
        rival(order=ORDERS[1])
    layer.may_look.set()
    assert layer.lost.wait(30)


def run_on(layer):
    layer.runs.set()
    return layer.renewed.wait(5), current_execution().lease_lost


@pytest.mark.parametrize("blocking", [True, False])
def test_the_lease_of_a_key_that_was_claimed_anew_is_renewed_whatever_a_late_renewal_of_the_old_one_says(blocking):
    clock = ManualClock()
    layer = LateRenewals(clock)
    layer.blocking = blocking

    @idempotent_batch(persistence_store=layer, config=CONFIG, key_prefix="charge")
    def charge(order):
        return standing_still(layer, clock) if order["id"] == 1 else run_on(layer)

    assert [each.answer for each in charge(ORDERS)] == [None, (True, False)]


def test_nor_does_it_where_the_event_loop_renews():
    clock = ManualClock()
    layer = LateRenewals(clock)

    @idempotent_batch(persistence_store=AsyncLateRenewals(layer), config=CONFIG, key_prefix="charge")
    async def charge(order):
        return await (
            asyncio.to_thread(standing_still, layer, clock) if order["id"] == 1 else asyncio.to_thread(run_on, layer)
        )

    assert [each.answer for each in asyncio.run(charge(ORDERS))] == [None, (True, False)]
