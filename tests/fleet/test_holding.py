"""No worker runs what another one runs, or has completed, or what was first called with another payload."""

from __future__ import annotations

import json

import pytest

from fleet.worker import Refused

LEASE_S = 300  # far more than the tests take, on however slow a machine
IN_LAMBDA = {"remaining_ms": LEASE_S * 1000}
WINDOW_S = 600

PAIRS = [
    ("python", "ours"),
    ("python", "ours_async"),
    ("typescript", "ours"),
    ("typescript", "ours_async"),
    ("ours", "python"),
    ("ours", "typescript"),
    ("ours_async", "python"),
    ("ours_async", "typescript"),
    ("ours", "ours_async"),
    ("ours_async", "ours"),
]

# By which errors peers refuse a status that is ours alone; the second is a TypeScript worker's on DynamoDB.
UNKNOWN_STATUS = ["IdempotencyPersistenceLayerError", "IdempotencyInvalidStatusError"]

each_pair = pytest.mark.parametrize(("writer", "reader"), PAIRS)
from_peers_to_us = pytest.mark.parametrize(
    ("writer", "reader"), [pair for pair in PAIRS if pair[0] in ("python", "typescript")]
)
from_us_to_peers = pytest.mark.parametrize(
    ("writer", "reader"), [pair for pair in PAIRS if pair[1] in ("python", "typescript")]
)


def refused(worker, store, key, **options):
    """By which error the call is refused."""
    with pytest.raises(Refused) as refusal:
        worker.call(store.spec, key, "it ran", **options)
    return refusal.value.error


@each_pair
def test_what_another_worker_runs_in_lambda_is_refused_while_its_lease_runs(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, "answer", **IN_LAMBDA)
    assert store.record(key)["status"] == "INPROGRESS"
    assert refused(fleet.worker(reader), store, key, **IN_LAMBDA) == "IdempotencyAlreadyInProgressError"
    store.pass_time(key, LEASE_S // 2)
    assert refused(fleet.worker(reader), store, key, **IN_LAMBDA) == "IdempotencyAlreadyInProgressError"
    assert fleet.worker(writer).finish() == "answer"
    assert fleet.ledger.of(key) == [writer]


@pytest.mark.parametrize("store", ["valkey_91", "redis_62", "dynoxide", "dynamodb_local"], indirect=True)
def test_of_workers_of_all_kinds_that_start_together_one_executes(fleet, store, key):
    kinds = ["python", "typescript", "ours", "ours_async"]
    for number in range(40):
        one = f"{key}-{number}"
        for kind in kinds[number % 4 :] + kinds[: number % 4]:
            fleet.worker(kind).start(store.spec, one, {"by": kind}, **IN_LAMBDA)
        ends = [end_of(fleet.worker(kind)) for kind in kinds]
        (executed,) = fleet.ledger.of(one)
        assert set(ends) - {executed} <= {"IdempotencyAlreadyInProgressError", "TypeError"}


def end_of(worker):
    """By whom the answer is that the worker's caller got, or by which error the call was refused."""
    try:
        answer = worker.result()
    except Refused as refused:
        # A Python worker fails to read a TypeScript worker's answer: TypeError.
        return refused.error
    return (json.loads(answer) if isinstance(answer, str) else answer)["by"]


@each_pair
def test_what_another_worker_runs_outside_of_lambda_is_refused(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, "answer")
    assert refused(fleet.worker(reader), store, key) == "IdempotencyAlreadyInProgressError"
    assert fleet.worker(writer).finish() == "answer"
    assert fleet.ledger.of(key) == [writer]


@from_peers_to_us
def test_a_peers_claim_without_a_lease_is_held_until_its_window_is_over(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, "answer", window=WINDOW_S)
    assert "in_progress_expiration" not in store.record(key)
    store.pass_time(key, WINDOW_S // 2)
    assert refused(fleet.worker(reader), store, key) == "IdempotencyAlreadyInProgressError"
    store.pass_time(key, WINDOW_S // 2 + 20)
    assert fleet.worker(reader).call(store.spec, key, "the reader's") == "the reader's"
    fleet.worker(writer).finish()
    assert fleet.ledger.of(key) == [writer, reader]


@from_peers_to_us
def test_a_worker_of_ours_waits_for_a_peers_answer_where_it_is_told_to(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, {"payment": "p1"}, **IN_LAMBDA)
    fleet.worker(reader).start(store.spec, key, "it ran", on_in_progress="wait", wait_timeout_seconds=60)
    assert fleet.worker(writer).finish() == {"payment": "p1"}
    assert fleet.worker(reader).result() == {"payment": "p1"}
    assert fleet.ledger.of(key) == [writer]


@each_pair
def test_a_key_is_free_again_after_an_exception(fleet, store, key, writer, reader):
    assert refused(fleet.worker(writer), store, key, do="raise") in ("LookupError", "Error")
    assert store.record(key) is None
    assert fleet.worker(reader).call(store.spec, key, "answer") == "answer"
    assert fleet.ledger.of(key) == [writer, reader]


@each_pair
def test_an_answer_stands_until_its_window_is_over(fleet, store, key, writer, reader):
    assert fleet.worker(writer).call(store.spec, key, 1, window=WINDOW_S) == 1
    store.pass_time(key, WINDOW_S // 2)
    assert fleet.worker(reader).call(store.spec, key, 2, window=WINDOW_S) in (1, "1")
    store.pass_time(key, WINDOW_S // 2 + 20)
    assert fleet.worker(reader).call(store.spec, key, 2, window=WINDOW_S) == 2
    assert fleet.ledger.of(key) == [writer, reader]


@each_pair
def test_another_payload_is_refused_while_the_first_call_runs(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, 1, amount=5, validate=True, **IN_LAMBDA)
    changed = refused(fleet.worker(reader), store, key, amount=6, validate=True, **IN_LAMBDA)
    assert changed == "IdempotencyValidationError"
    same = refused(fleet.worker(reader), store, key, amount=5, validate=True, **IN_LAMBDA)
    assert same == "IdempotencyAlreadyInProgressError"
    fleet.worker(writer).finish()
    assert fleet.ledger.of(key) == [writer]


@from_us_to_peers
def test_a_window_shorter_than_our_lease_does_not_free_the_key_for_a_peer(fleet, store, key, writer, reader):
    fleet.worker(writer).hold(store.spec, key, "answer", window=1, **IN_LAMBDA)
    store.pass_time(key, LEASE_S // 2)
    assert refused(fleet.worker(reader), store, key, **IN_LAMBDA) == "IdempotencyAlreadyInProgressError"
    assert fleet.worker(writer).finish() == "answer"
    assert fleet.ledger.of(key) == [writer]


@from_us_to_peers
def test_a_peer_refuses_another_payload_after_we_completed(fleet, store, key, writer, reader):
    fleet.worker(writer).call(store.spec, key, 1, amount=5, validate=True)
    assert fleet.worker(reader).call(store.spec, key, 2, amount=5, validate=True) in (1, "1")
    changed = refused(fleet.worker(reader), store, key, amount=6, validate=True)
    assert changed == "IdempotencyValidationError"
    assert fleet.ledger.of(key) == [writer]


@from_peers_to_us
def test_an_answer_of_a_peer_is_replayed_to_the_same_payload(fleet, store, key, writer, reader):
    fleet.worker(writer).call(store.spec, key, 1, amount=5, validate=True)
    assert fleet.worker(reader).call(store.spec, key, 2, amount=5, validate=True) == 1
    assert fleet.ledger.of(key) == [writer]


@from_peers_to_us
def test_another_payload_after_a_peer_completed_is_refused_where_the_peer_kept_the_hash(
    fleet, store, key, writer, reader
):
    fleet.worker(writer).call(store.spec, key, 1, amount=5, validate=True)
    if "validation" in store.record(key):
        changed = refused(fleet.worker(reader), store, key, amount=6, validate=True)
        assert changed == "IdempotencyValidationError"
    else:  # in a cache the peers drop it
        assert fleet.worker(reader).call(store.spec, key, 2, amount=6, validate=True) == 1
    assert fleet.ledger.of(key) == [writer]


@pytest.mark.parametrize("reader", ["python", "typescript"])
@pytest.mark.parametrize("writer", ["ours", "ours_async"])
def test_a_peer_refuses_a_stored_failure_of_ours(fleet, store, key, writer, reader):
    assert refused(fleet.worker(writer), store, key, do="raise", replay_lookup_errors=True) == "LookupError"
    stored = store.record(key)
    assert stored["status"] == "FAILED"
    assert refused(fleet.worker(reader), store, key) in UNKNOWN_STATUS
    assert store.record(key) == stored
    assert fleet.ledger.of(key) == [writer]


@pytest.mark.parametrize("reader", ["python", "typescript"])
@pytest.mark.parametrize("writer", ["ours", "ours_async"])
def test_a_peer_refuses_a_completed_run_of_ours_whose_answer_could_not_be_stored(fleet, store, key, writer, reader):
    assert fleet.worker(writer).call(store.spec, key, "unstorable").startswith("<object object")
    stored = store.record(key)
    assert stored["status"] == "UNAVAILABLE"
    assert refused(fleet.worker(reader), store, key) in UNKNOWN_STATUS
    assert store.record(key) == stored
    assert fleet.ledger.of(key) == [writer]
