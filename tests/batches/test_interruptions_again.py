"""Batches that are interrupted more than once: which interruption their callers see, and that there is an end to it."""

from __future__ import annotations

import sys

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer
from retrysafe._batch.state import Batch
from retrysafe.events import Released
from retrysafe.testing import FailingLayer
from support.batches import orders
from support.interrupted_batches import over_many, recorded


class Torn(BaseException):
    """An interruption: one of KeyboardInterrupt's kind, which no event loop treats in a way of its own."""


def test_a_second_interruption_while_keys_are_freed_leaves_none_behind():
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("delete", call=1, error=KeyboardInterrupt)

    def work(order):
        if order["id"] == 2:
            raise SystemExit
        return order["id"]

    with pytest.raises(SystemExit):
        over_many(work, layer)(orders(1, 2, 3, 4))
    assert recorded(inner) == ["1"]


def test_an_interruption_that_strikes_where_another_one_is_caught_changes_nothing():
    layer, runs = MemoryPersistenceLayer(), []

    def work(order):
        runs.append(str(order["id"]))
        if order["id"] == 3:
            raise KeyboardInterrupt
        return order["id"]

    def strike(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "_note":
            sys.setprofile(None)
            raise Torn

    sys.setprofile(strike)
    try:
        with pytest.raises(Torn):
            over_many(work, layer, record_after_seconds=3600)(orders(1, 2, 3, 4))
    finally:
        sys.setprofile(None)
    assert recorded(layer) == ["1", "2"]


def test_whoever_interrupts_again_and_again_gets_out(flavour, monkeypatch):
    strikes, stop = [], Batch.stop

    def strike(*_):
        strikes.append(Torn())
        raise strikes[-1]

    # Where the batch sees to what an interruption tore; at some time there is an end, also to a test that fails.
    monkeypatch.setattr(Batch, "stop", lambda *args: strike() if len(strikes) < 50 else stop(*args))
    charge = flavour.caller(over_many(flavour.body(strike), flavour.layer()))
    with pytest.raises(Torn):
        charge(orders(1, 2))
    assert len(strikes) <= 5


def test_of_several_interruptions_the_first_one_is_raised(flavour):
    class Later(BaseException):
        """Strikes while the first one is seen to."""

    def strike(event):
        if isinstance(event, Released) and not heard:
            heard.append(event)
            raise Later

    def work(order):
        raise Torn

    layer, heard = flavour.layer(), []
    config = IdempotencyConfig(event_key_jmespath="id", event_hook=strike)
    with pytest.raises(Torn):
        flavour.caller(over_many(flavour.body(work), layer, config))(orders(1, 2, 3))
    assert len(heard) == 1
    assert recorded(flavour.inner(layer)) == []
