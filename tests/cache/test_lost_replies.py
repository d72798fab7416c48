"""Replies that are lost after the server has done what was asked, requests that never come, and replies that come late.

Whole calls through a proxy, with every kind of client: the function runs once, its caller gets the answer, duplicates
get it again, and no key is stuck.
"""

from __future__ import annotations

import json
import threading

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from servers import wait_until
from support.cache_shops import KINDS, SECONDS, Shop

WAYS = [f"{kind}{asynchronous}" for asynchronous in ("", "-async") for kind in KINDS]

# Each way loses replies, and one of each sort the rest.
CASES = [
    *((way, "drop_reply") for way in WAYS),
    *((way, fault) for fault in ("drop_request", "late_reply") for way in (*KINDS, "redis-async")),
]


def arm(proxy, fault, matching):
    """Have the next request with these bytes go wrong."""
    if fault != "late_reply":
        return getattr(proxy, fault)(matching)
    # Later than the client waits, but not for ever: valkey-glide has one connection, and leaves it as it is.
    proxy.delay(1.5 * SECONDS)
    threading.Timer(SECONDS / 2, proxy.heal).start()
    return Late()


class Late:
    """For a reply that is held back by the clock, and so cannot be seen to be."""

    struck = True

    def wait(self):
        pass


@pytest.fixture
def proxy(request, kind, proxy_to):
    server = request.getfixturevalue("redis_cluster_of_one" if kind == "cluster" else "valkey_91")
    server.command("FLUSHALL")
    proxy = proxy_to(server)
    proxy.real = server
    if kind == "cluster":
        server.command("CONFIG", "SET", "cluster-announce-port", proxy.port)
    return proxy


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def kind(way):
    return way.removesuffix("-async")


@pytest.fixture
def shop(way, kind, proxy):
    with Shop(kind, proxy.server, asynchronous=way.endswith("async")) as shop:
        # Afterwards the server knows the scripts, so that each step is one request.
        shop.order(number=0)
        with pytest.raises(ZeroDivisionError):
            shop.order(lambda: 1 / 0, number=-1)
        proxy.real.command("EVAL", "return redis.call('FLUSHDB')", 0)
        shop.ran.clear()
        yield shop


def command_of(kind, plain):
    return b"\r\n%s\r\n" % (plain if kind == "plain" else b"EVALSHA")


def record(proxy):
    (key,) = proxy.real.command("KEYS", "*")
    return json.loads(proxy.real.command("GET", key))


# --- each step of a call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "fault"), CASES)
def test_a_claim_is_known_as_ones_own(shop, kind, proxy, fault):
    armed = arm(proxy, fault, command_of(kind, b"SET"))
    assert shop.order() == "paid"
    assert armed.struck
    assert [shop.order(), shop.order()] == ["paid", "paid"]
    assert shop.ran == [1]
    assert record(proxy)["attempt"] == 1


@pytest.mark.parametrize(("way", "fault"), CASES)
def test_an_answer_is_stored_all_the_same(shop, kind, proxy, fault):
    armed = []

    def work():
        armed.append(arm(proxy, fault, command_of(kind, b"SET")))
        return "paid"

    assert shop.order(work) == "paid"
    assert armed[0].struck
    assert record(proxy)["status"] == "COMPLETED"
    assert [shop.order(), shop.order()] == ["paid", "paid"]
    assert shop.ran == [1]


@pytest.mark.parametrize(("way", "fault"), CASES)
def test_a_release_leaves_no_stuck_key(shop, kind, proxy, fault):
    armed = []

    def work():
        armed.append(arm(proxy, fault, command_of(kind, b"DEL")))
        raise KeyError("no such order")

    with pytest.raises(KeyError, match="no such order"):
        shop.order(work)
    assert armed[0].struck
    assert proxy.real.command("KEYS", "*") == []
    assert shop.order() == "paid"
    assert shop.ran == [1, 1]


@pytest.mark.parametrize(("way", "fault"), [case for case in CASES if case[1] != "late_reply"])
def test_a_lease_is_renewed_all_the_same(shop, kind, proxy, fault):
    def work():
        lease_end = record(proxy)["in_progress_expiration"]
        armed = arm(proxy, fault, command_of(kind, b"SET"))
        armed.wait()
        wait_until(lambda: record(proxy)["in_progress_expiration"] > lease_end + 300, "a lease that was moved on")
        return "paid"

    assert shop.order(work, in_progress_expires_after_seconds=0.3) == "paid"
    assert shop.order() == "paid"
    assert shop.ran == [1]


# --- connections --------------------------------------------------------------------------------------------------


def test_connections_that_died_while_idle_are_made_anew(shop, proxy):
    def work():
        proxy.cut()
        return "paid"

    proxy.cut()
    assert shop.order(work) == "paid"
    proxy.cut()
    assert shop.order() == "paid"
    assert shop.ran == [1]


def test_every_reply_late_is_an_error_before_the_function_runs(shop, proxy):
    proxy.delay(2 * SECONDS)
    with pytest.raises(IdempotencyPersistenceConnectionError):
        shop.order()
    assert shop.ran == []


def test_replies_late_at_a_replay_cost_no_second_run(shop, proxy):
    assert shop.order() == "paid"
    proxy.delay(2 * SECONDS)
    with pytest.raises(IdempotencyPersistenceConnectionError):
        shop.order()
    proxy.heal()
    assert patiently(shop.order) == "paid"
    assert shop.ran == [1]


def patiently(order):
    """What was held back is still on its way for a moment."""
    for _ in range(20):
        try:
            return order()
        except IdempotencyPersistenceConnectionError:
            continue
    return order()
