"""The servers that other tests rely on: they start, answer, die and come back, and the proxy breaks what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from servers import RedisCluster, RedisSentinel, RedisServer, ReplyError, programs, wait_until
from servers.processes import ServerFailedError

STANDALONE = {
    "redis_62": (programs.redis_62, "6.2."),
    "redis_70": (programs.redis_70, ""),
    "valkey_81": (programs.valkey_81, "8.1."),
    "valkey_91": (programs.valkey_91, "9.1."),
}
DYNAMODB = ["dynamodb_local", "dynoxide", "moto_server"]


# --- Redis and Valkey -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STANDALONE)
def test_a_server_answers_and_has_the_version_that_its_name_says(name, request):
    server = request.getfixturevalue(name)
    assert server.command("PING") == b"PONG"
    assert server.version.startswith(STANDALONE[name][1])


@pytest.mark.parametrize("name", STANDALONE)
def test_a_killed_server_comes_back_at_the_same_address_with_what_it_wrote(name, start):
    server = start(RedisServer(STANDALONE[name][0](), options={"appendonly": "yes", "appendfsync": "always"}))
    port = server.port
    server.command("SET", "kept", "yes")
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        server.command("PING")
    server.start()
    assert (server.port, server.command("GET", "kept")) == (port, b"yes")
    server.restart()
    assert server.command("GET", "kept") == b"yes"


def test_options_and_password_are_those_asked_for(start):
    server = start(
        RedisServer(
            programs.valkey_91(),
            password="secret",  # noqa: S106 - of nothing that lasts
            options={"maxmemory": "5mb", "maxmemory-policy": "allkeys-lru"},
        )
    )
    assert server.command("CONFIG", "GET", "maxmemory-policy") == [b"maxmemory-policy", b"allkeys-lru"]
    assert server.command("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"5242880"]
    assert ":secret@" in server.url
    server.password = None
    with pytest.raises(ReplyError, match="NOAUTH"):
        server.command("PING")


def test_a_server_that_cannot_start_says_why(start):
    with pytest.raises(ServerFailedError, match="no-such-option"):
        start(RedisServer(programs.valkey_91(), options={"no-such-option": "1"}))


def test_the_clock_of_a_server_is_moved_and_keys_end_by_it(valkey_91_clock):
    def shown():
        return int(valkey_91_clock.command("TIME")[0])

    before = shown()
    valkey_91_clock.command("SET", "moved-clock", "1", "EX", 3600)
    valkey_91_clock.advance(3599)
    assert valkey_91_clock.command("GET", "moved-clock") == b"1"
    valkey_91_clock.advance(2.5)
    assert valkey_91_clock.command("GET", "moved-clock") is None
    assert shown() >= before + 3601


def test_the_clock_of_a_server_stands_still_at_any_moment(valkey_81_clock):
    for moment_ms in (1_900_000_000_001, 1_900_000_000_999, 1_800_000_000_000):
        valkey_81_clock.stop_clock_at(moment_ms)
        seconds, microseconds = valkey_81_clock.command("TIME")
        assert int(seconds) * 1000 + int(microseconds) // 1000 == moment_ms


def test_a_cluster_and_its_sentinels_bear_a_clock_that_is_moved(valkey_cluster_clock, valkey_sentinel_clock):
    valkey_cluster_clock.advance(1_000_000)
    for node in valkey_cluster_clock:
        assert b"cluster_state:ok" in node.command("CLUSTER", "INFO")
    master = valkey_sentinel_clock.master
    valkey_sentinel_clock.advance(1_000_000)
    assert master.command("SET", "a", "1") == b"OK"
    assert master.command("WAIT", 2, 5000) == 2


def test_a_frozen_server_goes_on_where_it_was(start):
    server = start(RedisServer(programs.valkey_91()))
    with server.connect() as connection:
        server.stop_process()
        connection.send("INCR", "counter")
        server.continue_process()
        assert connection.command("INCR", "counter") == 1  # the reply to the first
    assert server.command("GET", "counter") == b"2"


def test_tls_is_checked_against_the_session_s_own_authority(redis_70_tls):
    assert redis_70_tls.url.startswith("rediss://")
    assert redis_70_tls.command("PING") == b"PONG"


def test_each_node_of_a_cluster_serves_its_share(redis_cluster):
    masters = {redis_cluster.master_of(key) for key in ("a", "b", "c")}
    assert masters == set(redis_cluster.nodes)
    assert redis_cluster.master_of("a").command("SET", "a", "1") == b"OK"


def test_a_replica_takes_over_for_the_master_of_a_key_that_was_killed(start):
    cluster = start(RedisCluster(programs.redis_70(), replicas=1))
    cluster.master_of("a").command("SET", "a", "1")
    cluster.master_of("a").command("WAIT", 1, 5000)
    gone = cluster.kill_master_of("a")
    successor = cluster.wait_for_failover("a", gone)
    assert successor in cluster.nodes[3:]
    assert successor.command("GET", "a") == b"1"
    gone.start()
    cluster.wait_until_complete()


def test_the_sentinels_choose_another_master(start):
    sentinel = start(RedisSentinel(programs.redis_70()))
    first = sentinel.master
    second = sentinel.fail_over()
    assert second is not first
    assert second.command("SET", "a", "1") == b"OK"


# --- DynamoDB ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DYNAMODB)
def test_a_table_takes_an_item_unless_there_is_one(name, request):
    server = request.getfixturevalue(name)
    server.create_table("first")
    assert "first" in server.command("ListTables", {})["TableNames"]
    put = {"TableName": "first", "Item": {"id": {"S": "a"}}, "ConditionExpression": "attribute_not_exists(id)"}
    server.command("PutItem", put)
    with pytest.raises(Exception, match="ConditionalCheckFailed"):
        server.command("PutItem", put)


def test_a_dynamodb_server_restarts_at_the_same_address_without_its_tables(dynoxide, start):
    server = start(type(dynoxide)(programs.dynoxide()))
    server.create_table("lost")
    url = server.url
    server.restart()
    assert server.url == url
    assert server.command("ListTables", {})["TableNames"] == []


# --- the proxy --------------------------------------------------------------------------------------------------------


def test_a_dropped_reply_leaves_the_command_applied(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    fault = proxy.drop_reply(b"INCR")
    with proxy.server.connect() as connection:
        assert connection.command("PING") == b"PONG"
        assert not fault.struck
        with pytest.raises(ConnectionError):
            connection.command("INCR", "dropped-reply")
    assert fault.struck
    assert redis_62.command("GET", "dropped-reply") == b"1"
    assert proxy.server.command("INCR", "dropped-reply") == 2  # struck once, and no more


def test_a_dropped_request_is_never_applied_and_the_nth_is_the_nth(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    proxy.drop_request(b"INCR", nth=2)
    proxy.server.command("INCR", "dropped-request")
    with pytest.raises(ConnectionError):
        proxy.server.command("INCR", "dropped-request")
    assert redis_62.command("GET", "dropped-request") == b"1"


def test_what_a_client_sends_of_its_own_does_not_strike(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    fault = proxy.drop_reply(b"\r\nSET\r\n")
    with redis.Redis.from_url(proxy.server.url, retry=None) as client:
        assert client.ping()
        assert proxy.count(b"SETINFO")
        assert not fault.struck
        with pytest.raises(redis.ConnectionError):
            client.set("by-a-client", "1")
    assert redis_62.command("GET", "by-a-client") == b"1"


def test_a_swallowed_reply_leaves_the_client_waiting(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    fault = proxy.swallow_reply(b"INCR")
    with proxy.server.connect() as connection:
        connection.send("INCR", "swallowed")
        fault.wait()
        assert redis_62.command("GET", "swallowed") == b"1"
        connection._socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection._socket.recv(1)


def test_requests_are_counted_by_round_trips(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    with proxy.server.connect() as connection:
        connection.command("SET", "counted", "1")
        proxy.forget_requests()
        connection.command("GET", "counted")
        connection.command("SET", "counted", "2")
        assert (proxy.count(), proxy.count(b"GET"), proxy.accepted) == (2, 1, 1)


def test_cut_connections_are_over_and_new_ones_work(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    with proxy.server.connect() as connection:
        connection.command("PING")
        proxy.cut()
        with pytest.raises(ConnectionError):
            connection.command("PING")
    assert proxy.server.command("PING") == b"PONG"


def test_nothing_passes_a_black_hole_until_it_is_healed(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    with proxy.server.connect() as connection:
        connection.command("SET", "held", "before")
        proxy.black_hole()
        connection.send("SET", "held", "after")
        wait_until(lambda: proxy.count(b"after") == 1, "the request at the proxy")
        assert redis_62.command("GET", "held") == b"before"
        proxy.heal()
        assert connection.command("GET", "held") == b"OK"  # the reply to SET
    assert redis_62.command("GET", "held") == b"after"


def test_a_delayed_reply_comes_later_than_its_effect(redis_62, proxy_to):
    proxy = proxy_to(redis_62)
    with proxy.server.connect() as connection:
        connection.command("PING")
        proxy.delay(3600)
        connection.send("SET", "delayed", "1")
        wait_until(lambda: redis_62.command("GET", "delayed") == b"1", "the effect")
        proxy.heal()
        assert connection.command("PING") == b"OK"  # the reply to SET


def test_the_proxy_stays_where_it_is_when_the_server_restarts(start, proxy_to):
    server = start(RedisServer(programs.redis_62()))
    proxy = proxy_to(server)
    assert proxy.server.command("PING") == b"PONG"
    server.kill()
    with pytest.raises(ConnectionError):
        proxy.server.command("PING")
    server.start()
    assert proxy.server.command("PING") == b"PONG"


def test_a_dropped_reply_of_dynamodb_leaves_the_item_written(dynoxide, proxy_to):
    dynoxide.create_table("dropped")
    proxy = proxy_to(dynoxide)
    fault = proxy.drop_reply(b"PutItem")
    proxy.server.command("ListTables", {})
    with pytest.raises(ConnectionError):
        proxy.server.command("PutItem", {"TableName": "dropped", "Item": {"id": {"S": "a"}}})
    assert fault.struck
    key = {"TableName": "dropped", "Key": {"id": {"S": "a"}}}
    assert proxy.server.command("GetItem", key)["Item"] == {"id": {"S": "a"}}


# --- what is missing, and what is left --------------------------------------------------------------------------------


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_program_skips_loudly_at_a_desk_and_fails_in_ci(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(outcome, match="apt-get install redis-tools"):
        programs.redis_70()


KILLED = """
import sys
from servers import RedisServer, programs
server = RedisServer(programs.valkey_91())
server.start()
print(server.pid, server.directory, flush=True)
sys.stdin.read()
"""


def test_servers_and_their_data_are_gone_when_the_tests_are_killed():
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    ) as tests:
        pid, directory = tests.stdout.readline().split()
        assert Path(directory).exists()
        tests.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(directory).parent.exists(), "the guard's work")
    # It may be a zombie still, where the system's first process is slow to collect them.
    status = Path(f"/proc/{pid}/stat")
    wait_until(lambda: not status.exists() or status.read_text().split(")")[1].split()[0] == "Z", "its end")
