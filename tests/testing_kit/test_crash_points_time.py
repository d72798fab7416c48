"""Time in `crash_points`: leases lapse without waiting, also on a layer of one's own."""

from __future__ import annotations

import time

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.testing import ManualClock, crash_points
from support.crashes import AROUND_A_CALL, lines, protected


def test_leases_lapse_and_retries_get_through_without_waiting(monkeypatch):
    sent = []

    @protected(in_progress_expires_after_seconds=3600, on_in_progress="wait")
    def send(order):
        sent.append(order)

    monkeypatch.setattr(time, "sleep", pytest.fail)
    report = crash_points(send, "o1", effects=sent)
    assert {point.retries for point in report.points if point.kind != "none"} == {1}


def test_a_window_shorter_than_the_lease_does_not_end_while_the_lease_lapses():
    sent = []

    @protected(in_progress_expires_after_seconds=3600, expires_after_seconds=1)
    def send(order):
        sent.append(order)

    report = crash_points(send, "o1", effects=sent)
    assert report.points[-1].what == AROUND_A_CALL[3]
    assert report.points[-1].verdict == "ok"


def test_a_layer_of_one_s_own_can_be_used_and_is_closed(tmp_path):
    files, sent = [], []

    class Closing(SQLitePersistenceLayer):
        def close(self):
            super().close()
            files.remove(self)

    def make_layer(clock):
        files.append(Closing(tmp_path / f"{len(sent)}.db", clock=clock))
        return files[-1]

    @protected
    def send(order):
        sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent, make_layer=make_layer)
    assert lines(report, "doubled") == ['return "sent"']
    assert files == []


def test_a_layer_with_a_clock_of_its_own_is_told_how_time_passes():
    clock, passed, sent = ManualClock(), [], []

    @protected
    def send(order):
        sent.append(order)

    def advance(seconds):
        passed.append(seconds)
        clock.advance(seconds)

    crash_points(send, "o1", effects=sent, make_layer=lambda _: MemoryPersistenceLayer(clock=clock), advance=advance)
    assert set(passed) == {30.001}


def test_a_layer_whose_leases_nobody_can_let_lapse_is_refused():
    with pytest.raises(ValueError, match="hand the clock"):
        crash_points(protected(lambda order: order), "o1", effects=[], make_layer=lambda _: MemoryPersistenceLayer())


def test_an_asynchronous_layer_does_not_serve_a_synchronous_function():
    with pytest.raises(ValueError, match="make_layer made an asynchronous layer"):
        crash_points(
            protected(lambda order: order),
            "o1",
            effects=[],
            make_layer=lambda clock: AsyncMemoryPersistenceLayer(clock=clock),
        )
