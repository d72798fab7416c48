"""A worker dies while it runs: others take its key over once its lease is over, and what a late one can still do."""

from __future__ import annotations

import json

import pytest

from fleet.worker import Died, Refused

LEASE_S = 60
IN_LAMBDA = {"remaining_ms": LEASE_S * 1000}
LEASE_OUTSIDE_OF_LAMBDA_S = 30
WINDOW_S = 600

OURS = ["ours", "ours_async"]
PEERS = ["python", "typescript"]
# A process has to be started for each worker that dies, so these are few.
on_one_store = pytest.mark.parametrize("store", ["valkey_91"], indirect=True)
on_old_servers_too = pytest.mark.parametrize("store", ["valkey_91", "redis_62", "dynoxide"], indirect=True)
DYING_AND_HEIR = [("python", "ours"), ("typescript", "ours_async"), ("ours", "typescript"), ("ours_async", "python")]


def is_refused(worker, store, key, **options):
    with pytest.raises(Refused) as refusal:
        worker.call(store.spec, key, "it ran", **options)
    return refusal.value.error == "IdempotencyAlreadyInProgressError"


@pytest.mark.parametrize(
    ("store", "dying", "heir"),
    [("valkey_91", *pair) for pair in DYING_AND_HEIR] + [("dynoxide", *pair) for pair in DYING_AND_HEIR[::3]],
    indirect=["store"],
)
def test_a_worker_that_died_in_lambda_keeps_its_key_for_its_lease(fleet, store, key, dying, heir):
    dead = fleet.doomed(dying)
    with pytest.raises(Died):
        dead.call(store.spec, key, do="die", **IN_LAMBDA)
    assert is_refused(fleet.worker(heir), store, key, **IN_LAMBDA)
    store.pass_time(key, LEASE_S + 1)
    assert fleet.worker(heir).call(store.spec, key, {"by": heir}, **IN_LAMBDA) == {"by": heir}
    assert fleet.ledger.of(key) == [dead.name, heir]


@on_one_store
@pytest.mark.parametrize(("dying", "heir"), DYING_AND_HEIR[2:])
def test_a_worker_of_ours_that_died_outside_of_lambda_keeps_its_key_for_30_seconds(fleet, store, key, dying, heir):
    dead = fleet.doomed(dying)
    dead.hold(store.spec, key)
    dead.close()
    assert is_refused(fleet.worker(heir), store, key)
    store.pass_time(key, LEASE_OUTSIDE_OF_LAMBDA_S + 1)
    assert fleet.worker(heir).call(store.spec, key, "heir's") == "heir's"
    assert fleet.ledger.of(key) == [dead.name, heir]


@on_one_store
@pytest.mark.parametrize(("dying", "heir"), DYING_AND_HEIR[:2])
def test_a_peer_that_died_outside_of_lambda_keeps_its_key_for_its_window(fleet, store, key, dying, heir):
    dead = fleet.doomed(dying)
    with pytest.raises(Died):
        dead.call(store.spec, key, do="die", window=WINDOW_S)
    store.pass_time(key, WINDOW_S // 2)
    assert is_refused(fleet.worker(heir), store, key)
    store.pass_time(key, WINDOW_S // 2 + 20)
    assert fleet.worker(heir).call(store.spec, key, "heir's") == "heir's"
    assert fleet.ledger.of(key) == [dead.name, heir]


@on_old_servers_too
@pytest.mark.parametrize("heir", PEERS)
@pytest.mark.parametrize("late", OURS)
@pytest.mark.parametrize("raises", [None, "boom"], ids=["returns", "raises"])
def test_a_late_worker_of_ours_leaves_a_peers_record_alone(fleet, store, key, late, heir, raises):
    fleet.worker(late).hold(store.spec, key, "late answer", **IN_LAMBDA)
    store.pass_time(key, LEASE_S + 1)
    assert fleet.worker(heir).call(store.spec, key, "heir's", **IN_LAMBDA) == "heir's"
    completed = store.record(key)
    with pytest.raises(Refused) as refusal:
        fleet.worker(late).finish(raises=raises)
    if raises is None:
        assert refusal.value.error == "IdempotencyLeaseLostError"
        assert refusal.value.response == "late answer"
    else:
        assert refusal.value.error == "LookupError"
    assert store.record(key) == completed


@on_old_servers_too
@pytest.mark.parametrize("heir", OURS)
@pytest.mark.parametrize("late", PEERS)
def test_a_late_peer_is_unfenced_its_answer_overwrites_ours(fleet, store, key, late, heir):
    fleet.worker(late).hold(store.spec, key, {"by": late}, **IN_LAMBDA)
    store.pass_time(key, LEASE_S + 1)
    assert fleet.worker(heir).call(store.spec, key, "heir's", **IN_LAMBDA) == "heir's"
    assert fleet.worker(late).finish() == {"by": late}
    assert fleet.worker(heir).call(store.spec, key, "it ran") == {"by": late}
    assert fleet.ledger.of(key) == [late, heir]


@pytest.mark.parametrize("heir", OURS)
@pytest.mark.parametrize("late", PEERS)
def test_a_late_peer_that_raises_deletes_our_answer(fleet, store, key, late, heir):
    fleet.worker(late).hold(store.spec, key, "late answer", **IN_LAMBDA)
    store.pass_time(key, LEASE_S + 1)
    fleet.worker(heir).call(store.spec, key, "heir's", **IN_LAMBDA)
    with pytest.raises(Refused):
        fleet.worker(late).finish(raises="boom")
    assert store.record(key) is None


@pytest.mark.parametrize("heir", OURS)
@pytest.mark.parametrize("late", PEERS)
def test_a_run_of_ours_that_a_late_peer_overwrote_ends_with_an_error_that_carries_its_answer(
    fleet, store, key, late, heir
):
    fleet.worker(late).hold(store.spec, key, "late answer", **IN_LAMBDA)
    store.pass_time(key, LEASE_S + 1)
    fleet.worker(heir).hold(store.spec, key, "heir's", **IN_LAMBDA)
    assert fleet.worker(late).finish() == "late answer"
    with pytest.raises(Refused) as refusal:
        fleet.worker(heir).finish()
    assert refusal.value.error == "IdempotencyLeaseLostError"
    assert refusal.value.response == "heir's"
    assert json.loads(store.record(key)["data"] if late == "python" else '"late answer"') == "late answer"
    assert fleet.ledger.of(key) == [late, heir]
