"""What holds for a fleet on a cache alone: the bytes of the records, and how long they stay."""

from __future__ import annotations

import contextlib
import json
import time

import pytest

from fleet.worker import Refused

OURS = ["ours", "ours_async"]
PEERS = ["python", "typescript"]
IN_LAMBDA = {"remaining_ms": 60_000}


@pytest.mark.parametrize("kind", OURS)
def test_our_records_are_a_python_workers_bytes_with_our_attributes_behind_them(fleet, cache, key, kind):
    theirs, ours = (records_of(fleet.worker(each), cache, f"{key}-{each}") for each in ("python", kind))
    for their, our in zip(theirs, ours, strict=True):
        assert without_times(our).startswith(without_times(their).removesuffix("}") + ', "owner": "')
        assert list(json.loads(our)) == [*json.loads(their), "owner", "attempt"]


def records_of(worker, cache, key):
    """The texts of the claim and of the completion."""
    worker.hold(cache.spec, key, {"payment": "p1", "ok": True, "é": None}, **IN_LAMBDA)
    claim = cache.text(key)
    worker.finish()
    return claim.decode(), cache.text(key).decode()


def without_times(text):
    """The record's text with zeros for its times."""
    record = json.loads(text)
    for name in ("expiration", "in_progress_expiration"):
        text = text.replace(str(record.get(name)), "0")
    return text


def test_a_window_of_a_second_ends_for_all(fleet, cache, key):
    pairs = [(writer, reader) for writer in (*PEERS, *OURS) for reader in (*PEERS, *OURS) if writer != reader]
    window_ends = {}
    for writer, reader in pairs:
        one = f"{key}-{writer}-{reader}"
        fleet.worker(writer).call(cache.spec, one, 1, window=1)
        window_ends[writer, reader] = (cache.record(one) or {"expiration": 0})["expiration"]  # over on a slow machine
    while pairs:
        time.sleep(0.05)
        for writer, reader in list(pairs):
            one = f"{key}-{writer}-{reader}"
            try:
                answer = fleet.worker(reader).call(cache.spec, one, 2)
            except Refused:
                if (writer, reader) != ("typescript", "python"):  # which cannot read that one's answer
                    raise
                continue
            if answer == 2:
                assert time.time() >= window_ends[writer, reader]
                assert fleet.ledger.of(one) == [writer, reader]
                pairs.remove((writer, reader))


def test_a_typescript_worker_runs_what_a_peer_holds_without_a_lease_and_never_what_we_hold(fleet, cache, key):
    # A defect of its cache layer. Each claim of ours has a lease.
    fleet.worker("python").hold(cache.spec, key, "answer")
    assert fleet.worker("typescript").call(cache.spec, key, "it ran") == "it ran"
    fleet.worker("python").finish()
    assert fleet.ledger.of(key) == ["python", "typescript"]
    fleet.worker("ours").hold(cache.spec, f"{key}-ours", "answer")
    with pytest.raises(Refused) as refusal:
        fleet.worker("typescript").call(cache.spec, f"{key}-ours", "it ran")
    assert refusal.value.error == "IdempotencyAlreadyInProgressError"
    fleet.worker("ours").finish()
    assert fleet.ledger.of(f"{key}-ours") == ["ours"]


@pytest.fixture
def abandoned(fleet, cache):
    """Lets a claim stand whose lease is over, as a Powertools worker that died left it."""

    def leave(key):
        fleet.worker("python").hold(cache.spec, key, **IN_LAMBDA)
        record = cache.record(key)
        fleet.worker("python").finish()
        cache.write(key, record)
        cache.pass_time(key, 61)
        return cache.record(key)

    return leave


def refused(worker, cache, key):
    """By which error the call is refused."""
    with pytest.raises(Refused) as refusal:
        worker.call(cache.spec, key, "it ran", **IN_LAMBDA)
    return refusal.value.error


@pytest.mark.parametrize("kind", [*OURS, "ours_plain"])
def test_a_key_that_a_peer_is_taking_over_is_left_to_it(fleet, cache, key, kind, abandoned):
    record = abandoned(key)
    cache.lock(key)
    assert refused(fleet.worker(kind), cache, key) == "IdempotencyAlreadyInProgressError"
    assert cache.record(key) == record
    cache.end_lock(key)
    assert fleet.worker(kind).call(cache.spec, key, "answer", **IN_LAMBDA) == "answer"


@pytest.mark.parametrize("kind", [*OURS, "ours_plain"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_saw_the_abandoned_claim_before_we_took_it_over_does_not_run(
    fleet, cache, key, kind, peer, abandoned
):
    record = abandoned(key)
    fleet.worker(kind).call(cache.spec, key, "answer", **IN_LAMBDA)
    cache.write(key, record)  # what that peer still believes to stand
    before = fleet.ledger.of(key)
    assert refused(fleet.worker(peer), cache, key) in (
        "IdempotencyAlreadyInProgressError",
        "IdempotencyInconsistentStateError",
    )
    assert fleet.ledger.of(key) == before


@pytest.mark.parametrize("kind", OURS)
def test_our_own_takeovers_do_not_hinder_each_other(fleet, cache, key, kind, abandoned):
    record = abandoned(key)
    for number in range(3):
        cache.write(key, record)
        assert fleet.worker(kind).call(cache.spec, key, number, **IN_LAMBDA) == number


@pytest.mark.parametrize(
    ("first", "second"),
    [("python", "ours"), ("ours", "python"), ("ours_async", "typescript"), ("ours_plain", "python")],
)
def test_of_a_peer_and_us_one_takes_an_abandoned_key_over(fleet, cache, key, first, second, abandoned):
    record = abandoned(key)
    for number in range(25):
        one = f"{key}-{number}"
        cache.write(one, record)
        for kind in (first, second):
            fleet.worker(kind).start(cache.spec, one, {"by": kind}, **IN_LAMBDA)
        for kind in (first, second):
            with contextlib.suppress(Refused):
                fleet.worker(kind).result()
        assert len(fleet.ledger.of(one)) == 1
