"""A few seconds of a campaign on each kind of store: nothing runs twice unexplained, and nothing is lost."""

from __future__ import annotations

import itertools

import pytest

from faults.campaign import Size, check, run
from faults.disk import is_reachable
from faults.plan import OF_STORES, OF_WORKERS, steps
from faults.stores import STORES

SEED = 20
# A machine that is busy with other tests may free a key late; how late it is without them is for `make faults`.
BUSY_MS = 20_000
# One of a kind; `make faults` has them all.
LAYERS = ["sqlite", "valkey", "valkey-cluster", "redis-sentinel-async", "dynoxide"]


@pytest.mark.parametrize("layer", LAYERS)
def test_no_fault_breaks_a_promise(layer, start, tmp_path):
    store = start(STORES[layer]())
    outcome = run(store, tmp_path, Size(calls=300, faults=30, seconds=2, seed=SEED, slots=4, clocked=1))
    report = check(outcome, recovery_slack_ms=BUSY_MS)
    assert not report.violations, "\n".join(map(str, report.violations))
    assert not outcome.unexpected, outcome.log
    assert report.unfinished == 0
    # It was a campaign: each kind of fault came, and duplicates met.
    assert set(report.faults) >= {*OF_WORKERS, *store.faults}
    assert report.calls > report.executions >= report.keys / 2
    assert report.refusals["IdempotencyAlreadyInProgressError"]


def test_the_seed_decides_about_the_plan():
    def plan(seed):
        return list(itertools.islice(steps(seed, "workers", OF_WORKERS), 100))

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    assert {step.kind for step in plan(1)[: len(OF_WORKERS)]} == set(OF_WORKERS)


def test_every_store_has_faults_of_its_own():
    faults = {name: store().faults.keys() for name, store in STORES.items()}
    if not is_reachable():
        del faults["sqlite"]
    assert all(faults.values())
    assert all(kinds <= OF_STORES for kinds in faults.values())
