"""What docs/leases-and-waiting.md tells a person to do about a run that never ended, done on each kind of store."""

from __future__ import annotations

import asyncio
import time
import uuid
from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function, layer_from_url
from retrysafe.abandoned import (
    complete_abandoned,
    complete_abandoned_async,
    release_abandoned,
    release_abandoned_async,
)
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyLeaseLostError,
)
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.testing import FailingLayer
from support.dynamodb_support import new_table, sync_layer


@pytest.fixture(params=["memory", "sqlite", "cache", "dynamodb"])
def store(request, tmp_path):
    if request.param == "memory":
        yield MemoryPersistenceLayer()
        return
    if request.param == "dynamodb":
        server = request.getfixturevalue("dynoxide")
        layer = sync_layer(server, new_table(server))
    else:
        redis = request.param == "cache" and request.getfixturevalue("valkey_91")
        layer = layer_from_url(redis.url if redis else f"sqlite:///{tmp_path}/records.db")
    with layer:
        yield layer


@pytest.fixture
def abandoned(store):
    """A function whose first run died, and the error that its next call gets."""
    dying = FailingLayer(store)
    runs = []
    config = IdempotencyConfig(on_abandoned="raise", in_progress_expires_after_seconds=0.05)

    def pay(order):
        runs.append(order)
        if len(runs) == 1:
            raise ConnectionError
        return "paid"

    prefix = uuid.uuid4().hex
    dying.fail("delete")
    with pytest.raises(ConnectionError):
        idempotent_function(pay, persistence_store=dying, config=config, key_prefix=prefix)("7")
    call = idempotent_function(pay, persistence_store=store, config=config, key_prefix=prefix)
    return call, runs, refusal_after_the_lease(call)


def refusal_after_the_lease(call):
    while True:
        try:
            call("7")
        except IdempotencyAbandonedError as error:
            return error
        except IdempotencyAlreadyInProgressError as early:
            time.sleep(early.retry_after)  # the store's own clock judges, which cannot be moved


@pytest.fixture(params=["sync", "async"])
def say(request):
    """What a person says, in plain calls of either form."""
    if request.param == "sync":
        return SimpleNamespace(completed=complete_abandoned, released=release_abandoned)

    def plainly(function):
        return lambda *args, **kwargs: asyncio.run(function(*args, **kwargs))

    return SimpleNamespace(completed=plainly(complete_abandoned_async), released=plainly(release_abandoned_async))


def test_a_run_that_did_not_happen_is_released_and_the_next_call_runs(store, abandoned, say):
    call, runs, error = abandoned
    say.released(error.record, persistence_store=store)
    assert call("7") == call("7") == "paid"
    assert len(runs) == 2


def test_a_run_that_did_happen_is_completed_and_every_call_gets_its_answer(store, abandoned, say):
    call, runs, error = abandoned
    say.completed(error.record, ("receipt", 17), persistence_store=store)
    assert call("7") == call("7") == ("receipt", 17)
    assert len(runs) == 1


def test_what_was_said_first_counts_and_is_told_to_whoever_says_otherwise(store, abandoned, say):
    call, runs, error = abandoned
    say.completed(error.record, "receipt", persistence_store=store)
    for again in (
        lambda: say.completed(error.record, "another", persistence_store=store),
        lambda: say.released(error.record, persistence_store=store),
    ):
        with pytest.raises(IdempotencyLeaseLostError, match="nothing was changed") as told:
            again()
        assert told.value.record.stored_status == COMPLETED
    assert call("7") == "receipt"
    assert len(runs) == 1
