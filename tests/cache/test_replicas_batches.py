"""`min_replicas` in a batch: each claim and each outcome in it is confirmed as that of a single call is."""

from __future__ import annotations

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConnectionError, IdempotencyPersistenceLayerError
from support.replicated import IMPATIENT, PATIENT, caller, key_of, status_of, stopped


@pytest.fixture
def orders(order):
    return [f"{order} {number}" for number in range(4)]


def test_the_replicas_have_all_claims_before_the_first_item_runs_and_all_answers_before_the_caller(
    world, asynchronous, orders
):
    def on_replicas():
        return [status_of(replica, order) for order in orders for replica in world.replicas_of(key_of(order))]

    seen = []
    with caller(world, world.library, asynchronous, PATIENT) as payments:
        result = payments.batch(orders, lambda _: seen or seen.extend(on_replicas()))
        assert [each.status for each in result] == ["returned"] * 4
        assert seen == ["INPROGRESS"] * 4 * world.min_replicas
        assert on_replicas() == ["COMPLETED"] * 4 * world.min_replicas


def test_where_a_replica_does_not_confirm_nothing_runs_and_the_keys_are_free_again(world, asynchronous, orders):
    first = {world.replicas_of(key_of(order))[0] for order in orders}
    with caller(world, world.library, asynchronous, IMPATIENT) as payments, stopped(first):
        result = payments.batch(orders, lambda order: pytest.fail(f"{order} ran"))
        assert all(isinstance(each.error, IdempotencyPersistenceConnectionError) for each in result)
        assert [status_of(world.master_of(key_of(order)), order) for order in orders] == [None] * 4


def test_answers_that_replicas_do_not_confirm_travel_with_the_errors_and_are_replayed_by_the_master(
    pair, asynchronous, orders
):
    def work(order):
        if order is orders[-1]:
            pair.replica.stop_process()
        return f"receipt for {order}"

    with caller(pair, "redis", asynchronous, 0.2, lease=2.0) as payments:
        try:
            result = payments.batch(orders, work)
            answers = [f"receipt for {order}" for order in orders]
            assert [type(each.error) for each in result] == [IdempotencyPersistenceLayerError] * 4
            assert [each.error.response for each in result] == answers
            again = payments.batch(orders, lambda order: pytest.fail(f"{order} ran again"))
            assert [each.answer for each in again] == answers
        finally:
            pair.replica.continue_process()
