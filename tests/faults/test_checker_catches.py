"""The checker at real stores: a right layer passes; one without fence, atomic step or memory is found out."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.recorded import Recorded
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyItemNotFoundError
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from servers import programs
from servers.dynamodb import Moto
from support.dynamodb_support import new_table, session, sync_layer

# --- layers with a bug, over any right one ----------------------------------------------------------------------------


class NotFenced:
    """An update that ignores the owner, and replaces whatever stands."""

    def _update_record(self, data_record):
        self._put_record(data_record.replaced(replaces=self._get_record(data_record.idempotency_key)))


class ChecksThenPuts:
    """A put in two steps; `between` is what happens between the two, once."""

    between = None

    def _put_record(self, data_record):
        standing = self._standing(data_record.idempotency_key)
        between, self.between = self.between, None
        if between is not None:
            between()
        if standing is not None:
            raise IdempotencyItemAlreadyExistsError(old_data_record=standing)
        super()._put_record(data_record.replaced(replaces=self._standing(data_record.idempotency_key)))

    def _standing(self, idempotency_key):
        try:
            return self._get_record(idempotency_key)
        except IdempotencyItemNotFoundError:
            return None


class Forgets:
    """A completion that is acknowledged, and not stored."""

    def _update_record(self, data_record):
        pass


class IsRight:
    """No bug."""


# --- real stores ------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_sqlite(tmp_path, clock):
    def opened(bug):
        layer = type(bug.__name__, (bug, SQLitePersistenceLayer), {})
        return layer(tmp_path / "records.db", synchronous="off", clock=clock), clock.advance

    return opened


@pytest.fixture
def on_a_cache(valkey_91_clock):
    def opened(bug):
        layer = type(bug.__name__, (bug, CachePersistenceLayer), {})
        valkey_91_clock.command("FLUSHALL")
        return layer(host=valkey_91_clock.host, port=valkey_91_clock.port, ssl=False), valkey_91_clock.advance

    return opened


@pytest.fixture
def on_dynamodb(dynoxide, clock):
    def opened(bug):
        layer = type(bug.__name__, (bug, DynamoDBPersistenceLayer), {})
        table = new_table(dynoxide)
        return layer(table, boto3_session=session(), endpoint_url=dynoxide.url, clock=clock), clock.advance

    return opened


@pytest.fixture(params=["on_sqlite", "on_a_cache", "on_dynamodb"])
def recorded(request, tmp_path):
    """The function on a layer with this bug."""
    made = []

    def make(bug):
        layer, move = request.getfixturevalue(request.param)(bug)
        made.append(Recorded(layer, tmp_path, move))
        return made[0]

    yield make
    for each in made:
        each.close()
        each.layer.close()


def rules(recorded):
    return {violation.rule for violation in recorded.checked().violations}


# --- a late owner -----------------------------------------------------------------------------------------------------


def a_late_owner(recorded):
    """One is still running when its lease is over, and another takes over, runs and is answered."""

    def late():
        recorded.outlive_lease()
        recorded.call("order")

    recorded.call("order", late)
    recorded.call("order")


def test_a_late_owner_that_meets_a_fence_is_in_order(recorded):
    right = recorded(IsRight)
    a_late_owner(right)
    report = right.checked()
    assert report.violations == []
    assert (report.executions, report.answers, report.further) == (2, 2, {"lapse": 1})


def test_a_late_owner_that_meets_none_is_found(recorded):
    wrong = recorded(NotFenced)
    a_late_owner(wrong)
    assert "all callers get the same answer" in rules(wrong)


# --- a rival at the same moment ---------------------------------------------------------------------------------------


def test_a_rival_between_the_steps_of_a_put_is_found(recorded):
    wrong = recorded(ChecksThenPuts)
    wrong.layer.between = lambda: wrong.call("order")
    wrong.call("order")
    assert {"what was acknowledged is not forgotten", "all callers get the same answer"} <= rules(wrong)


def test_a_rival_that_runs_between_the_steps_of_a_put_is_found(recorded):
    """It began before, and ends after the other's run."""
    wrong = recorded(ChecksThenPuts)
    inside, outside = threading.Event(), threading.Event()

    def rival():
        inside.set()
        assert outside.wait(30)

    with ThreadPoolExecutor(1) as threads:

        def let_in():
            threads.submit(wrong.call, "order", rival)
            assert inside.wait(30)

        wrong.layer.between = let_in
        wrong.call("order")
        outside.set()
    assert "runs whose lease runs are never concurrent" in rules(wrong)


def test_put_in_one_step_lets_only_one_of_two_rivals_run(recorded):
    right = recorded(IsRight)
    right.call("order", lambda: right.call("order"))
    right.call("order")
    report = right.checked()
    assert report.violations == []
    assert (report.executions, report.answers) == (1, 2)


# --- a forgotten answer -----------------------------------------------------------------------------------------------


def test_a_completion_that_is_forgotten_is_found(recorded):
    wrong = recorded(Forgets)
    wrong.call("order")
    wrong.outlive_lease()
    wrong.call("order")
    assert "what was acknowledged is not forgotten" in rules(wrong)


def test_a_completion_that_is_kept_is_in_order(recorded):
    right = recorded(IsRight)
    right.call("order")
    right.outlive_lease()
    right.call("order")
    report = right.checked()
    assert report.violations == []
    assert (report.executions, report.answers) == (1, 2)


# --- a server without atomic steps ------------------------------------------------------------------------------------

RIVALS = 8


class EagerMoto(Moto):
    """moto as it is, with threads that take turns much more often: its races come within some keys, not hundreds."""

    def arguments(self):
        program, *_, address, _, port = super().arguments()
        start = "import sys; sys.setswitchinterval(1e-5); from moto.server import main; main(sys.argv[1:])"
        return [program, "-c", start, "-H", address, "-p", port]


def races(recorded, keys):
    """Rivals call each of the keys at the same moment; the broken rules, as soon as there are any."""
    together = threading.Barrier(RIVALS)

    def rival(key):
        together.wait()
        recorded.call(key)

    found = set()
    with ThreadPoolExecutor(RIVALS) as threads:
        for number in range(keys):
            list(threads.map(rival, [f"order {number}"] * RIVALS))
            if number % 8 == 7:
                found = rules(recorded)
            if found:
                break
    return found


def test_the_races_of_a_server_without_atomic_steps_are_found(start, tmp_path):
    server = start(EagerMoto(programs.moto()))
    with contextlib.closing(sync_layer(server, new_table(server))) as layer:
        found = races(Recorded(layer, tmp_path), keys=1000)
    # Which of them, depends on where the rival struck: beside a run, behind it, or behind its completion.
    assert found & {
        "runs whose lease runs are never concurrent",
        "a further run is explained",
        "what was acknowledged is not forgotten",
    }


def test_the_same_races_at_a_server_with_atomic_steps_are_in_order(dynoxide, tmp_path):
    with contextlib.closing(sync_layer(dynoxide, new_table(dynoxide))) as layer:
        recorded = Recorded(layer, tmp_path)
        assert races(recorded, keys=24) == set()
    assert recorded.checked().executions == 24
