"""`min_replicas`: a claim that replicas don't confirm runs nothing, with every client on every kind of set-up."""

from __future__ import annotations

import contextlib
import time

import pytest

from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from servers import ReplyError, wait_until
from support.replicated import IMPATIENT, PATIENT, Caller, Cluster, caller, key_of, status_of, stopped

# --- the claim ----------------------------------------------------------------------------------------------------


def test_the_replicas_have_the_claim_before_the_function_runs_and_the_answer_before_the_caller(
    world, asynchronous, order
):
    replicas = world.replicas_of(key_of(order))

    def work():
        assert [status_of(replica, order) for replica in replicas] == ["INPROGRESS"] * world.min_replicas
        return "done"

    with caller(world, world.library, asynchronous, PATIENT) as payments:
        assert payments.call(order, work) == "done"
        assert [status_of(replica, order) for replica in replicas] == ["COMPLETED"] * world.min_replicas
        assert payments.call(order, lambda: pytest.fail("it ran again")) == "done"


def test_where_a_replica_does_not_confirm_nothing_runs_and_the_key_is_free_again(world, asynchronous, order):
    master, replicas = world.master_of(key_of(order)), world.replicas_of(key_of(order))
    with caller(world, world.library, asynchronous, IMPATIENT) as payments:
        with (
            stopped(replicas[:1]),
            pytest.raises(IdempotencyPersistenceConnectionError, match=f"min_replicas={world.min_replicas}, and"),
        ):
            payments.call(order, lambda: pytest.fail("it ran"))
        assert status_of(master, order) is None
    with caller(world, world.library, asynchronous, PATIENT) as payments:
        assert payments.call(order) == "done"


def test_more_replicas_than_there_are_confirm_nothing(world, order):
    with (
        caller(world, world.library, False, IMPATIENT, min_replicas=world.min_replicas + 1) as payments,
        pytest.raises(IdempotencyPersistenceConnectionError, match=f"and {world.min_replicas} replicas"),
    ):
        payments.call(order, lambda: pytest.fail("it ran"))


def test_an_own_claim_whose_reply_was_lost_is_confirmed_by_a_new_write(pair, library, asynchronous, order, proxy_to):
    proxy = proxy_to(pair.master)
    with caller(pair, library, asynchronous, PATIENT, at=proxy.server) as payments:
        payments.call(f"before {order}")
        fault = proxy.drop_reply(key_of(order).encode())
        runs = []
        assert payments.call(order, lambda: runs.append(status_of(pair.replica, order))) is None
        assert fault.struck
        assert runs == ["INPROGRESS"]


def test_an_own_claim_whose_reply_was_lost_and_that_replicas_do_not_have_runs_nothing(
    pair, library, asynchronous, order, proxy_to
):
    proxy = proxy_to(pair.master)
    with caller(pair, library, asynchronous, 0.3, at=proxy.server) as payments:
        payments.call(f"before {order}")
        fault = proxy.drop_reply(key_of(order).encode())
        with stopped([pair.replica]), pytest.raises(IdempotencyPersistenceConnectionError, match="0 replicas"):
            payments.call(order, lambda: pytest.fail("it ran"))
        assert fault.struck
    assert status_of(pair.master, order) is None


def test_a_takeover_that_replicas_do_not_confirm_leaves_what_is_known_of_the_run_that_never_ended(
    pair, library, asynchronous, order
):
    now = int(time.time() * 1000)
    dead = DataRecord(key_of(order), INPROGRESS, now // 1000 + 60, now - 1000, owner="dead", attempt=1)
    with CachePersistenceLayer(pair.master.url) as store:
        store._put_record(dead)
        with (
            stopped([pair.replica]),
            caller(pair, library, asynchronous, IMPATIENT) as payments,
            pytest.raises(IdempotencyPersistenceConnectionError, match="0 replicas"),
        ):
            payments.call(order, lambda: pytest.fail("it ran"))
        left = store._get_record(key_of(order))
        assert left.attempt == 2
        assert left.lease_over(left.read_at_ms)
        with caller(pair, library, asynchronous, PATIENT) as payments:
            assert payments.call(order) == "done"
        assert store._get_record(key_of(order)).attempt == 3


# --- the answer ---------------------------------------------------------------------------------------------------


def test_an_answer_that_replicas_do_not_confirm_travels_with_the_error_and_is_replayed_by_the_master(
    pair, library, asynchronous, order
):
    with caller(pair, library, asynchronous, 0.3, lease=0.5) as payments:
        try:
            with pytest.raises(IdempotencyPersistenceLayerError) as raised:
                payments.call(order, lambda: pair.replica.stop_process() or "receipt 1")
            assert raised.value.response == "receipt 1"
            assert isinstance(raised.value.__cause__, IdempotencyPersistenceConnectionError)
            assert status_of(pair.master, order) == "COMPLETED"
            assert payments.call(order, lambda: pytest.fail("it ran again")) == "receipt 1"
        finally:
            pair.replica.continue_process()
    wait_until(lambda: status_of(pair.replica, order) == "COMPLETED", "the replica that caught up")


def test_an_answer_is_stored_as_soon_as_replicas_confirm_again(pair, library, asynchronous, order):
    events = []
    with caller(pair, library, asynchronous, 0.3) as payments:

        def work():
            pair.replica.stop_process()
            return "receipt 1"

        def confirm_later(record):
            try:
                return update(record)
            finally:
                events.append(record.stored_status)
                pair.replica.continue_process()

        async def confirm_later_async(record):
            try:
                return await update(record)
            finally:
                events.append(record.stored_status)
                pair.replica.continue_process()

        update = payments.layer._update_record
        payments.layer._update_record = confirm_later_async if asynchronous else confirm_later
        assert payments.call(order, work) == "receipt 1"
    assert len(events) >= 2
    assert status_of(pair.replica, order) == "COMPLETED"


# --- the lease ----------------------------------------------------------------------------------------------------


def test_a_renewal_that_replicas_do_not_confirm_has_failed(pair, library, asynchronous, order):
    now = int(time.time() * 1000)
    claim = DataRecord(key_of(order), INPROGRESS, now // 1000 + 60, now + 30_000, owner="me", made_at_ms=now)
    longer = claim.replaced(in_progress_expiry_timestamp=now + 60_000)
    with caller(pair, library, asynchronous, PATIENT) as payments:
        payments.run(lambda: payments.layer._put_record(claim))
    with (
        caller(pair, library, asynchronous, IMPATIENT) as payments,
        stopped([pair.replica]),
        pytest.raises(IdempotencyPersistenceConnectionError, match="0 replicas"),
    ):
        payments.run(lambda: payments.layer._renew_record(longer))


# --- what changes under a client ------------------------------------------------------------------------------------


def test_after_a_key_has_moved_to_another_node_that_node_s_replica_confirms(start, order):
    cluster = start(Cluster())
    with contextlib.ExitStack() as stack:
        callers = [
            stack.enter_context(caller(cluster, library, asynchronous, PATIENT))
            for library in ("redis", "valkey", "glide")
            for asynchronous in (False, True)
        ]
        for i, payments in enumerate(callers):
            payments.call(f"before {order} {i}")
        for node in cluster.nodes[3:]:
            wait_until(lambda node=node: _promoted(node), "a replica that takes over")
        cluster.wait_until_complete()
        for i, payments in enumerate(callers):
            mine = f"{order} {i}"
            replicas = cluster.replicas_of(key_of(mine))

            def work(mine=mine, replicas=replicas):
                assert [status_of(replica, mine) for replica in replicas] == ["INPROGRESS"]
                return "done"

            assert payments.call(mine, work) == "done"
        # Now nobody is left to confirm: the other nodes' replicas must not be counted.
        last = cluster.kill_master_of(key_of(order))
        cluster.wait_for_failover(key_of(order), last)
    with contextlib.ExitStack() as stack:
        for library in ("redis", "valkey", "glide"):
            for asynchronous in (False, True):
                payments = stack.enter_context(caller(cluster, library, asynchronous, IMPATIENT))
                with pytest.raises(IdempotencyPersistenceConnectionError, match="0 replicas"):
                    payments.call(order, lambda: pytest.fail("it ran"))


def _promoted(node):
    with contextlib.suppress(ReplyError):  # it is a master by now
        node.command("CLUSTER", "FAILOVER")
    return node.role == "master"


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_claim_is_undone_where_the_user_may_not_wait(pair, library, asynchronous, order):
    pair.master.command("ACL", "SETUSER", "default", "-wait")
    try:
        with (
            caller(pair, library, asynchronous, PATIENT) as payments,
            pytest.raises(IdempotencyPersistenceConfigError, match="'wait'"),
        ):
            payments.call(order, lambda: pytest.fail("it ran"))
    finally:
        pair.master.command("ACL", "SETUSER", "default", "+wait")
    assert status_of(pair.master, order) is None


@pytest.mark.parametrize("library", ["redis", "valkey"])
@pytest.mark.parametrize("setup", ["pair", "sentinels", "cluster"])
def test_a_client_that_gives_up_before_the_replicas_time_is_over_is_refused(replicated, setup, library, asynchronous):
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"socket_timeout=5"):
        Caller(replicated(setup), library, asynchronous, min_replicas=1, replica_timeout_seconds=5.0)


def test_a_url_s_own_patience_counts_too():
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"socket_timeout=0\.5"):
        CachePersistenceLayer("redis://127.0.0.1?socket_timeout=0.5", min_replicas=1)
