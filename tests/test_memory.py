"""The memory layer: what is over goes, bit by bit, and nothing else does."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.persistence.memory import SWEPT_AT_ONCE


@pytest.fixture
def layer(clock):
    return MemoryPersistenceLayer(clock=clock)


def test_what_is_over_is_swept_by_later_writes_a_few_at_a_time(layer, clock):
    old = idempotent_function(lambda n: n, persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=10))
    for n in range(100):
        old(n)
    clock.advance(12)
    sizes = []
    new = idempotent_function(lambda n: -n, persistence_store=layer, key_prefix="new")
    for n in range(100):
        before = len(layer)
        new(n)
        sizes.append(before + 1 - len(layer))
    assert max(sizes) <= SWEPT_AT_ONCE <= 16, "one call sweeps a few records only"
    assert len(layer) == 100
    assert all(key.startswith("new#") for key in layer._records)


def test_records_that_live_stay_however_many_are_written(layer, clock):
    kept = idempotent_function(
        lambda n: n, persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=10**6)
    )
    kept(0)
    short = idempotent_function(
        lambda n: n, persistence_store=layer, key_prefix="short", config=IdempotencyConfig(expires_after_seconds=1)
    )
    for n in range(500):
        short(n)
        clock.advance(1)
    assert len(layer) < 20
    assert kept(0) == 0
    assert sum("short" not in key for key in layer._records) == 1


def test_failed_runs_leave_nothing_behind(layer):
    def failing(n):
        raise ValueError

    call = idempotent_function(failing, persistence_store=layer)
    for n in range(50):
        with pytest.raises(ValueError):  # noqa: PT011  # what the body raises
            call(n)
    assert len(layer) == 0
