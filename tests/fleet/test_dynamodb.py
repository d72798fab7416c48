"""What holds for a fleet on a DynamoDB table alone: the items, races for them, and what a late peer leaves in ours.

A peer completes by UpdateItem: our attributes stay in the item, beside an answer that is not ours.
"""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest

from fleet.stores import DynamoDBStore
from fleet.worker import Refused

OURS = ["ours", "ours_async"]
PEERS = ["python", "typescript"]
LEASE_S = 60
IN_LAMBDA = {"remaining_ms": LEASE_S * 1000}
RACES = 25  # of each pair

REFUSED_BY = {"python": "IdempotencyPersistenceLayerError", "typescript": "IdempotencyInvalidStatusError"}
TYPED = "{'lines': (1, 2), 'on': datetime.date(2026, 1, 2), 'total': Decimal('1.10')}"


def refused(worker, table, key, **options):
    """By which error the call is refused."""
    with pytest.raises(Refused) as refusal:
        worker.call(table.spec, key, "it ran", **options)
    return refusal.value.error


# The items


@pytest.mark.parametrize("kind", OURS)
def test_our_items_are_a_python_workers_with_our_attributes_beside(fleet, table, key, kind):
    theirs, ours = (items_of(fleet.worker(each), table, f"{key}-{each}") for each in ("python", kind))
    for their, our in zip(theirs, ours, strict=True):
        own = {"owner": our.pop("owner"), "attempt": our.pop("attempt")}
        assert own == {"owner": own["owner"], "attempt": 1}
        assert our == {name: our[name] for name in their} | {
            name: their[name] for name in their if name in ("data", "status", "validation")
        }


def items_of(worker, table, key):
    """The claim and the completion; a Python worker leaves the ended lease in the latter."""
    worker.hold(table.spec, key, {"payment": "p1", "ok": True, "é": None}, validate=True, **IN_LAMBDA)
    claim = table.record(key)
    worker.finish()
    completed = table.record(key)
    completed.pop("in_progress_expiration", None)
    return [claim, completed]


@pytest.mark.parametrize(("kind", "form"), [("python", str), ("typescript", dict), ("ours", str), ("ours_async", str)])
def test_an_answer_is_kept_as_text_or_as_a_map_and_the_payload_hash_beside_it(fleet, table, key, kind, form):
    fleet.worker(kind).call(table.spec, key, {"payment": "p1"}, validate=True)
    completed = table.record(key)
    assert type(completed["data"]) is form
    assert completed["validation"]
    for reader in OURS:
        assert fleet.worker(reader).call(table.spec, key, validate=True) == {"payment": "p1"}
        assert refused(fleet.worker(reader), table, key, amount=6, validate=True) == "IdempotencyValidationError"
    assert fleet.ledger.of(key) == [kind]


@pytest.fixture(scope="session")
def renamed(dynoxide):
    """A table with a composite key, and other names for all attributes."""
    return DynamoDBStore(
        dynoxide,
        key_attr="service",
        sort_key_attr="operation",
        static_pk_value="payments",
        expiry_attr="ends",
        in_progress_expiry_attr="lease",
        status_attr="state",
        data_attr="answer",
        validation_key_attr="digest",
    )


@pytest.mark.parametrize("writer", [*PEERS, *OURS])
def test_all_meet_under_a_composite_key_and_other_names(fleet, renamed, key, writer):
    fleet.worker(writer).hold(renamed.spec, key, {"by": writer}, validate=True, **IN_LAMBDA)
    others = [kind for kind in (*PEERS, *OURS) if kind != writer]
    for reader in others:
        error = refused(fleet.worker(reader), renamed, key, validate=True)
        assert error == "IdempotencyAlreadyInProgressError"
        assert refused(fleet.worker(reader), renamed, key, amount=6, validate=True) == "IdempotencyValidationError"
    fleet.worker(writer).finish()
    record = renamed.record(key)
    assert (record["service"], record["state"]) == ("payments", "COMPLETED")
    for reader in set(others) & set(OURS):
        assert fleet.worker(reader).call(renamed.spec, key, validate=True) == {"by": writer}
    assert fleet.ledger.of(key) == [writer]


# Races for an abandoned key


@pytest.mark.parametrize(
    ("table", "first", "second"),
    [
        ("dynoxide", "python", "ours"),
        ("dynoxide", "ours", "python"),
        ("dynoxide", "typescript", "ours_async"),
        ("dynoxide", "ours_async", "typescript"),
        ("dynamodb_local", "python", "ours_async"),
        ("dynamodb_local", "ours", "typescript"),
    ],
    indirect=["table"],
)
def test_of_a_peer_and_us_one_takes_an_abandoned_key_over(fleet, table, key, first, second):
    fleet.worker(first).hold(table.spec, key, **IN_LAMBDA)
    table.pass_time(key, LEASE_S + 1)
    abandoned = table.record(key)
    fleet.worker(first).finish()
    keys = [f"{key}-{number}" for number in range(RACES)]
    raced = set(keys)
    for one in keys:
        table.write(one, abandoned)
        for kind in (first, second):
            fleet.worker(kind).start(table.spec, one, {"by": kind}, **IN_LAMBDA)
        for kind in (first, second):
            with contextlib.suppress(Refused):
                fleet.worker(kind).result()
    executed = Counter(one for one, _ in fleet.ledger.executions() if isinstance(one, str) and one in raced)
    assert executed == dict.fromkeys(keys, 1)


# Large answers


@pytest.mark.parametrize("writer", OURS)
def test_peers_refuse_a_compressed_answer_of_ours_and_we_replay_it(fleet, table, key, writer):
    large = {"report": "é" * 500_000}
    assert fleet.worker(writer).call(table.spec, key, large) == large
    stored = table.record(key)
    assert "packed" in stored
    for peer in PEERS:
        assert refused(fleet.worker(peer), table, key) == REFUSED_BY[peer]
        assert table.record(key) == stored
    for reader in OURS:
        assert fleet.worker(reader).call(table.spec, key) == large
    assert fleet.ledger.of(key) == [writer]


# What a late peer leaves in our items


@pytest.fixture
def late_over(fleet, table, key):
    """A peer whose lease is over while it runs; `heir` takes its key over with an answer, and then the peer ends."""

    def end_late(late, late_answer, heir, answer, **options):
        fleet.worker(late).hold(table.spec, key, late_answer, **IN_LAMBDA)
        table.pass_time(key, LEASE_S + 1)
        with contextlib.suppress(Refused):
            fleet.worker(heir).call(table.spec, key, answer, **IN_LAMBDA, **options)
        before = table.record(key)
        assert fleet.worker(late).finish() == late_answer
        assert table.record(key)["owner"] == before["owner"]
        return before

    return end_late


@pytest.mark.parametrize("late", PEERS)
@pytest.mark.parametrize("answer", [{"total": "2.20", "lines": [3], "on": "2026-01-03"}, [], 5], ids=repr)
def test_a_late_peers_answer_is_never_read_by_the_types_of_ours(fleet, table, key, late, late_over, answer):
    before = late_over(late, answer, "ours", "typed")
    assert "types" in before
    for reader in OURS:
        assert fleet.worker(reader).call(table.spec, key) == answer
    assert len(fleet.ledger.of(key)) == 2


@pytest.mark.parametrize("late", PEERS)
def test_a_late_peers_answer_takes_the_place_of_a_compressed_one(fleet, table, key, late, late_over):
    before = late_over(late, {"by": late}, "ours", "x" * 500_000)
    assert "packed" in before
    for reader in OURS:
        assert fleet.worker(reader).call(table.spec, key) == {"by": late}


@pytest.mark.parametrize("late", PEERS)
def test_a_late_peers_answer_takes_the_place_of_a_stored_failure(fleet, table, key, late, late_over):
    before = late_over(late, {"by": late}, "ours", "boom", do="raise", replay_lookup_errors=True)
    assert before["status"] == "FAILED"
    for reader in OURS:
        assert fleet.worker(reader).call(table.spec, key) == {"by": late}


def test_a_late_text_of_a_typescript_worker_that_is_not_json_is_refused(fleet, table, key, late_over):
    late_over("typescript", "late answer", "ours", {"by": "ours"})
    for reader in OURS:
        assert refused(fleet.worker(reader), table, key) == "IdempotencyPersistenceConsistencyError"
    assert len(fleet.ledger.of(key)) == 2
