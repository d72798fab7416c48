"""For tests on DynamoDB: functions on a layer, called once, or refused before they run."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from support.bodies import counted


def decorated(body, layer, **config):
    return idempotent_function(body, persistence_store=layer, key_prefix="orders", config=IdempotencyConfig(**config))


def charged(layer, answer):
    """A function that counts its runs and gives this answer."""
    charge = counted()
    charge.body.answer = answer
    return charge, decorated(charge, layer)


def called(layer, body=None, **options):
    """One call of a function on the layer."""
    body = body or counted()
    return idempotent_function(body, persistence_store=layer, key_prefix="orders", **options)(1)


def refused_before_it_runs(layer, kind, *parts):
    """A call on this layer fails so, and its function does not run."""
    body = counted()
    with pytest.raises(kind) as refused:
        called(layer, body)
    assert body.body.runs == 0
    told = str(refused.value)
    for part in parts:
        assert part in told
    assert refused.value.__cause__ is not None
    return refused.value
