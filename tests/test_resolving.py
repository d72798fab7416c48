"""What docs/leases-and-waiting.md tells a person to do about a run that never ended, done on each kind of store."""

from __future__ import annotations

import time
import uuid

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function, layer_from_url
from retrysafe.exceptions import IdempotencyAbandonedError, IdempotencyAlreadyInProgressError
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


def test_a_record_that_the_layer_removes_lets_the_next_call_run(store, abandoned):
    call, runs, error = abandoned
    store._delete_record(error.record)
    assert call("7") == call("7") == "paid"
    assert len(runs) == 2


def test_a_record_that_the_layer_completes_gives_its_answer_to_every_call(store, abandoned):
    call, runs, error = abandoned
    store._update_record(
        error.record.replaced(
            status="COMPLETED",
            response_data='"receipt 17"',
            in_progress_expiry_timestamp=None,
            expiry_timestamp=int(time.time()) + 3600,
        )
    )
    assert call("7") == call("7") == "receipt 17"
    assert len(runs) == 1
