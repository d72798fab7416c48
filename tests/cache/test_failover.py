"""A master that is killed while a function runs: its caller gets the answer or an error with it, and a duplicate the
answer, or another run where the claim died with the master.

Each failover takes two to three seconds, so several callers share one; a ledger counts every run.
"""

from __future__ import annotations

import threading
import uuid

import pytest

from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
)
from servers import wait_until
from support.replicated import Caller, Cluster, Pair, Sentinels, key_of, status_of

LEASE = 20.0

CALLERS = {
    Sentinels: [("redis", False), ("redis", True), ("valkey", False)],
    Cluster: [("redis", False), ("redis", True), ("valkey", True), ("glide", False)],
}


class Failover:
    """Takes the master away in the middle of one run of each caller."""

    def __init__(self, world):
        self.world = world
        self.gone = None

    def orders(self, count):
        """As many orders whose keys are all on one master."""
        first = uuid.uuid4().hex
        orders = [first]
        while len(orders) < count:
            order = uuid.uuid4().hex
            if self.world.master_of(key_of(order)) is self.world.master_of(key_of(first)):
                orders.append(order)
        return orders

    def kill_master_of(self, order):
        """At once, as a machine that loses power."""
        self.gone = self.world.master_of(key_of(order))
        self.gone.kill()

    def wait(self, order):
        """Until another master serves the order's key; that one."""
        if isinstance(self.world, Cluster):
            return self.world.wait_for_failover(key_of(order), self.gone)
        wait_until(lambda: self.world._agrees_without(self.gone), "another master")
        return self.world.master


class Run:
    """One call in a thread of its own, whose function goes on when told to."""

    def __init__(self, caller, order):
        self.caller, self.order = caller, order
        self.runs = []
        self.running, self.go_on = threading.Event(), threading.Event()
        self.answer = self.error = None
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        assert self.running.wait(30)

    def work(self):
        self.runs.append(f"receipt {len(self.runs) + 1} for {self.order}")
        self.running.set()
        assert self.go_on.wait(60)
        return self.runs[-1]

    def _call(self):
        try:
            self.answer = self.caller.call(self.order, self.work)
        except Exception as error:  # noqa: BLE001 - to be looked at by the test
            self.error = error

    def end(self):
        self.go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture(params=[Sentinels, Cluster], ids=["sentinel", "cluster"])
def failover(request, start):
    return Failover(start(request.param()))


@pytest.fixture
def callers(failover):
    """Opens one of each kind, with the options that the test asks for."""
    opened = []

    def open_all(**options):
        for library, asynchronous in CALLERS[type(failover.world)]:
            opened.append(Caller(failover.world, library, asynchronous, lease=LEASE, **options))
        return opened

    yield open_all
    for caller in opened:
        caller.close()


def test_a_claim_that_replicas_have_outlives_its_master(failover, callers):
    """The answer is stored by the new master, once somebody confirms it again; a duplicate meanwhile runs nothing."""
    callers = callers(min_replicas=1, replica_timeout_seconds=0.5)
    orders = failover.orders(len(callers))
    runs = [Run(caller, order) for caller, order in zip(callers, orders, strict=True)]
    failover.kill_master_of(orders[0])
    successor = failover.wait(orders[0])
    assert [status_of(successor, order) for order in orders] == ["INPROGRESS"] * len(orders)
    for run in runs:
        with Caller(failover.world, "redis", False) as other, pytest.raises(IdempotencyAlreadyInProgressError):
            other.call(run.order, lambda: pytest.fail("a duplicate ran beside the first"))
    if isinstance(failover.world, Cluster):  # its master had but one replica, which is the master now
        failover.gone.start()
    for run in runs:
        run.go_on.set()
    for run in runs:
        run.end()
        assert (run.answer, run.error) == (f"receipt 1 for {run.order}", None)
        assert run.caller.call(run.order, lambda: pytest.fail("it ran again")) == run.answer
        assert len(run.runs) == 1


def test_a_claim_that_died_with_its_master_is_an_error_with_the_answer_and_a_duplicate_runs_again(failover, callers):
    """Nobody had the claim but the master: no replica was connected when it was made."""
    callers = callers()
    orders = failover.orders(len(callers))
    cut_off(failover.world.master_of(key_of(orders[0])))
    runs = [Run(caller, order) for caller, order in zip(callers, orders, strict=True)]
    failover.kill_master_of(orders[0])
    successor = failover.wait(orders[0])
    assert [status_of(successor, order) for order in orders] == [None] * len(orders)
    for run in runs:
        run.end()
        assert run.answer is None
        assert isinstance(run.error, IdempotencyLeaseLostError)
        assert run.error.response == f"receipt 1 for {run.order}"
        # The two runs of this order: one on the old master, told to its caller as lost; one now.
        assert run.caller.call(run.order, run.work) == f"receipt 2 for {run.order}"
        assert run.caller.call(run.order, lambda: pytest.fail("it ran a third time")) == f"receipt 2 for {run.order}"


def test_an_answer_that_died_with_its_master_leaves_the_claim_and_the_lease_to_decide(failover, callers):
    """The claim was on the replica, the answer was not: a duplicate is refused until the lease is over."""
    callers = callers()
    orders = failover.orders(len(callers))
    runs = [Run(caller, order) for caller, order in zip(callers, orders, strict=True)]
    master = failover.world.master_of(key_of(orders[0]))
    master.command("WAIT", 1, 5000)
    wait_for_claims(failover.world, orders)
    cut_off(master)
    for run in runs:
        run.end()
        assert (run.answer, run.error) == (f"receipt 1 for {run.order}", None)
    failover.kill_master_of(orders[0])
    successor = failover.wait(orders[0])
    for run in runs:
        assert status_of(successor, run.order) == "INPROGRESS"
        with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
            run.caller.call(run.order, lambda: pytest.fail("it ran within the first one's lease"))
        assert 0 < refused.value.retry_after <= LEASE + 1


def test_with_no_other_master_the_caller_gets_an_error_with_the_answer(start):
    pair = start(Pair())
    with Caller(pair, "redis", False, lease=1.0, min_replicas=1) as caller:
        run = Run(caller, "order")
        pair.master.kill()
        run.end()
        assert isinstance(run.error, IdempotencyPersistenceLayerError)
        assert run.error.response == "receipt 1 for order"


def cut_off(master):
    """Its replicas are lost to it from here on."""
    master.command("ACL", "SETUSER", "default", "-psync", "-sync")
    master.command("CLIENT", "KILL", "TYPE", "replica")


def wait_for_claims(world, orders):
    replicas = world.replicas_of(key_of(orders[0]))
    wait_until(
        lambda: all(status_of(replica, order) == "INPROGRESS" for replica in replicas for order in orders),
        "replicas that have the claims",
    )
