"""Every front door leads to the store of `crash_points`, and afterwards back to its own."""

from __future__ import annotations

import sys
import threading

import pytest

from retrysafe import (
    IdempotencyConfig,
    MemoryPersistenceLayer,
    drivers,
    idempotent,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.testing import FailingLayer, crash_points
from support.crashes import AROUND_A_CALL, found, lines, moments, protected, untouchable

ROADS = {"run": drivers.run, "run_async": drivers.run_async}


def roads():
    """Every module of ours that has a driver at hand, and the driver that it has."""
    return {
        (name, road)
        for name, module in sys.modules.items()
        for road, driver in ROADS.items()
        if name.startswith("retrysafe.") and vars(module).get(road) is driver
    }


def test_every_front_door_leads_to_the_test_s_store_and_back_to_its_own_afterwards():
    before, inside = roads(), []

    @protected
    def send(order):
        inside.append(roads())
        return "sent"

    crash_points(send, "o1", effects=lambda: len(inside))
    assert before == roads()
    assert {name for name, _ in before} >= {"retrysafe.drivers", "retrysafe.idempotency", "retrysafe.handler"}
    assert {name for name, _ in inside[0]} == {"retrysafe.testing._crash.detour"}


def test_the_doors_are_given_back_where_the_test_fails():
    before = roads()
    with pytest.raises(ValueError, match="no effect"):
        crash_points(protected(lambda order: order), "o1", effects=[])
    assert roads() == before


def test_blocks_and_handlers_made_on_the_way_keep_their_records_in_the_test_s_store():
    sent = []

    def send(order):
        sent.append(order)
        return "sent"

    def worker(order):
        with idempotent_block(order, key_prefix="block", persistence_store=untouchable()) as block:
            if block.is_first:
                sent.append("block")
                block.answer = "done"
        return IdempotencyHandler(send, order, IdempotencyConfig(), untouchable(), function_args=[order]).handle()

    report = crash_points(worker, "o1", effects=sent)
    assert moments(report) == [*AROUND_A_CALL, *AROUND_A_CALL]
    assert lines(report, "doubled") == [
        'block.answer = "done"',
        'with idempotent_block(order, key_prefix="block", persistence_store=untouchable()) as block:',
        'return "sent"',
    ]


def test_threads_that_the_function_starts_go_their_usual_way():
    layer, sent = FailingLayer(MemoryPersistenceLayer()), []

    @idempotent_function(persistence_store=layer, key_prefix="inner")
    def inner(order):
        return "sent"

    @protected
    def send(order):
        thread = threading.Thread(target=inner, args=[order])
        thread.start()
        thread.join()
        sent.append(order)

    crash_points(send, "o1", effects=sent)
    assert layer.calls["put"] > 0


def test_a_handler_and_the_functions_inside_it_each_have_their_points():
    class Context:
        def get_remaining_time_in_millis(self):
            return 3000

    charged, sent = [], []

    @protected
    def charge(order):
        charged.append(order)

    @idempotent(persistence_store=untouchable(), key_prefix="handler")
    def handler(event, context):
        charge(event["order"])
        sent.append(event["order"])
        return {"statusCode": 201}

    report = crash_points(handler, {"order": "o1"}, Context(), effects=lambda: [*charged, *(f"mail {o}" for o in sent)])
    assert moments(report) == [*AROUND_A_CALL[:2], *AROUND_A_CALL, *AROUND_A_CALL[2:]]
    assert found(report, "doubled") == [
        ("charged.append(order)", "before the answer was stored"),
        ('return {"statusCode": 201}', "before this line"),
        ('return {"statusCode": 201}', "before the answer was stored"),
    ]
