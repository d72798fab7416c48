"""How a pause passes: slept through, or waited for by whoever tells of the record; never both, and never neither."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer
from retrysafe.ports import AsyncPorts, SyncPorts
from retrysafe.wishes import Pause, StoreFailed


class Watched:
    """A layer's watch, which fails if it is told to, and notes what it was asked for."""

    def __init__(self, error=None):
        self.error, self.waits, self.is_closed = error, [], False

    def wait(self, seconds, at_most):
        self.waits.append((seconds, at_most))
        if self.error is not None:
            raise self.error

    def close(self):
        self.is_closed = True


class AsyncWatched(Watched):
    async def wait(self, seconds, at_most):
        Watched.wait(self, seconds, at_most)


@pytest.fixture(params=["sync", "async"])
def pause(request, monkeypatch):
    """Carries one pause out on a layer with that watch: its answer, and for how long it slept."""
    is_async, slept = request.param == "async", []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("retrysafe.ports.time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr("retrysafe.ports.monotonic", lambda: 7.0)

    def passed(at_most, watch):
        layer = AsyncMemoryPersistenceLayer() if is_async else MemoryPersistenceLayer()
        layer._watch_record = lambda key: watch
        op = Pause(0.5, "key", at_most)
        if not is_async:
            return SyncPorts(layer).pause(op), slept
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", sleep)
            return asyncio.run(AsyncPorts(layer).pause(op)), slept

    passed.watch = AsyncWatched if is_async else Watched
    return passed


def test_it_is_slept_through_where_it_is_no_wait_for_a_record_or_nobody_tells_of_that(pause):
    watch = pause.watch()
    assert pause(None, watch) == (7.0, [0.5])
    assert watch.waits == []
    assert pause(2.0, None) == (7.0, [0.5, 0.5])


def test_a_layer_that_tells_is_waited_for_and_nothing_is_slept(pause):
    watch = pause.watch()
    assert pause(2.0, watch) == (7.0, [])
    assert watch.waits == [(0.5, 2.0)]


def test_it_is_slept_through_where_the_one_that_tells_fails_which_is_not_asked_again(pause):
    watch = pause.watch(ConnectionError("gone"))
    assert pause(2.0, watch) == (7.0, [0.5])
    assert watch.is_closed


def test_what_interrupts_it_is_its_answer(pause):
    interruption = asyncio.CancelledError()
    assert pause(2.0, pause.watch(interruption)) == (StoreFailed(interruption), [])
