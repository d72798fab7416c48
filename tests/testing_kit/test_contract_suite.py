"""The frame of the contract suite: its hooks, how it is run, and how it fails."""

from __future__ import annotations

import asyncio
import threading
import unittest

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.testing import PersistenceLayerContract
from support.four_methods import FourMethodLayer
from support.honest_layers import HonestLayer
from support.own_clock import OwnClockLayer


def test_unittest_runs_the_suite_and_tells_what_it_skips():
    class MyLayerTest(PersistenceLayerContract, unittest.TestCase):
        renews = False

        def make_layer(self, clock):
            return MemoryPersistenceLayer(clock=clock)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(MyLayerTest).run(result)
    assert (result.testsRun, result.failures, result.errors) == (len(PersistenceLayerContract.checks()), [], [])
    assert "MyLayerTest declares renews = False" in {reason for _, reason in result.skipped}


def test_hooks_of_an_asynchronous_layer_may_be_coroutines():
    closed = []

    class Contract(PersistenceLayerContract):
        async def make_layer(self, clock):
            assert asyncio.get_running_loop()
            return AsyncMemoryPersistenceLayer(clock=clock)

        async def second_layer(self, layer):
            return layer

        async def advance(self, seconds):
            self.clock.advance(seconds)

        async def plant(self, layer, data_record):
            await layer._put_record(data_record)

        async def plant_unreadable(self, layer, idempotency_key):
            return False

        async def close_layer(self, layer):
            closed.append(layer)

    assert Contract.broken_promises() == {}
    assert len(closed) >= len(Contract.checks()) - 2


def test_a_failed_check_closes_its_layers():
    closed = []

    class Forgetful(MemoryPersistenceLayer):
        def _put_record(self, data_record):
            pass

        def close(self):
            closed.append(self)

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return Forgetful(clock=clock)

        def second_layer(self, layer):
            return Forgetful(clock=self.clock)

    with pytest.raises(AssertionError, match="must stand in its way"):
        Contract().test_every_layer_object_on_a_store_sees_the_same()
    assert len(set(map(id, closed))) == len(closed) == 2


def test_a_suite_without_a_layer_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="write make_layer"):
        PersistenceLayerContract().test_the_owner_releases_its_record()

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return MemoryPersistenceLayer

    with pytest.raises(TypeError, match="must give a persistence layer"):
        Contract().test_the_owner_releases_its_record()


def test_a_hook_that_gives_nothing_is_told_by_its_name():
    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return MemoryPersistenceLayer(clock=clock)

        def second_layer(self, layer):
            pass

        def plant_unreadable(self, layer, idempotency_key):
            layer._records[idempotency_key] = None

    with pytest.raises(AssertionError, match=r"second_layer\(\) must give a persistence layer; it gave None"):
        Contract().test_every_layer_object_on_a_store_sees_the_same()
    with pytest.raises(AssertionError, match=r"plant_unreadable\(\) must return True"):
        Contract().test_what_is_no_record_is_never_overwritten()


def test_a_layer_that_was_not_handed_the_clock_is_not_judged_by_it():
    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return MemoryPersistenceLayer()

    with pytest.raises(TypeError, match=r"make_layer\(\) must hand the clock"):
        Contract().test_the_owner_releases_its_record()


def test_a_refusal_that_carries_no_record_is_told_as_such():
    class Telling(MemoryPersistenceLayer):
        def _put_record(self, data_record):
            try:
                super()._put_record(data_record)
            except IdempotencyItemAlreadyExistsError as error:
                error.old_data_record = {"status": "INPROGRESS"}
                raise

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return Telling(clock=clock)

    with pytest.raises(AssertionError, match=r"carries \{'status': 'INPROGRESS'\} as old_data_record"):
        Contract().test_every_layer_object_on_a_store_sees_the_same()


def test_a_layer_without_renewals_must_declare_it():
    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            layer = FourMethodLayer(now=lambda: clock.now_ms() / 1000)
            layer.clock = clock
            return layer

    with pytest.raises(AssertionError, match="declare renews = False"):
        Contract().test_an_outcome_cannot_be_renewed()


def test_rivals_that_never_come_back_fail_the_check(monkeypatch):
    monkeypatch.setattr("retrysafe.testing._contract.driving.STUCK_SECONDS", 0.2)
    let_go = threading.Event()

    class Deadlocked(MemoryPersistenceLayer):
        def _put_record(self, data_record):
            let_go.wait()

    class Contract(PersistenceLayerContract):
        rivals = 2

        def make_layer(self, clock):
            return Deadlocked(clock=clock)

    try:
        with pytest.raises(AssertionError, match="never came back"):
            Contract().test_one_of_many_rivals_claims_a_free_key()
    finally:
        let_go.set()


def test_asynchronous_rivals_that_never_come_back_fail_the_check(monkeypatch):
    monkeypatch.setattr("retrysafe.testing._contract.driving.STUCK_SECONDS", 0.2)

    class Deadlocked(AsyncMemoryPersistenceLayer):
        async def _put_record(self, data_record):
            await asyncio.Event().wait()

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return Deadlocked(clock=clock)

    with pytest.raises(AssertionError, match="never came back"):
        Contract().test_one_of_many_rivals_claims_a_free_key()


def test_a_lock_that_is_held_over_fails_the_check(monkeypatch):
    monkeypatch.setattr("retrysafe.testing._contract.driving.STUCK_SECONDS", 0.2)

    class LeavesATransactionOpen(HonestLayer):
        """As with a connection for each layer object, and a refusal that neither commits nor rolls back."""

        def told(self, standing, claim):
            self.lock.acquire()
            return standing

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return LeavesATransactionOpen(clock=clock)

    with pytest.raises(AssertionError, match="never came back: a lock is held over, or a transaction was left open"):
        Contract().test_every_layer_object_on_a_store_sees_the_same()


def test_a_store_with_a_clock_may_take_its_time():
    class Slow(OwnClockLayer):
        def _put_record(self, data_record):
            self.clock.advance(5)
            super()._put_record(data_record)

    class Contract(PersistenceLayerContract):
        own_clock = True

        def make_layer(self, clock):
            return Slow(clock=clock, store_clock=clock)

    Contract().test_a_claim_on_a_free_key_wins_and_reads_back_equal()


def test_a_layer_that_reads_no_unknown_status_is_told_which_hook_to_write():
    class AsPeersWriteIt(MemoryPersistenceLayer):
        def _put_record(self, data_record):
            assert data_record.status
            super()._put_record(data_record)

    class Contract(PersistenceLayerContract):
        def make_layer(self, clock):
            return AsPeersWriteIt(clock=clock)

    with pytest.raises(AssertionError, match=r"takes no record of unknown status: write plant\(\)"):
        Contract().test_a_record_of_unknown_status_is_never_overwritten()
