"""Takeovers on a cache: what is over gives way once, also beside Powertools workers, and where one dies half-way."""

from __future__ import annotations

import json

import pytest

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyPersistenceLayerError
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.testing import ManualClock
from support.any_client import OnlyGetSetDelete
from support.cache_steps import connected, record

# --- between what a claim sees and what it replaces -------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["owner", "expiration"])
def test_what_is_over_gives_way_once(valkey_81, mark):
    """Between the refusal that shows what is over and the claim that names it, another was quicker."""
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        run = layer._settings.open().backend.run
        now = SYSTEM_CLOCK.now_ms()
        over = {"data": "1", "status": COMPLETED, "expiration": now // 1000 - 60}  # a Powertools worker's: no owner
        key = f"over-{mark}"
        valkey_81.command("SET", key, json.dumps(over))
        claim = DataRecord(key, INPROGRESS, now // 1000 + 60, now + 30_000, owner="late", made_at_ms=now)
        steps = layer._steps.put(claim)
        locking = steps.send(run(next(steps)))
        naming = steps.send(run(locking))
        if mark == "owner":
            layer._put_record(claim.replaced(owner="quick"))
        else:  # nothing else tells the answer of another such worker from the one before
            valkey_81.command("SET", key, json.dumps(over | {"data": "2", "expiration": now // 1000 + 60}))
        with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
            steps.send(run(naming))
        standing = refused.value.old_data_record
        assert (standing.owner, standing.response_data) == (("quick", "") if mark == "owner" else (None, "2"))


def test_times_that_are_no_whole_numbers_hinder_no_takeover(valkey_81):
    """A worker that multiplies seconds by 1000 writes such ones."""
    now = SYSTEM_CLOCK.now_ms()
    dead = {"status": INPROGRESS, "expiration": now // 1000 + 3600.5, "in_progress_expiration": now - 1000.5}
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        takeovers = []
        for key in ("fractions-1", "fractions-2", "fractions-3"):
            valkey_81.command("SET", key, json.dumps(dead))
            seen = layer._get_record(key)
            takeovers.append(record(key).replaced(attempt=2, replaces=seen))
        layer._put_record(takeovers[0])
        assert layer._for_each("put", takeovers[1:]) == [None, None]
        assert {layer._get_record(each.idempotency_key).owner for each in takeovers} == {"owner-1"}


# --- beside Powertools workers, which lock a key before they take it over ---------------------------------------------


def abandoned(layer, *keys):
    """Claims that take over what a worker left that died."""
    now = SYSTEM_CLOCK.now_ms()
    claims = [DataRecord(key, INPROGRESS, now // 1000 + 60, now - 1, owner="dead", made_at_ms=now) for key in keys]
    assert layer._for_each("put", claims) == [None] * len(keys)
    return [
        claim.replaced(
            owner="late", attempt=2, in_progress_expiry_timestamp=now + 30_000, replaces=layer._get_record(key)
        )
        for key, claim in zip(keys, claims, strict=True)
    ]


def test_a_takeover_keeps_them_out_for_ten_seconds(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        for takeover in abandoned(layer, "keeps-out-1", "keeps-out-2"):
            layer._put_record(takeover)
        outcomes = layer._for_each("put", abandoned(layer, "keeps-out-3", "keeps-out-4"))
    assert outcomes == [None, None]
    for number in range(1, 5):
        assert 0 < valkey_81.command("PTTL", f"keeps-out-{number}:lock") <= 10_000


@pytest.mark.filterwarnings("ignore:client=")
@pytest.mark.parametrize("scripts", [True, False])
def test_a_takeover_leaves_a_key_to_one_that_has_locked_it(valkey_81, scripts):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client if scripts else OnlyGetSetDelete(client))
        keys = [f"locked-{scripts}-{number}" for number in range(4)]
        takeovers = abandoned(layer, *keys)
        for key in keys[1:3]:
            valkey_81.command("SET", f"{key}:lock", "true", "PX", 10_000)
        with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
            layer._put_record(takeovers[1])
        assert refused.value.old_data_record.owner == "dead"
        told = layer._for_each("put", takeovers)
        assert [type(each) for each in told[1:3]] == [IdempotencyItemAlreadyExistsError] * 2
        assert [told[0], told[3]] == [None, None]
        assert [layer._get_record(key).owner for key in keys] == ["late", "dead", "dead", "late"]
        assert [valkey_81.command("GET", f"{key}:lock") for key in keys[1:3]] == [b"true"] * 2


def test_one_that_has_locked_it_keeps_nobody_out_once_no_record_stands(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        (takeover,) = abandoned(layer, "locked-and-gone")
        valkey_81.command("SET", "locked-and-gone:lock", "true", "PX", 10_000)
        valkey_81.command("DEL", "locked-and-gone")
        layer._put_record(takeover)
        assert layer._get_record("locked-and-gone").owner == "late"


# --- a claim in two steps, between which the record goes --------------------------------------------------------------


class LosesBeforeItLooks:
    """A client with three methods, before whose first look the record goes."""

    def __init__(self, client):
        self.set, self.delete = client.set, client.delete
        self._client, self._gone = client, False

    def get(self, name):
        if not self._gone:
            self._gone = bool(self.delete(name))
        return self._client.get(name)


@pytest.mark.filterwarnings("ignore:client=")
def test_a_claim_that_is_refused_for_what_has_gone_meanwhile_is_made_again(valkey_81):
    with connected(valkey_81) as client:
        CachePersistenceLayer(client=client)._put_record(record("goes"))
        layer = CachePersistenceLayer(client=LosesBeforeItLooks(client))
        layer._put_record(record("goes", owner="owner-2"))
        assert layer._get_record("goes").owner == "owner-2"


# --- a takeover in two steps, which dies between them -----------------------------------------------------------------


class DiesAfterTheMarker:
    """A client with three methods that dies when it has won a takeover, before it stores its claim."""

    def __init__(self, client):
        self.set, self.delete = client.set, client.delete
        self._client, self._gets = client, 0

    def get(self, name):
        self._gets += 1
        if self._gets == 2:  # the first finds what to take over, the second looks whether it still stands
            raise ConnectionError("as if killed")
        return self._client.get(name)


@pytest.mark.filterwarnings("ignore:client=")
def test_a_takeover_that_died_holds_the_key_for_no_longer_than_its_lease(valkey_81_clock):
    clock = ManualClock()

    def pass_time(seconds):
        clock.advance(seconds)
        valkey_81_clock.stop_clock_at(clock.now_ms())

    pass_time(0)
    with connected(valkey_81_clock) as client:
        layer = CachePersistenceLayer(client=OnlyGetSetDelete(client), clock=clock)
        dying = CachePersistenceLayer(client=DiesAfterTheMarker(client), clock=clock)
        first = record("marked")
        layer._put_record(first)
        pass_time(31)
        seen = layer._get_record("marked")

        def takeover(owner):
            now = clock.now_ms()
            return seen.replaced(
                owner=owner,
                attempt=2,
                expiry_timestamp=now // 1000 + 3600,
                in_progress_expiry_timestamp=now + 30_000,
                replaces=seen,
            )

        with pytest.raises(IdempotencyPersistenceLayerError):
            dying._put_record(takeover("died"))
        with pytest.raises(IdempotencyItemAlreadyExistsError):
            layer._put_record(takeover("owner-2"))
        pass_time(32)
        layer._put_record(takeover("owner-2"))
        assert layer._get_record("marked").owner == "owner-2"


@pytest.mark.filterwarnings("ignore:client=")
def test_one_without_a_lease_holds_the_key_for_no_longer_than_its_window(valkey_81):
    clock = ManualClock()
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=OnlyGetSetDelete(client), clock=clock)
        layer._put_record(record("no-lease"))
        clock.advance(3700)
        now_s = clock.now_ms() // 1000
        without_lease = DataRecord("no-lease", INPROGRESS, now_s + 60, None, owner="owner-2")
        layer._put_record(without_lease)
        assert layer._get_record("no-lease").owner == "owner-2"
    (marker,) = valkey_81.command("KEYS", "no-lease#takeover#*")
    assert 0 < valkey_81.command("PTTL", marker) <= 62_000
