"""Requests to several workers of a web server: run once, answered before it ends, taken over after a worker's death."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from hosts.hosts import Gunicorn, GunicornGevent, Uvicorn

DUPLICATES = 12


@pytest.fixture(params=[Uvicorn, Gunicorn], ids=lambda host: host.__name__)
def host(request, start):
    return start(request.param())


@pytest.fixture
def clients():
    with ThreadPoolExecutor(DUPLICATES) as pool:
        yield pool


def post(host, order_id):
    """One request on a connection of its own."""
    reply = httpx2.post(f"{host.url}/orders/{order_id}", timeout=60)
    reply.raise_for_status()
    return reply.json()


@pytest.mark.parametrize("host", [Uvicorn, Gunicorn, GunicornGevent], ids=lambda host: host.__name__, indirect=True)
def test_duplicates_at_several_workers_at_once_run_once_and_get_one_answer(host, clients):
    host.hold("o1")
    replies = [clients.submit(post, host, "o1") for _ in range(DUPLICATES)]
    host.wait_for_execution("o1")
    host.let_go("o1")
    assert [reply.result() for reply in replies] == [{"attempt": 1}] * DUPLICATES
    assert len(host.executions("o1")) == 1


def test_a_request_under_way_is_answered_though_the_server_is_told_to_end(host, clients):
    host.hold("o1")
    reply = clients.submit(post, host, "o1")
    host.wait_for_execution("o1")
    host.process.send_signal(signal.SIGTERM)
    host.wait_for_its_end()
    host.let_go("o1")
    assert reply.result() == {"attempt": 1}
    host.restart()
    assert post(host, "o1") == {"attempt": 1}
    assert len(host.executions("o1")) == 1


def test_what_a_killed_worker_had_begun_is_run_again_by_another_one(host, clients):
    host.hold("o1")
    reply = clients.submit(post, host, "o1")
    os.kill(host.wait_for_execution("o1"), signal.SIGKILL)
    assert isinstance(reply.exception(), httpx2.TransportError)
    host.let_go("o1")
    assert post(host, "o1") == post(host, "o1") == {"attempt": 2}
    assert [attempt for attempt, _ in host.executions("o1")] == [1, 2]
