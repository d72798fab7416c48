"""The estimate of DynamoDB's time, by itself: between its bounds, and no lease over early for it."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe import DataRecord, idempotent_function
from retrysafe.clock import SystemClock
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence._dynamodb.commands import REFUSED, Commands
from retrysafe.persistence._dynamodb.items import Items
from retrysafe.persistence._dynamodb.service_time import ServiceTime
from retrysafe.persistence._dynamodb.steps import RecordSteps, _moved
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.wire import AttributeNames
from retrysafe.testing.clock import ManualClock
from support.bodies import counted
from support.dynamodb_support import HOUR_MS, client_at, new_table

ITEMS = Items(AttributeNames(), "id", None, "")
OFF = st.integers(-10_000_000, 10_000_000) | st.integers(-3000, 3000)
"""By how much a clock is."""
TRIPS = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 100_000)), min_size=1, max_size=8)
"""Requests: milliseconds there, and back, and until the next one."""


def steps_by(time):
    return RecordSteps(Commands("orders", ITEMS), ITEMS, time)


def made_at(moment_ms):
    """A reply that was."""
    return {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(moment_ms // 1000, usegmt=True)}}}


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
        reply = made_at(self.now_ms) if date else {"ResponseMetadata": {"HTTPHeaders": {}}}
        self.now_ms += back_ms
        self.time.note(reply, sent_at)


@given(ahead_ms=OFF, trips=TRIPS)
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


@given(ahead_ms=OFF, trips=TRIPS)
def test_what_is_left_of_the_error_of_a_clock_proved_wrong_takes_nothing_off_a_lease(ahead_ms, trips):
    """Neither off another's, which it judges, nor off its own, which it dates."""
    world = World(ahead_ms)
    for there, back, pause in trips:
        world.reply(there, back)
        off_by = 1000 + there + back + 3
        if world.time.skew_ms:
            assert 0 <= world.now_ms - world.time.judging_ms() <= off_by
            assert 0 <= world.now_ms - world.time.now_ms() <= off_by
            assert 0 <= world.time.dating_ms() - world.now_ms <= off_by
        world.now_ms += pause
        if world.time.skew_ms:
            assert world.time.now_ms() <= world.now_ms <= world.time.dating_ms()


@pytest.mark.parametrize("operation", ["put", "renew"])
@pytest.mark.parametrize("ahead_ms", [1500, -1500, HOUR_MS, -HOUR_MS])
def test_a_lease_that_a_wrong_clock_dates_is_never_shorter_than_it_was_asked_for(operation, ahead_ms):
    world = World(ahead_ms)
    world.reply()
    now = world.time.caller_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 3000, owner="me", made_at_ms=now)
    sent = next(getattr(steps_by(world.time), operation)(claim)).parameters
    written = (
        sent["Item"]["in_progress_expiration"] if operation == "put" else sent["ExpressionAttributeValues"][":lease"]
    )
    lease_end = int(written["N"])
    assert 3000 <= lease_end - world.now_ms <= 3000 + 1010


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
    now = world.time.caller_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="late", made_at_ms=now)
    steps = steps_by(world.time).put(claim)
    assert next(steps).operation == ("GetItem" if asks else "PutItem")
    world.now_ms += 3000
    second = world.now_ms // 1000
    done = DataRecord("orders#1", COMPLETED, second + 1, response_data="1", owner="first")
    reply = {"Item": ITEMS.item(done)} | made_at(world.now_ms)
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send(reply if asks else reply | {"Error": {"Code": REFUSED}})
    assert refused.value.old_data_record == done


def test_a_claim_that_is_refused_without_a_word_of_what_stands_is_refused_all_the_same(clock):
    """As by servers that do not show the item, or where it went in the same moment."""
    now = clock.now_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="me", made_at_ms=now)
    steps = steps_by(ServiceTime(clock, 5.0)).put(claim)
    assert next(steps).operation == "PutItem"
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send({"Error": {"Code": REFUSED}})
    assert refused.value.old_data_record is None


@pytest.mark.parametrize("operation", ["put", "renew"])
@pytest.mark.parametrize("hours", [0, 2, -2])
@pytest.mark.parametrize(("lease_ms", "late_ms"), [(30_000, 20_000), (HOUR_MS, 61_000)])
def test_a_lease_that_took_long_to_get_through_begins_anew_by_the_services_clock(operation, hours, lease_ms, late_ms):
    world = World(hours * HOUR_MS)
    world.reply()
    now = world.time.caller_ms()
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 7200, now + lease_ms, owner="me", made_at_ms=now)
    steps = getattr(steps_by(world.time), operation)(claim)
    assert next(steps).operation == ("PutItem" if operation == "put" else "UpdateItem")
    world.now_ms += late_ms
    again = steps.send(made_at(world.now_ms))
    assert again.operation == "UpdateItem"
    values = again.parameters["ExpressionAttributeValues"]
    assert abs(int(values[":lease"]["N"]) - (world.now_ms + lease_ms)) < 1100
    assert abs(int(values[":expiry"]["N"]) * 1000 - (world.now_ms + 7_200_000)) < 2100


@pytest.mark.parametrize(("late_ms", "again"), [(900, False), (2000, True)])
def test_an_outcome_of_a_short_window_is_written_anew_only_where_more_than_a_second_is_missing(late_ms, again):
    """A window is kept in whole seconds, so that less cannot be put right."""
    world = World()
    world.reply()
    now = world.time.caller_ms()
    done = DataRecord("orders#1", COMPLETED, now // 1000 + 1, response_data="1", owner="me", made_at_ms=now)
    steps = steps_by(world.time).update(done)
    assert next(steps).operation == "PutItem"
    world.now_ms += late_ms
    reply = made_at(world.now_ms)
    if again:
        window_end = steps.send(reply).parameters["Item"]["expiration"]
        assert window_end == {"N": str(-(-(done.expiry_timestamp * 1000 + late_ms) // 1000))}
    with pytest.raises(StopIteration):
        steps.send(reply)


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


def test_after_a_move_too_small_for_a_leap_the_newest_reply_alone_bounds_the_time():
    world = World()
    for _ in range(20):
        world.reply()
        world.now_ms += 137
    world.ahead_ms = 900
    world.now_ms += 950 - world.now_ms % 1000  # late in its second, a reply shows how far the clock is ahead at least
    world.reply()
    assert not world.time.is_doubtful
    assert world.time.now_ms() <= world.now_ms <= world.time.dating_ms()


def test_a_service_that_does_not_say_the_time_leaves_the_clock_as_it_is():
    world = World(HOUR_MS)
    world.reply(date=False)
    assert (world.time.skew_ms, world.time.is_doubtful) == (0, False)


@pytest.mark.parametrize("text", ["", "now", "Sun, 06 Nov 1994", "Sun, 06 Foo 1994 08:49:37 GMT", None, 5])
def test_a_date_that_is_none_is_passed_over(text):
    world = World(HOUR_MS)
    world.time.note({"ResponseMetadata": {"HTTPHeaders": {"date": text}}}, 0.0)
    assert world.time.skew_ms == 0


@pytest.mark.parametrize(
    "reply", [None, {}, {"ResponseMetadata": None}, {"ResponseMetadata": {}}, {"ResponseMetadata": {"HTTPHeaders": []}}]
)
def test_a_reply_without_headers_is_passed_over(reply):
    """As of clients that are not boto3's own."""
    world = World(HOUR_MS)
    world.time.note(reply, 0.0)
    assert (world.time.skew_ms, world.time.is_doubtful) == (0, False)


def test_a_clock_that_is_handed_in_is_believed(dynoxide):
    clock = ManualClock(HOUR_MS)
    layer = DynamoDBPersistenceLayer(new_table(dynoxide), boto3_client=client_at(dynoxide.url), clock=clock)
    assert idempotent_function(counted(), persistence_store=layer)(1) == 1
    assert layer.clock_skew_seconds == 0.0


@pytest.mark.parametrize("by_ms", [-1, 1, 999, 1000, 1001, -999, -7_200_001])
def test_moving_a_window_to_another_clock_never_makes_it_shorter(by_ms):
    moved = _moved(DataRecord("orders#1", COMPLETED, 1_795_302_658), by_ms)
    assert 0 <= moved.expiry_timestamp * 1000 - (1_795_302_658_000 + by_ms) < 1000
    assert moved.in_progress_expiry_timestamp is None
