"""What stands under a key: the record's bytes, for how long it does, and what is no record and left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceConsistencyError
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.testing import ManualClock
from support.any_client import OnlyGetSetDelete
from support.bodies import counted
from support.cache_steps import connected, key_in, once, record, url_of

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "powertools-python-3.37.0.json").read_text())["records"]
TEN_YEARS = 10 * 365 * 86_400


# --- what stands under the key and is no record -----------------------------------------------------------------------

NO_RECORDS = {
    "a hash": ("HSET", "field", "value"),
    "a list": ("RPUSH", "value"),
    "nothing": ("SET", ""),
    "no JSON": ("SET", "no record"),
    "JSON, but no object": ("SET", '["COMPLETED"]'),
    "no UTF-8": ("SET", b'{"status": "\xff\xfe"}'),
    "an unknown status": ("SET", '{"status": "PAUSED", "expiration": 1, "owner": "owner-1", "attempt": 1}'),
    "no status": ("SET", '{"expiration": 1}'),
}


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoding"])
@pytest.mark.parametrize("planted", NO_RECORDS.values(), ids=NO_RECORDS)
def test_what_is_no_record_is_refused_and_left_as_it_is(planted, decode, valkey_81):
    prefix = f"no-record-{decode}-{list(NO_RECORDS.values()).index(planted)}"
    body = counted()
    with connected(valkey_81, decode_responses=decode) as client:
        call = once(CachePersistenceLayer(client=client), body, prefix)
        call(1)
        key = key_in(valkey_81, prefix)
        valkey_81.command("DEL", key)
        command, *values = planted
        valkey_81.command(command, key, *values)
        before = valkey_81.command("DUMP", key)
        for _ in range(2):
            with pytest.raises(IdempotencyPersistenceConsistencyError):
                call(1)
    assert body.body.runs == 1
    assert valkey_81.command("DUMP", key) == before
    assert valkey_81.command("PTTL", key) == -1


# One that JSON can read is no record either, and NaN is a number that Lua keeps in no table.
BECAME = ["no record", "5", '["COMPLETED"]', '{"status": "INPROGRESS", "expiration": NaN, "attempt": NaN}']


@pytest.mark.parametrize("became", BECAME)
def test_nothing_overwrites_what_became_no_record(became, valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        claims = [record(f"became-no-record-{BECAME.index(became)}-{number}") for number in range(3)]
        assert layer._for_each("put", claims) == [None] * 3
        takeovers = [claim.replaced(owner="owner-2", attempt=2, replaces=claim) for claim in claims]
        outcomes = [claim.replaced(status=COMPLETED, in_progress_expiry_timestamp=None) for claim in claims]
        for claim in claims:
            valkey_81.command("SET", claim.idempotency_key, became)
        for operation, records in (("put", takeovers), ("update", outcomes), ("renew", claims)):
            with pytest.raises(IdempotencyPersistenceConsistencyError):
                getattr(layer, f"_{operation}_record")(records[0])
            told = layer._for_each(operation, records)
            assert [type(each) for each in told] == [IdempotencyPersistenceConsistencyError] * 3
        layer._delete_record(claims[0])
        assert layer._for_each("delete", claims) == [None] * 3
        for claim in claims:
            assert valkey_81.command("GET", claim.idempotency_key) == became.encode()


# --- the record's bytes -----------------------------------------------------------------------------------------------

TIMES = {"expiration", "in_progress_expiration"}


def test_records_are_the_peers_byte_for_byte_save_their_times(valkey_81):
    written = []

    def charge(order):
        written.append(valkey_81.command("GET", key_in(valkey_81, prefix)))
        return {"payment": "p1", "ok": True}

    prefix = "golden-cache.shop.orders.charge"
    config = IdempotencyConfig(
        event_key_jmespath="id", payload_validation_jmespath="amount", in_progress_expires_after_seconds=30
    )
    with connected(valkey_81) as client:
        idempotent_function(
            charge,
            data_keyword_argument="order",
            persistence_store=CachePersistenceLayer(client=client),
            config=config,
            key_prefix=prefix,
        )(order={"id": 1, "amount": 5})
    written.append(valkey_81.command("GET", key_in(valkey_81, prefix)))
    for ours, golden in zip(written, GOLDEN["redis"], strict=True):
        attributes, expected = json.loads(ours), json.loads(golden["value"])
        if "data" in expected:
            expected = {**expected, "validation": attributes["validation"]}  # which we keep
        expected |= {name: attributes[name] for name in TIMES & expected.keys()}
        assert ours.decode().startswith(json.dumps(expected).removesuffix("}"))
        assert list(attributes)[len(expected) :] == ["owner", "attempt"]


RENAMED = {
    "in_progress_expiry_attr": "lease",
    "expiry_attr": "until",
    "status_attr": "state",
    "data_attr": "answer",
    "validation_key_attr": "checked",
}


def test_attributes_are_written_and_read_by_the_names_given(valkey_81):
    body = counted()
    config = IdempotencyConfig(payload_validation_jmespath="amount", event_key_jmespath="id")
    prefix = "renamed"
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, **RENAMED)
        call = idempotent_function(
            body, data_keyword_argument="order", persistence_store=layer, config=config, key_prefix=prefix
        )
        assert [call({"id": 1, "amount": 5}), call({"id": 1, "amount": 5})] == [1, 1]
        stored = json.loads(valkey_81.command("GET", key_in(valkey_81, prefix)))
        assert list(stored) == ["answer", "state", "until", "checked", "owner", "attempt"]
        claim = record("renamed-claim")
        layer._put_record(claim)
        assert list(json.loads(client.get("renamed-claim"))) == ["state", "until", "lease", "owner", "attempt"]
        taken = claim.replaced(owner="owner-2", attempt=2, replaces=layer._get_record("renamed-claim"))
        layer._put_record(taken)
        layer._renew_record(taken)
        layer._delete_record(taken)
        assert client.get("renamed-claim") is None


@pytest.mark.parametrize(
    "names",
    [{"status_attr": "owner"}, {"data_attr": "types"}, {"data_attr": "status"}, {"expiry_attr": ""}],
    ids=str,
)
def test_names_that_are_taken_are_refused(names):
    (option,) = names
    with pytest.raises(IdempotencyPersistenceConfigError, match=option):
        CachePersistenceLayer("redis://localhost", **names)


def test_an_answer_of_64_mb_comes_back(valkey_81):
    answer = "0123456789abcdef" * (1 << 22)
    body = counted(answer=answer)
    with CachePersistenceLayer(url_of(valkey_81) + "?socket_timeout=60") as layer:
        call = once(layer, body, "64-mb")
        assert call(1) == answer
        assert call(1) == answer
    assert body.body.runs == 1
    valkey_81.command("DEL", key_in(valkey_81, "64-mb"))


# --- how long it stands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "lease"), [(1, 30), (1, 1), (3600, 30), (TEN_YEARS, 30), (60, 3600)])
def test_a_record_outlasts_its_window_and_its_lease(window, lease, valkey_81):
    key = f"outlasts-{window}-{lease}"
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        claim = record(key, window=window, lease=lease)
        layer._put_record(claim)
        assert_outlasts(valkey_81, key)
        layer._renew_record(claim)
        assert_outlasts(valkey_81, key)
        layer._update_record(record(key, COMPLETED, window=window))
        assert_outlasts(valkey_81, key)


@pytest.mark.filterwarnings("ignore:client=")
@pytest.mark.parametrize(("window", "lease"), [(60, 3600), (3600, 30)])
def test_so_does_one_that_a_client_without_scripts_stores(window, lease, valkey_81):
    key, now_ms = f"outlasts-plain-{window}", SYSTEM_CLOCK.now_ms()
    with connected(valkey_81) as client:
        claim = DataRecord(key, INPROGRESS, now_ms // 1000 + window, now_ms + lease * 1000, owner="owner-1")
        CachePersistenceLayer(client=OnlyGetSetDelete(client))._put_record(claim)
    assert_outlasts(valkey_81, key)


def assert_outlasts(server, key):
    """The time to live ends after window and lease, and soon after."""
    script = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), redis.call('TIME')}"
    text, left_ms, (seconds, microseconds) = server.command("EVAL", script, 1, key)
    attributes = json.loads(text)
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    # A window counts until its last second has passed.
    last_ms = max((attributes["expiration"] + 1) * 1000, attributes.get("in_progress_expiration", 0))
    assert last_ms < now_ms + left_ms <= last_ms + 2000


@pytest.mark.parametrize("ahead_ms", [1, 500, 999, 1000, 7_100])
def test_a_window_moved_to_the_servers_clock_is_never_shorter_than_asked(ahead_ms, valkey_81_clock):
    asked = record(f"moved-{ahead_ms}")
    valkey_81_clock.stop_clock_at(asked.made_at_ms + ahead_ms)
    with connected(valkey_81_clock) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        layer._put_record(asked)
        found = layer._get_record(asked.idempotency_key)
    assert 0 <= found.expiry_timestamp * 1000 - (asked.expiry_timestamp * 1000 + ahead_ms) < 1000


def test_a_record_whose_window_never_ends_has_no_time_to_live(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        layer._put_record(record("for-ever").replaced(expiry_timestamp=None))
        assert valkey_81.command("PTTL", "for-ever") == -1
    valkey_81.command("DEL", "for-ever")
