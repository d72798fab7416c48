"""Clocks: DynamoDB judges by the time it is told, so a machine whose clock is wrong must not overwrite anything."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe import DataRecord, IdempotencyConfig, idempotent_function
from retrysafe.clock import SystemClock
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyItemAlreadyExistsError
from retrysafe.persistence._dynamodb.commands import REFUSED, Commands
from retrysafe.persistence._dynamodb.items import Items
from retrysafe.persistence._dynamodb.service_time import ServiceTime
from retrysafe.persistence._dynamodb.steps import RecordSteps, _moved
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.wire import AttributeNames
from retrysafe.testing.clock import ManualClock
from servers import programs
from support.bodies import counted
from support.dynamodb_support import OffClock, client_at, items_of, new_table

HOUR_MS = 3_600_000

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


# --- the estimate, by itself ------------------------------------------------------------------------------------------


class World:
    """The service's clock, which is right, a machine's, which is `ahead_ms`, and the machine's monotonic one."""

    def __init__(self, ahead_ms=0):
        self.now_ms = 1_795_302_658_494
        self.ahead_ms = ahead_ms
        world = self

        class Clock(SystemClock):
            def now_ms(self):
                return world.now_ms + world.ahead_ms

        self.time = ServiceTime(Clock(), 5.0, monotonic=lambda: world.now_ms / 1000)

    def reply(self, there_ms=3, back_ms=3, *, date=True):
        """One request and its reply."""
        sent_at = self.time.stopwatch()
        self.now_ms += there_ms
        headers = {"date": formatdate(self.now_ms // 1000, usegmt=True)} if date else {}
        self.now_ms += back_ms
        self.time.note({"ResponseMetadata": {"HTTPHeaders": headers}}, sent_at)


@given(
    ahead_ms=st.integers(-10_000_000, 10_000_000) | st.integers(-3000, 3000),
    trips=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 100_000)), min_size=1, max_size=8
    ),
)
def test_a_correction_never_goes_past_the_truth_and_leaves_less_than_a_second_and_a_round_trip(ahead_ms, trips):
    world = World(ahead_ms)
    for there, back, pause in trips:
        world.reply(there, back)
        world.now_ms += pause
        error = -ahead_ms - world.time.skew_ms
        assert abs(world.time.skew_ms) <= abs(ahead_ms)
        assert world.time.skew_ms * -ahead_ms >= 0
        assert abs(error) <= 1000 + there + back + 3


@given(
    trips=st.lists(
        st.tuples(
            st.integers(-3000, 3000) | st.integers(-10_000_000, 10_000_000), st.integers(0, 3000), st.integers(0, 3000)
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_no_lease_counts_as_over_a_second_early_whatever_the_clock_does_and_however_slow_replies_are(trips):
    world = World()
    for ahead_ms, there, back in trips:
        world.ahead_ms = ahead_ms
        world.reply(there, back)
        assert world.time.judging_ms() - world.now_ms < 1000


@given(there=st.integers(0, 3000), back=st.integers(0, 3000))
def test_by_a_right_clock_a_lease_is_over_no_later_than_by_as_much_as_its_reply_was_on_the_way(there, back):
    world = World()
    world.reply(there, back)
    assert 0 <= world.now_ms - world.time.judging_ms() <= back


@pytest.mark.parametrize("asks", [True, False])
def test_a_claim_spares_what_is_over_by_this_machines_clock_alone(asks, monkeypatch):
    """A request that was long on its way shows too little of how far that clock is ahead."""
    if not asks:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    world = World(ahead_ms=3500)
    items = Items(AttributeNames(), "id", None, "")
    now = world.time.caller_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="late", made_at_ms=now)
    steps = RecordSteps(Commands("orders", items), items, world.time).put(claim)
    assert next(steps).operation == ("GetItem" if asks else "PutItem")
    world.now_ms += 3000
    second = world.now_ms // 1000
    done = DataRecord("orders#1", COMPLETED, second + 1, response_data="1", owner="first")
    headers = {"date": formatdate(second, usegmt=True)}
    reply = {"Item": items.item(done), "ResponseMetadata": {"HTTPHeaders": headers}}
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send(reply if asks else reply | {"Error": {"Code": REFUSED}})
    assert refused.value.old_data_record == done


@pytest.mark.parametrize("operation", ["put", "renew"])
@pytest.mark.parametrize("hours", [0, 2, -2])
@pytest.mark.parametrize(("lease_ms", "late_ms"), [(30_000, 20_000), (HOUR_MS, 61_000)])
def test_a_lease_that_took_long_to_get_through_begins_anew_by_the_services_clock(operation, hours, lease_ms, late_ms):
    world = World(hours * HOUR_MS)
    world.reply()
    items = Items(AttributeNames(), "id", None, "")
    now = world.time.caller_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 7200, now + lease_ms, owner="me", made_at_ms=now)
    steps = getattr(RecordSteps(Commands("orders", items), items, world.time), operation)(claim)
    assert next(steps).operation == ("PutItem" if operation == "put" else "UpdateItem")
    world.now_ms += late_ms
    headers = {"date": formatdate(world.now_ms // 1000, usegmt=True)}
    again = steps.send({"ResponseMetadata": {"HTTPHeaders": headers}})
    assert again.operation == "UpdateItem"
    values = again.parameters["ExpressionAttributeValues"]
    assert abs(int(values[":lease"]["N"]) - (world.now_ms + lease_ms)) < 1100
    assert abs(int(values[":expiry"]["N"]) * 1000 - (world.now_ms + 7_200_000)) < 2100


@pytest.mark.parametrize("ahead_ms", [1500, -1500])
def test_further_replies_narrow_the_estimate(ahead_ms):
    world = World(ahead_ms)
    errors = []
    for _ in range(40):
        world.reply()
        errors.append(abs(-ahead_ms - world.time.skew_ms))
        world.now_ms += 137
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 150


def test_nothing_is_certain_before_the_first_reply_and_after_a_leap():
    world = World()
    assert world.time.is_doubtful
    world.reply()
    assert not world.time.is_doubtful
    world.now_ms += 10_000_000
    assert not world.time.is_doubtful
    world.ahead_ms = HOUR_MS
    assert world.time.is_doubtful
    world.reply()
    assert not world.time.is_doubtful
    assert -HOUR_MS <= world.time.skew_ms < -HOUR_MS + 1010


def test_a_clock_that_is_set_right_is_not_corrected_any_more():
    world = World(HOUR_MS)
    world.reply()
    world.ahead_ms = 0
    world.reply()
    assert world.time.skew_ms == 0


def test_a_clock_that_drifts_is_followed():
    world = World()
    for _ in range(200):
        world.reply()
        world.now_ms += 400
        world.ahead_ms += 20
    assert -4000 <= world.time.skew_ms < -2900


def test_a_service_that_does_not_say_the_time_leaves_the_clock_as_it_is():
    world = World(HOUR_MS)
    world.reply(date=False)
    assert (world.time.skew_ms, world.time.is_doubtful) == (0, False)


@pytest.mark.parametrize("text", ["", "now", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", None, 5])
def test_a_date_that_is_none_is_passed_over(text):
    world = World(HOUR_MS)
    world.time.note({"ResponseMetadata": {"HTTPHeaders": {"date": text}}}, 0.0)
    assert world.time.skew_ms == 0


def test_a_clock_that_is_handed_in_is_believed(dynoxide):
    clock = ManualClock(HOUR_MS)
    layer = DynamoDBPersistenceLayer(new_table(dynoxide), boto3_client=client_at(dynoxide.url), clock=clock)
    assert idempotent_function(counted(), persistence_store=layer)(1) == 1
    assert layer.clock_skew_seconds == 0.0


# --- workers whose clocks are wrong -----------------------------------------------------------------------------------


@pytest.fixture
def table(dynoxide):
    return new_table(dynoxide)


@pytest.fixture
def worker(service, table):
    """Makes a worker whose clock is so far ahead: its layer, and its function with a count of the runs."""

    def make(ahead_ms=0, **options):
        clock = OffClock(ahead_ms)
        layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url), clock=clock, **options)
        body = counted()
        rules = IdempotencyConfig(expires_after_seconds=600, in_progress_expires_after_seconds=60)
        call = idempotent_function(body, persistence_store=layer, key_prefix="orders", config=rules)
        call.body, call.layer, call.clock = body.body, layer, clock
        return call

    return make


@pytest.fixture
def in_lambda(monkeypatch):
    """Layers made from now on are in a Lambda function, whose clock is kept, and do not ask for the time first."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_worker_does_not_run_what_is_done(worker, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)
    assert right(1) == 1
    assert wrong(1) == 1
    assert wrong.body.runs == 0
    assert wrong(2) == 1
    assert right(2) == 1
    assert right.body.runs == 1


@pytest.mark.parametrize("hours", [2, -2])
def test_nor_does_the_first_call_of_one_in_lambda_which_does_not_ask_for_the_time(in_lambda, worker, service, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)
    right(1)
    del service.requests[:]
    assert wrong(1) == 1
    assert (wrong.body.runs, service.requests) == (0, ["PutItem"])


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_worker_neither_takes_over_nor_is_taken_over(worker, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)

    def rival(call):
        with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
            call(1)
        assert 30 < refused.value.retry_after < 90

    right.body.during = lambda: rival(wrong)
    right(1)
    assert right.body.runs == 1
    wrong.body.during = lambda: right(2)
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        wrong(2)
    assert 30 < refused.value.retry_after < 90
    assert right.body.runs == 1


def test_a_process_asks_for_the_time_before_its_first_claim(worker, service):
    """So that not even one that dies in that moment leaves the key locked for as long as its clock was ahead."""
    wrong = worker(2 * HOUR_MS)
    wrong(1)
    assert service.requests == ["GetItem", "PutItem", "outcome"]
    del service.requests[:]
    wrong(2)
    assert service.requests == ["PutItem", "outcome"]
    del service.requests[:]
    assert (worker()(2), service.requests) == (2, ["GetItem"])


def test_in_lambda_only_the_first_write_of_a_wrong_worker_takes_one_request_more(in_lambda, worker, service):
    wrong = worker(2 * HOUR_MS)
    wrong(1)
    assert service.requests == ["PutItem", "UpdateItem", "outcome"]
    del service.requests[:]
    wrong(2)
    assert service.requests == ["PutItem", "outcome"]
    wrong(2)
    assert service.requests[2:] == ["PutItem"]


@pytest.mark.parametrize("place", ["a server", "Lambda"])
def test_a_lease_is_never_dated_by_a_clock_that_has_leapt(worker, service, place, request):
    """Not even for a moment, in which the worker may die and leave the key locked for so long."""
    if place == "Lambda":
        request.getfixturevalue("in_lambda")
    leaping = worker()
    leaping(0)
    leaping.clock.ahead_ms += 2 * HOUR_MS
    del service.requests[:]
    leaping(1)
    assert service.requests == ["GetItem", "PutItem", "outcome"]
    claim = _claim(leaping.clock)
    leaping.layer._put_record(claim)
    leaping.clock.ahead_ms += 2 * HOUR_MS
    del service.requests[:]
    leaping.layer._renew_record(_claim(leaping.clock))
    assert service.requests == ["GetItem", "UpdateItem"]


@pytest.mark.parametrize("is_over", [True, False])
def test_what_the_look_for_the_time_finds_is_claimed_all_the_same_where_it_is_over_or_named(worker, service, is_over):
    before, after = worker(), worker()
    before.layer._put_record(_claim(before.clock, lease_ms=-5000 if is_over else -1))
    seen = None if is_over else before.layer._get_record("orders#1")
    del service.requests[:]
    after.layer._put_record(_claim(after.clock, owner="anew", replaces=seen))
    assert service.requests == ["GetItem", "PutItem", *["PutItem"] * is_over]
    assert after.layer._get_record("orders#1").owner == "anew"


@pytest.mark.parametrize("hours", [0, 2, -2])
def test_what_is_really_over_is_gone_for_wrong_workers_too(dynoxide, table, worker, hours):
    before = worker()
    before(1)
    (item,) = items_of(dynoxide, table)
    item["expiration"] = {"N": str(before.clock.now_ms() // 1000 - 2 - (hours == 0))}
    client_at(dynoxide.url).put_item(TableName=table, Item=item)
    after = worker(hours * HOUR_MS)
    assert (after(1), after.body.runs) == (1, 1)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_leaps_while_it_runs(worker, hours, dynoxide, table):
    right, leaping = worker(), worker()
    leaping(0)
    right(1)

    def leap():
        leaping.clock.ahead_ms += hours * HOUR_MS

    # Between two calls ...
    leap()
    assert leaping(1) == 1
    assert leaping.body.runs == 1
    # ... and in the middle of one.
    leaping.body.during = leap
    assert leaping(2) == 2
    leaping.body.during = None
    ends = [int(item["expiration"]["N"]) - SystemClock().now_ms() // 1000 for item in items_of(dynoxide, table)]
    assert all(500 < end < 700 for end in ends)
    assert (right(2), right.body.runs) == (2, 1)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_packed_answer_is_dated_by_the_service_too(worker, service, hours, dynoxide, table):
    leaping, wrong, right = worker(), worker(hours * HOUR_MS), worker()

    def leap():
        leaping.clock.ahead_ms += hours * HOUR_MS

    leaping(0)
    wrong(0)
    leaping.body.during, leaping.body.answer = leap, "x" * 500_000
    assert leaping(1) == leaping.body.answer
    service.refuse("outcome", "ValidationException", "Item size has exceeded the maximum allowed size")
    assert wrong(2) == 1
    ends = [int(item["expiration"]["N"]) - SystemClock().now_ms() // 1000 for item in items_of(dynoxide, table)]
    assert all(500 < end < 700 for end in ends)
    assert (right(1), right(2), right.body.runs) == (leaping.body.answer, 1, 0)


def test_a_claim_whose_lease_was_wrong_for_a_moment_and_was_taken_over_then_does_not_run(in_lambda, worker):
    """Its own reply says that the lease was over when it was written; a rival was quicker than the correction."""
    wrong, rival = worker(-2 * HOUR_MS), worker()
    claim = _claim(wrong.clock)
    steps = wrong.layer._steps.put(claim)
    backend = wrong.layer._settings.open()[0]
    correction = steps.send(backend.run(next(steps)))
    rival.layer._put_record(_claim(rival.clock, owner="rival", replaces=rival.layer._get_record("orders#1")))
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send(backend.run(correction))
    assert refused.value.old_data_record.owner == "rival"


def _claim(clock, owner="me", lease_ms=60_000, replaces=None):
    now = clock.now_ms()
    lease_end = now + lease_ms
    return DataRecord(
        "orders#1", INPROGRESS, lease_end // 1000 + 1, lease_end, owner=owner, made_at_ms=now, replaces=replaces
    )


def test_a_claim_that_took_most_of_its_lease_to_get_through_begins_anew(worker, service):
    call = worker()
    call.layer._put_record(_claim(call.clock).replaced(idempotency_key="orders#0"))
    service.slow_seconds = 0.3
    claim = _claim(call.clock, lease_ms=500)
    call.layer._put_record(claim)
    assert service.requests[2:] == ["PutItem", "UpdateItem"]
    stands = call.layer._get_record("orders#1")
    assert stands.in_progress_expiry_timestamp >= claim.in_progress_expiry_timestamp + 300


def test_a_claim_that_is_sent_late_has_its_whole_lease_before_it(in_lambda, worker, service):
    """As the first one of a process, which loads boto3 first."""
    call = worker(-2900)
    claim = _claim(call.clock, lease_ms=3000)
    call.clock.ahead_ms += 2900
    call.layer._put_record(claim)
    assert service.requests == ["PutItem"]
    stands = call.layer._get_record("orders#1")
    assert stands.in_progress_expiry_timestamp >= claim.in_progress_expiry_timestamp + 2900
    assert stands.expiry_timestamp >= claim.expiry_timestamp + 2


@pytest.mark.parametrize("by_ms", [-1, 1, 999, 1000, 1001, -999, -7_200_001])
def test_moving_a_window_to_another_clock_never_makes_it_shorter(by_ms):
    moved = _moved(DataRecord("orders#1", COMPLETED, 1_795_302_658), by_ms)
    assert 0 <= moved.expiry_timestamp * 1000 - (1_795_302_658_000 + by_ms) < 1000
    assert moved.in_progress_expiry_timestamp is None


def test_records_are_dated_by_the_service(worker):
    call = worker(2 * HOUR_MS)
    call.layer._put_record(_claim(call.clock))
    found = call.layer._get_record("orders#1")
    assert abs(found.read_at_ms - SystemClock().now_ms()) < 30_000
    assert 30_000 < found.in_progress_expiry_timestamp - found.read_at_ms < 90_000
    call.layer._update_record(found.replaced(status=COMPLETED, made_at_ms=call.clock.now_ms()))


@pytest.mark.parametrize(("ahead_s", "said"), [(20, "ahead of"), (-20, "behind"), (3, None)])
def test_a_wrong_clock_is_told_once(worker, caplog, ahead_s, said):
    call = worker(ahead_s * 1000)
    with caplog.at_level(logging.WARNING, "retrysafe"):
        for order in range(3):
            call(order)
    told = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert [said in message for message in told] == ([] if said is None else [True])
    found = [finding.code for finding in call.layer.check()]
    assert ("clock-wrong" in found) == (said is not None)
    assert abs(call.layer.clock_skew_seconds + ahead_s) < 10


def test_how_wrong_a_clock_may_be_can_be_set(worker, caplog):
    call = worker(20_000, clock_skew_limit_seconds=60)
    call(1)
    assert not caplog.records
    assert call.layer.clock_skew_seconds < -5


# --- a process whose clock is moved -----------------------------------------------------------------------------------

WORKER = """
import pathlib, sys, time
from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from support.dynamodb_support import sync_layer
from types import SimpleNamespace

url, table, faked = sys.argv[1:]
faked = pathlib.Path(faked)
rules = IdempotencyConfig(expires_after_seconds=600, in_progress_expires_after_seconds=60)
layer = sync_layer(SimpleNamespace(url=url), table)

def charge(order):
    if order == "leaps":
        faked.write_text("-3h")
    return "run by the worker"

call = idempotent_function(charge, persistence_store=layer, key_prefix="orders", config=rules)
print(round(time.time()), call("done"))
try:
    call("running")
except IdempotencyAlreadyInProgressError:
    print("refused")
print(call("leaps"), round(time.time()))
print(call("done"))
"""


def test_a_process_whose_clock_is_hours_off_and_leaps_while_it_runs(dynoxide, table, worker, tmp_path):
    if FAKETIME is None:
        programs.missing("libfaketime", "tools/install_servers.sh (Debian: apt-get install libfaketime)")
    right = worker()
    right("done")
    now = right.clock.now_ms()
    running = None

    def remember():
        nonlocal running
        running = next(item for item in items_of(dynoxide, table) if item["status"]["S"] == INPROGRESS)

    right.body.during = remember
    right("running")
    client_at(dynoxide.url).put_item(TableName=table, Item=running)
    faked = tmp_path / "faketime"
    faked.write_text("+2h")
    moved = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(faked),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, dynoxide.url, table, faked],
        capture_output=True,
        text=True,
        env=os.environ | moved,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, refused, leaps, done = ran.stdout.splitlines()
    its_time, _, answer = first.partition(" ")
    assert int(its_time) * 1000 > now + HOUR_MS, "the clock was not moved"
    assert (answer, refused, done) == ("1", "refused", "1")
    answer, _, its_time = leaps.rpartition(" ")
    assert int(its_time) * 1000 < now - 2 * HOUR_MS, "the clock did not leap"
    assert answer == "run by the worker"
    assert right("leaps") == answer
    ends = [int(item["expiration"]["N"]) - now // 1000 for item in items_of(dynoxide, table)]
    assert all(0 < end < 700 for end in ends)
