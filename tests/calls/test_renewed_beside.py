"""What is renewed beside an event loop that something blocks: which runs, when, and until when."""

from __future__ import annotations

import asyncio
import threading
from math import inf
from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer
from retrysafe._batch.keeping import AsyncKeeper
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.heartbeat import Heart
from retrysafe.heartbeat_async import AsyncHeart
from retrysafe.heartbeat_beside import Beside
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from support.renewals import a_run

OPEN = SimpleNamespace(is_closed=lambda: False)


class EachLoopItsOwn(AsyncMemoryPersistenceLayer):
    """As if it opened a client in each event loop; notes what is renewed, and fails if it is told to."""

    _opens_in_each_loop = True

    def __init__(self):
        super().__init__()
        self.renewed, self.error = [], None

    async def _renew_record(self, data_record):
        if self.error is not None:
            raise self.error
        self.renewed.append(data_record.idempotency_key)


@pytest.fixture
def now(monkeypatch):
    """The time for all renewals; the run's lease is of half a minute, so they are 10 s apart."""
    now = [100.0]
    for module in ("heartbeat", "heartbeat_beside", "_batch.leases", "_batch.keeping"):
        monkeypatch.setattr(f"retrysafe.{module}.monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def heart(monkeypatch):
    """One whose thread does nothing."""
    heart = Heart()
    heart._thread, heart._wake = threading.current_thread(), SimpleQueue()
    for module in ("heartbeat_beside", "_batch.keeping"):
        monkeypatch.setattr(f"retrysafe.{module}.heart", heart)
    return heart


@pytest.fixture
def layer():
    return EachLoopItsOwn()


def no_client(_):
    raise OSError("too many open files")


def run_on(layer, clock, payload=1):
    run = a_run(clock, MemoryPersistenceLayer(clock=clock), payload)
    run.store = layer
    return run


def test_runs_are_renewed_when_two_thirds_of_their_lease_are_over_and_then_every_third(now, heart, layer, clock):
    beside, first, second = Beside(OPEN), run_on(layer, clock, 1), run_on(layer, clock, 2)
    beside.start(first)
    now[0] += 5
    beside.start(second)
    assert (beside.renewal_due, beside in heart._alive()) == (120, True)
    now[0] = 120.0
    assert beside.beat() is True
    assert layer.renewed == [first.idempotency_key]
    assert beside.renewal_due == 125
    now[0] = 130.0
    beside.beat()
    assert sorted(layer.renewed[1:]) == sorted([first.idempotency_key, second.idempotency_key])
    assert beside.renewal_due == 140


def test_a_renewal_that_fails_is_tried_again_after_a_quarter_of_that_time(now, layer, clock):
    beside, run = Beside(OPEN), run_on(layer, clock)
    beside.start(run)
    layer.error, now[0] = ConnectionError("gone"), 120.0
    beside.beat()
    assert (beside.renewal_due, run.lease_lost) == (122.5, False)


def test_so_it_is_where_no_client_can_be_opened(now, layer, clock, monkeypatch):
    beside, run = Beside(OPEN), run_on(layer, clock)
    beside.start(run)
    monkeypatch.setattr(EachLoopItsOwn, "__aenter__", no_client)
    now[0] = 120.0
    assert beside.beat() is True
    assert beside.renewal_due == 122.5


@pytest.mark.parametrize("end", ["lost", "over", "stopped"])
def test_a_run_that_has_lost_its_lease_or_is_over_is_left_alone(now, layer, clock, end):
    beside, run = Beside(OPEN), run_on(layer, clock)
    beside.start(run)
    now[0] = 120.0
    if end == "lost":
        layer.error = IdempotencyLeaseLostError("gone")
        beside.beat()
        assert run.lease_lost is True
        layer.error = None
    elif end == "over":
        run.over = True
    else:
        beside.stop(run)
    beside.beat()
    assert (layer.renewed, beside.renewal_due) == ([], inf)


def test_what_ends_a_run_ends_its_renewals_on_both_sides(layer, clock):
    async def main():
        beating, run = AsyncHeart(asyncio.get_running_loop()), run_on(layer, clock)
        beating.start(run)
        before = set(beating._beside._runs)
        beating.stop(run)
        return before == {run}, beating._beside._runs, beating._runs

    assert asyncio.run(main()) == (True, set(), {})


# --- batches ----------------------------------------------------------------------------------------------------------


def a_keeper(layer, clock):
    """What keeps a batch, one of whose keys is claimed, in the event loop that runs."""
    run = a_run(clock, MemoryPersistenceLayer(clock=clock))
    item = SimpleNamespace(call=run.call, claim=run.claim, is_lost=False)
    return AsyncKeeper(SimpleNamespace(claimed={run.idempotency_key: item}), layer, 0.1), run.idempotency_key


def test_a_batch_is_renewed_by_its_loop_and_an_interval_later_beside_it(now, layer, clock):
    async def main():
        keeper, key = a_keeper(layer, clock)
        keeper.claimed()
        assert keeper._timer is not None
        return keeper, key

    keeper, key = asyncio.run(main())
    assert (keeper.leases.due, keeper._beside.renewal_due) == (110, 120)
    assert keeper._beside.beat() is False  # whose loop is closed
    keeper._beside._loop = OPEN
    assert keeper._beside.beat() is True
    assert layer.renewed == [key]


def test_and_by_the_thread_alone_where_the_layer_works_in_threads(heart, tmp_path, clock):
    async def main():
        keeper, _ = a_keeper(ThreadedPersistenceLayer(layer), clock)
        keeper.claimed()
        looked_after = keeper._beside in heart._alive()
        keeper.end()
        return keeper._timer, keeper._beside.store is layer, looked_after, keeper._beside in heart._alive()

    with SQLitePersistenceLayer(tmp_path / "i.db") as layer:
        assert asyncio.run(main()) == (None, True, True, False)


def test_where_no_client_can_be_opened_a_batch_is_tried_again_sooner(now, layer, clock, monkeypatch):
    async def main():
        return a_keeper(layer, clock)[0]

    keeper = asyncio.run(main())
    keeper._beside._loop = OPEN
    monkeypatch.setattr(EachLoopItsOwn, "__aenter__", no_client)
    assert keeper._beside.beat() is True
    assert keeper.leases.due == 102.5


# --- which layers -----------------------------------------------------------------------------------------------------


def test_only_a_layer_that_renews_many_at_once_is_renewed_by_the_one_thread(tmp_path):
    class Slow(SQLitePersistenceLayer):
        def _renew_record(self, data_record):
            super()._renew_record(data_record)

    class Noting(ThreadedPersistenceLayer):
        async def _renew_record(self, data_record):
            await super()._renew_record(data_record)

    with SQLitePersistenceLayer(tmp_path / "i.db") as layer, Slow(tmp_path / "j.db") as slow:
        assert ThreadedPersistenceLayer(layer)._in_threads is layer
        assert ThreadedPersistenceLayer(slow)._in_threads is None
        assert ThreadedPersistenceLayer(MemoryPersistenceLayer())._in_threads is None
        assert Noting(layer)._in_threads is None
