"""Where a test has stopped the time, leases and windows stand still, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import runpy
import sys
import time
from functools import partial

import pytest

from retrysafe import IdempotencyConfig, clock, idempotent_function
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from retrysafe.persistence.datarecord import INPROGRESS
from support.batches import Work, one_at_a_time, orders, over_many, statuses
from support.bodies import plant
from support.renewals import SHORT, SyncLayer

WAIT = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait", wait_timeout_seconds=0.1)


@pytest.fixture(autouse=True)
def _stopped_time(monkeypatch):
    """What freezegun does with `real_asyncio`: functions of its own for those of `time`, wherever a module has them."""
    real_monotonic = time.monotonic
    monkeypatch.setattr(asyncio.SelectorEventLoop, "time", lambda _: real_monotonic())
    standing = {id(real): partial(lambda now: now, real()) for real in (time.time, time.time_ns, time.monotonic)}
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "threading") in ("threading", "queue"):
            continue
        for name, value in list(vars(module).items()):
            if id(value) in standing:
                monkeypatch.setattr(module, name, standing[id(value)])


def running_elsewhere(flavour, layer):
    plant(flavour, layer, status=INPROGRESS, owner="other", in_progress_expiry_timestamp=time.time_ns() // 1_000_000)


def test_a_wait_ends_with_its_limit(flavour):
    layer, work = flavour.layer(), Work()
    charge = one_at_a_time(flavour, work, layer, WAIT)
    charge({"id": 1})
    running_elsewhere(flavour, layer)
    with pytest.raises(IdempotencyAlreadyInProgressError, match="after waiting"):
        charge({"id": 1})


def test_so_does_that_of_a_batch(flavour):
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer, WAIT)
    charge(orders(1))
    running_elsewhere(flavour, layer)
    assert statuses(charge(orders(1, 2))) == ["in_progress", "returned"]


def test_leases_are_renewed_as_a_server_judges_them_by_a_clock_of_its_own():
    layer = SyncLayer()
    idempotent_function(lambda order: layer.counting.wait_for(3), persistence_store=layer, config=SHORT)(1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is nothing else to ask")
def test_where_it_is_imported_only_then_the_clock_of_pauses_goes_on_all_the_same():
    monotonic = runpy.run_path(clock.__file__)["monotonic"]
    before = monotonic()
    time.sleep(0.001)
    assert monotonic() > before
