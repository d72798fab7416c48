"""A store that confirms claims late: no function begins on a lease that is over, or as good as over."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig, current_execution
from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.bodies import counted, only_record, plant
from support.flavours import FLAVOURS

LEASE = 10.0


@pytest.fixture(params=[each for each in FLAVOURS if not each.layer().can_peek], ids=lambda each: each.name)
def flavour(request):
    """Those whose claims take time: not memory itself."""
    return request.param


@pytest.fixture
def slow(flavour, clock):
    """A layer, the claims that it was sent, and how long each takes; none once the list is used up."""
    layer = flavour.layer(clock=clock)
    inner = flavour.inner(layer)
    claims, seconds, put = [], [], inner._put_record

    def put_slowly(record):
        claims.append(record)
        try:
            put(record)
        finally:
            clock.advance(seconds.pop(0) if seconds else 0.0)

    inner._put_record = put_slowly
    return layer, claims, seconds


def make(flavour, layer, charge, **rules):
    config = IdempotencyConfig(in_progress_expires_after_seconds=LEASE, **rules)
    return flavour.function(charge, persistence_store=layer, config=config)


@pytest.mark.parametrize("rules", [{}, {"on_abandoned": "raise"}], ids=["retry", "raise"])
def test_a_claim_that_was_confirmed_late_is_made_anew_before_the_function_begins(flavour, clock, slow, rules):
    layer, claims, seconds = slow
    seconds += [LEASE * 0.6]
    left = []

    def look():
        left.append(only_record(flavour, layer).in_progress_expiry_timestamp)
        left.append(current_execution().lease_end_ms)

    assert make(flavour, layer, counted(during=look), **rules)({"id": 1}) == 1
    assert left == [clock.now_ms() + LEASE * 1000] * 2
    assert len(claims) == 3, "the late one, one that meets it, and one in its place"
    assert len({claim.owner for claim in claims}) == 1
    assert only_record(flavour, layer).attempt == 1


def test_such_a_call_is_reported_as_claimed_once_and_one_that_never_ran_not_at_all(flavour, slow):
    layer, _claims, seconds = slow
    told = []

    def hear(event):
        told.append(event.name)

    charge = make(flavour, layer, counted(), event_hook=hear)
    seconds += [LEASE * 0.6]
    charge({"id": 1})
    assert told == ["claimed", "completed"]
    seconds += [LEASE * 2] * 9
    with pytest.raises(IdempotencyPersistenceConnectionError):
        charge({"id": 2})
    assert told == ["claimed", "completed"]


def test_a_takeover_that_had_to_be_claimed_anew_is_reported_as_one(flavour, clock, slow):
    layer, _claims, seconds = slow
    told = []

    def hear(event):
        told.append((event.name, event.attempt))

    def die():
        raise SystemExit

    flavour.inner(layer)._delete_record = flavour.inner(layer)._get_record  # so that the claim stays
    with pytest.raises(SystemExit):
        make(flavour, layer, counted(during=die))({"id": 1})
    clock.advance(LEASE + 1)
    seconds += [0.0, LEASE * 0.6]
    make(flavour, layer, counted(), event_hook=hear)({"id": 1})
    assert told == [("taken over", 2), ("completed", 2)]


@pytest.fixture
def forgetful(flavour, slow):
    """The slow layer, which forgets what it was sent once each."""
    layer, claims, seconds = slow
    inner = flavour.inner(layer)
    put = inner._put_record

    def put_and_forget(record):
        put(record)
        inner._put_record = put
        inner._records.clear()

    inner._put_record = put_and_forget
    return layer, claims, seconds


def test_one_that_the_store_has_forgotten_meanwhile_is_made_anew_with_a_whole_lease(flavour, clock, forgetful):
    layer, claims, seconds = forgetful
    seconds += [LEASE * 0.6]
    ends = []
    charge = counted(during=lambda: ends.append(only_record(flavour, layer).in_progress_expiry_timestamp))
    assert make(flavour, layer, charge)({"id": 1}) == 1
    assert ends == [clock.now_ms() + LEASE * 1000]
    assert len(claims) == 2


def test_a_takeover_that_the_store_has_forgotten_meanwhile_is_in_the_log(flavour, clock, slow, caplog):
    layer, _claims, seconds = slow
    inner = flavour.inner(layer)
    put = inner._put_record

    def put_and_forget(record):
        put(record)
        if record.replaces is not None:
            inner._put_record = put
            inner._records.clear()

    make(flavour, layer, counted())({"id": 1})
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms())
    clock.advance(1)
    inner._put_record = put_and_forget
    seconds += [0.0, LEASE * 0.6]
    caplog.set_level("WARNING", "retrysafe")
    make(flavour, layer, counted())({"id": 1})
    (told,) = caplog.messages
    assert told.startswith("taken over")
    assert "previous_owner=dead" in told


def test_a_takeover_from_one_that_came_between_is_in_the_log(flavour, clock, slow, caplog):
    layer, _claims, seconds = slow
    inner = flavour.inner(layer)
    put = inner._put_record

    def put_and_lose(record):
        inner._put_record = put
        put(record)
        plant(flavour, layer, owner="other", in_progress_expiry_timestamp=clock.now_ms() - 1)

    inner._put_record = put_and_lose
    seconds += [LEASE * 0.6]
    caplog.set_level("WARNING", "retrysafe")
    make(flavour, layer, counted())({"id": 1})
    (told,) = caplog.messages
    assert told.startswith("taken over")
    assert "previous_owner=other" in told


def test_a_record_whose_window_ends_while_the_store_refuses_the_claim_is_claimed_as_a_first_attempt(
    flavour, clock, slow, events
):
    layer, _claims, seconds = slow
    config = IdempotencyConfig(expires_after_seconds=60, event_hook=events.append)
    call = flavour.function(counted(), persistence_store=layer, config=config)
    call({"id": 1})
    seconds += [62]
    assert call({"id": 1}) == 2
    assert [(event.name, event.attempt) for event in events] == [("claimed", 1), ("completed", 1)] * 2


def test_one_that_was_confirmed_in_time_is_not(flavour, slow):
    layer, claims, seconds = slow
    seconds += [LEASE * 0.4]
    make(flavour, layer, counted())({"id": 1})
    assert len(claims) == 1


def test_a_key_that_passed_to_another_call_meanwhile_is_left_to_it(flavour, slow):
    layer, _claims, seconds = slow
    seconds += [LEASE * 2]
    inner, charge = flavour.inner(layer), counted()
    real = inner._put_record

    def put_and_lose(record):
        real(record)
        inner._put_record = real
        other = record.replaced(owner="other", status=COMPLETED, response_data="7", in_progress_expiry_timestamp=None)
        inner._records[record.idempotency_key] = other

    inner._put_record = put_and_lose
    assert make(flavour, layer, charge)({"id": 1}) == 7
    assert charge.body.runs == 0


def test_a_store_that_is_slower_than_the_lease_runs_nothing_and_frees_the_key(flavour, slow):
    layer, _claims, seconds = slow
    seconds += [LEASE + 1] * 6
    charge = counted()
    call = make(flavour, layer, charge)
    with pytest.raises(IdempotencyPersistenceConnectionError, match="a lease of 10000 ms lasts; nothing ran"):
        call({"id": 1})
    assert charge.body.runs == 0
    assert not flavour.inner(layer)._records
    seconds.clear()
    assert call({"id": 1}) == 1


def test_a_store_that_is_merely_slow_runs_it_after_all(flavour, slow):
    layer, claims, seconds = slow
    seconds += [LEASE * 0.6] * 10
    charge = counted()
    assert make(flavour, layer, charge)({"id": 1}) == 1
    # Each of the two further ones meets the one before it, and takes that over.
    assert len(claims) == 1 + 2 * 2


def test_a_claim_found_to_be_our_own_is_made_anew_where_little_of_its_lease_is_left(flavour, clock):
    layer = flavour.layer(clock=clock)
    inner = flavour.inner(layer)
    put, claims = inner._put_record, []

    def lose_the_reply(record):
        claims.append(record)
        put(record)
        if len(claims) == 1:
            clock.advance(LEASE * 0.9)
            raise ConnectionError("the reply was lost")

    inner._put_record = lose_the_reply
    standing = []
    charge = counted(during=lambda: standing.append(only_record(flavour, layer)))
    assert make(flavour, layer, charge)({"id": 1}) == 1
    assert [(record.stored_status, record.attempt) for record in standing] == [(INPROGRESS, 1)]
    assert standing[0].in_progress_expiry_timestamp == clock.now_ms() + LEASE * 1000
