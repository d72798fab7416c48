"""Where gevent has put greenlets in the place of threads: calls run side by side, wait, and keep their leases."""

from __future__ import annotations

import pytest

from support.sqlite_support import outcome, start

PATCHED = """
    from gevent import monkey
    monkey.patch_all()
    import sys
    import gevent
    from retrysafe import IdempotencyConfig, idempotent_batch, idempotent_function, layer_from_url

    store, runs = layer_from_url(sys.argv[1]), []
"""


@pytest.fixture(autouse=True)
def _gevent():
    pytest.importorskip("gevent", reason="gevent is missing; to get it: make setup")


def test_duplicates_in_greenlets_wait_for_the_one_that_runs(url, tmp_path):
    said = outcome(
        start(
            PATCHED
            + """
    @idempotent_function(
        persistence_store=store, key_prefix=sys.argv[2], config=IdempotencyConfig(on_in_progress="wait")
    )
    def charge(order):
        runs.append(order)
        gevent.sleep(0.05)
        return order

    calls = [gevent.spawn(charge, number % 3) for number in range(30)]
    print([call.get() for call in calls] == [0, 1, 2] * 10, sorted(runs))
    """,
            url,
            tmp_path,
        )
    )
    assert said == "True [0, 1, 2]\n"


def test_a_greenlet_keeps_its_key_for_longer_than_a_lease_and_hinders_no_other(url, tmp_path):
    said = outcome(
        start(
            PATCHED
            + """
    from retrysafe.exceptions import IdempotencyAlreadyInProgressError

    @idempotent_function(
        persistence_store=store,
        key_prefix=sys.argv[2],
        config=IdempotencyConfig(in_progress_expires_after_seconds=0.5),
    )
    def charge(order):
        runs.append(order)
        gevent.sleep(1.5)
        return order

    first = gevent.spawn(charge, 1)
    gevent.sleep(1.2)
    try:
        charge(1)
    except IdempotencyAlreadyInProgressError:
        print(first.get(), runs)
    """,
            url,
            tmp_path,
        )
    )
    assert said == "1 [1]\n"


def test_a_greenlet_that_is_killed_frees_its_key(url, tmp_path):
    said = outcome(
        start(
            PATCHED
            + """
    @idempotent_function(persistence_store=store, key_prefix=sys.argv[2])
    def charge(order):
        runs.append(order)
        gevent.sleep(60 if len(runs) < 3 else 0)
        return order

    for _ in range(2):
        call, before = gevent.spawn(charge, 1), len(runs)
        while len(runs) == before:
            gevent.sleep(0.01)
        call.kill()
    print(charge(1), runs)
    """,
            url,
            tmp_path,
        )
    )
    assert said == "1 [1, 1, 1]\n"


def test_a_batch_is_recorded_while_it_claims_on(url, tmp_path):
    said = outcome(
        start(
            PATCHED
            + """
    @idempotent_batch(persistence_store=store, key_prefix=sys.argv[2], key=lambda order: order)
    def charge(order):
        gevent.sleep(0)
        return order

    print([{each.status for each in charge(range(300))} for _ in range(2)])
    """,
            url,
            tmp_path,
        )
    )
    assert said == "[{'returned'}, {'replayed'}]\n"


def test_threads_that_are_replaced_after_the_import_are_refused_before_anything_runs():
    said = outcome(
        start(
            """
    from retrysafe import MemoryPersistenceLayer, idempotent_function
    from retrysafe.exceptions import IdempotencyConfigError
    from gevent import monkey
    monkey.patch_all()

    @idempotent_function(persistence_store=MemoryPersistenceLayer(), key_prefix="late")
    def charge(order):
        raise AssertionError("it ran")

    try:
        charge(1)
    except IdempotencyConfigError as error:
        print(error)
    """
        )
    )
    assert said.startswith("gevent replaced Python's threads after retrysafe was imported")
