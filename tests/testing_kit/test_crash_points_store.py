"""The store in `crash_points`: a point before and behind each operation, and nothing asked by a call that is dead."""

from __future__ import annotations

import pytest

from retrysafe import DataRecord, MemoryPersistenceLayer, current_execution, idempotent_function
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.testing import FailingLayer, crash_points
from retrysafe.testing._crash.layers import LifeLayer
from retrysafe.testing._crash.life import Killed, Life
from support.crashes import AROUND_A_CALL, moments, protected


def test_each_operation_of_the_store_is_a_point_before_it_and_one_after_it():
    sent = []

    @protected
    def send(order):
        sent.append(order)
        return current_execution().still_owner()

    assert moments(crash_points(send, "o1", effects=sent)) == [
        *AROUND_A_CALL[:2],
        "before the record was read",
        "after the record was read; the reply is lost",
        *AROUND_A_CALL[2:],
    ]


def test_each_point_is_tried_once_and_numbered_in_the_order_of_an_undisturbed_call():
    sent = []

    @protected
    def send(order):
        sent.append(order)

    report = crash_points(send, "o1", effects=sent)
    assert [point.number for point in report.points] == list(range(report.total + 1))
    assert report.total == 5, "two around the claim, one line, two around the answer"


class Worlds:
    """Makes a new counting layer for each point, and keeps them all."""

    def __init__(self):
        self.layers = []

    def make_layer(self, clock):
        self.layers.append(FailingLayer(MemoryPersistenceLayer(clock=clock)))
        return self.layers[-1]


def test_a_dead_call_neither_completes_nor_releases_nor_asks_the_store_anything():
    worlds, sent = Worlds(), []

    @protected
    def send(order):
        sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent, make_layer=worlds.make_layer)
    calls = {point.number: layer.calls for point, layer in zip(report.points, worlds.layers[2:], strict=True)}
    at_a_line = {"get": 0, "put": 4, "update": 1, "delete": 0, "renew": 0}
    assert calls[3] == calls[4] == at_a_line, "the dead one's claim; a claim refused and taken over; a duplicate"
    assert {layer.calls["delete"] for layer in worlds.layers} == {0}
    assert calls[1]["put"] == 2, "the dead one's claim did not get through"
    assert calls[6] == at_a_line | {"put": 3}, "the answer is stored, so the retry is a duplicate like the next"


def test_the_heartbeat_of_a_dead_call_is_refused_as_one_whose_lease_is_lost():
    life = Life(MemoryPersistenceLayer(), kill_at=0)
    layer = LifeLayer(life)
    claim = DataRecord("key", "INPROGRESS", owner="dead")
    with pytest.raises(Killed):
        layer._put_record(claim)
    with pytest.raises(IdempotencyLeaseLostError, match="its process is dead"):
        layer._renew_record(claim)


def test_a_dead_call_tells_no_event():
    events, sent = [], []

    @protected(event_hook=lambda event: events.append(event.name))
    def send(order):
        sent.append(order)
        return "sent"

    crash_points(send, "o1", effects=sent)
    assert "released" not in events
    assert {"claimed", "taken over", "completed", "replayed"} == set(events)


def test_the_function_s_own_layer_is_never_asked_and_works_as_before_afterwards():
    layer, sent = FailingLayer(MemoryPersistenceLayer()), []

    @idempotent_function(persistence_store=layer, key_prefix="send")
    def send(order):
        sent.append(order)
        return "sent"

    crash_points(send, "o1", effects=sent)
    assert set(layer.calls.values()) == {0}
    assert send("o1") == "sent"
    assert layer.calls["put"] == layer.calls["update"] == 1
