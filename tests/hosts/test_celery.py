"""Tasks that Celery delivers twice, gives back after a worker's death, or has under way when it is told to end."""

from __future__ import annotations

import os
import signal

import celery
import pytest

from hosts.hosts import Celery
from servers import RedisServer, programs

SECONDS = 60


@pytest.fixture
def host(start):
    return start(Celery(start(RedisServer(programs.redis_70()))))


@pytest.fixture
def deliver(host):
    """Puts a delivery of an order into the queue, and gives its result to wait for."""
    with celery.Celery(broker=host.url, backend=host.url) as client:
        yield lambda order_id: client.send_task("charge", [order_id])


def test_two_deliveries_at_once_run_once_and_have_one_result(host, deliver):
    host.hold("o1")
    results = [deliver("o1") for _ in range(2)]
    host.wait_for_execution("o1")
    host.let_go("o1")
    assert [result.get(SECONDS) for result in results] == [{"attempt": 1}] * 2
    assert len(host.executions("o1")) == 1


def test_a_task_under_way_comes_to_its_end_though_the_worker_is_told_to_end(host, deliver):
    host.hold("o1")
    result = deliver("o1")
    host.wait_for_execution("o1")
    host.process.send_signal(signal.SIGTERM)
    host.wait_for_its_end()
    host.let_go("o1")
    assert result.get(SECONDS) == {"attempt": 1}
    host.restart()
    assert deliver("o1").get(SECONDS) == {"attempt": 1}
    assert len(host.executions("o1")) == 1


def test_a_killed_childs_task_is_delivered_again_and_taken_over_when_its_lease_is_over(host, deliver):
    host.hold("o1")
    result = deliver("o1")
    os.kill(host.wait_for_execution("o1"), signal.SIGKILL)
    host.let_go("o1")
    assert result.get(SECONDS) == {"attempt": 2}
    assert [attempt for attempt, _ in host.executions("o1")] == [1, 2]
