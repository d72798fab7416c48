"""What a server refuses, each provoked on a real one: one clear error before anything ran, and no second run after."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import glide_sync
import pytest
import redis
import valkey

from retrysafe import IdempotencyConfig, current_execution, idempotent_batch, idempotent_function, layer_from_url
from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.testing import FailingLayer
from servers import RedisCluster, RedisServer, ReplyError, programs, wait_until
from support.cache_callers import SECRET, Caller


@pytest.fixture(scope="module")
def guarded_server(start_shared):
    """A server with a password, and users who may not do everything."""
    server = start_shared(RedisServer(programs.redis_70(), password=SECRET))
    for name, *rules in (
        ("no-scripts", "~*", "+@all", "-@scripting"),
        ("no-set", "~*", "+@all", "-set"),
        ("no-key", "~other:*", "+@all"),
        ("no-channel", "~*", "+@all", "resetchannels"),
        ("no-publish", "~*", "+@all", "-publish"),
        ("least", "~p#*", "+evalsha", "+eval", "+get", "+set", "+del", "+pexpire", "+time"),
    ):
        server.command("ACL", "SETUSER", name, "reset", "on", f">{SECRET}", *rules)
    return server


@pytest.fixture
def guarded(guarded_server):
    """The same, with nothing stored."""
    guarded_server.command("FLUSHALL")
    return guarded_server


def as_user(server, name):
    return f"redis://{name}:{SECRET}@{server.host}:{server.port}"


# --- users ------------------------------------------------------------------------------------------------------------


def test_no_password(call, guarded):
    url = f"redis://{guarded.host}:{guarded.port}"
    call.refused(url, IdempotencyPersistenceConfigError, "wants a password: give username and password")


def test_a_wrong_password(call, guarded):
    for user in ("", "somebody"):
        url = as_user(guarded, user).replace(SECRET, f"wrong-{SECRET}")
        call.refused(url, IdempotencyPersistenceConfigError, "refuses the username or the password")


@pytest.mark.parametrize("user", ["no-scripts", "no-set", "no-key"])
def test_a_user_without_permission(call, guarded, user):
    call.refused(as_user(guarded, user), IdempotencyPersistenceConfigError, "does not permit this user the commands")


@pytest.mark.parametrize("user", ["no-channel", "no-publish", "least"])
def test_a_user_who_may_not_publish_needs_not(call, guarded, user):
    url = as_user(guarded, user)
    assert [call(url), call(url)] == ["done", "done"]
    with pytest.raises(ZeroDivisionError):
        call(url, order=2, answer=lambda: 1 / 0)
    assert call(url, order=2) == "done"
    assert call.ran == [1, 2, 2]


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_the_least_permissions_do_for_batches_renewals_waiting_and_takeovers_too(guarded, library):
    runs = []
    with layer_from_url(as_user(guarded, "least").replace("redis", library, 1)) as layer:
        over_many = idempotent_batch(lambda order: order, persistence_store=layer, key_prefix="p#batch")
        assert [[result.status for result in over_many([1, 2, 1])] for _ in range(2)] == [
            ["returned", "returned", "replayed"],
            ["replayed"] * 3,
        ]

        def dies_at_first(order):
            runs.append(order)
            execution = current_execution()
            end_ms = execution.lease_end_ms
            wait_until(lambda: execution.lease_end_ms > end_ms, "a renewal")
            if len(runs) == 1:
                raise MemoryError(order)
            return order

        failing = FailingLayer(layer)
        config = IdempotencyConfig(in_progress_expires_after_seconds=0.3, on_in_progress="wait")
        charge = idempotent_function(dies_at_first, persistence_store=failing, key_prefix="p", config=config)
        failing.fail("delete")
        with pytest.raises(MemoryError):
            charge(1)
        assert charge(1) == 1
    assert runs == [1, 1]


def test_permissions_are_told_alike_by_all_servers(any_server):
    any_server.command("ACL", "SETUSER", "me", "on", f">{SECRET}", "~*", "+@all", "-set")
    Caller("redis").refused(as_user(any_server, "me"), IdempotencyPersistenceConfigError, "SET, DEL, PEXPIRE, TIME")


# --- states of a server -----------------------------------------------------------------------------------------------


def test_a_replica(call, start):
    replica = start(RedisServer(programs.redis_70(), options={"replicaof": "127.0.0.1 1"}))
    call.refused(replica.url, IdempotencyPersistenceConnectionError, "is a replica, which takes no writes")
    replica.command("CONFIG", "SET", "replica-serve-stale-data", "no")
    call.refused(replica.url, IdempotencyPersistenceConnectionError, "has lost its master")


def test_a_server_that_wants_replicas(call, start):
    server = start(RedisServer(programs.redis_70(), options={"min-replicas-to-write": "1"}))
    call.refused(server.url, IdempotencyPersistenceConnectionError, "has too few replicas to take writes")


def test_a_server_that_still_loads(call, start):
    server = RedisServer(programs.redis_70(), options={"enable-debug-command": "yes"})
    start(server)
    server.command("DEBUG", "POPULATE", 5000)
    server.command("SAVE")
    server.kill()
    server.options |= {"key-load-delay": "1000", "loading-process-events-interval-bytes": "1024"}
    server.launch()
    wait_until(lambda: is_loading(server), "a server that loads")
    call.refused(server.url, IdempotencyPersistenceConnectionError, "is still loading its data")
    server.kill()


def is_loading(server):
    try:
        server.command("GET", "x")
    except ConnectionError as error:
        return str(error).startswith("LOADING")
    return False


def test_a_server_that_cannot_save(call, start):
    server = start(RedisServer(programs.redis_70(), options={"save": "1000 1000", "dbfilename": "dump.rdb"}))
    (server.directory / "dump.rdb" / "in-the-way").mkdir(parents=True)
    server.command("BGSAVE")
    wait_until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", "a save that failed")
    call.refused(server.url, IdempotencyPersistenceLayerError, "cannot save to its disk and takes no writes")
    server.kill()  # asked to end, it would insist on saving first


def test_a_server_that_is_busy_with_a_script(call, start):
    server = start(RedisServer(programs.redis_70(), options={"busy-reply-threshold": "1"}))
    with (
        redis.Redis(host=server.host, port=server.port, socket_timeout=60) as theirs,
        ThreadPoolExecutor(1) as thread,
    ):
        running = thread.submit(theirs.eval, "while true do end", 0)
        wait_until(lambda: is_busy(server), "a server that is busy")
        call.refused(server.url, IdempotencyPersistenceConnectionError, "is busy with somebody's script")
        server.command("SCRIPT", "KILL")
        with pytest.raises(redis.ResponseError, match="killed"):
            running.result()


def is_busy(server):
    try:
        server.command("GET", "x")
    except ReplyError as error:
        return str(error).startswith("BUSY")
    return False


def test_a_server_that_is_no_cluster_or_no_sentinel(call, redis_70):
    place = f"{redis_70.host}:{redis_70.port}"
    call.refused(f"redis+cluster://{place}", IdempotencyPersistenceConfigError, "is not part of a cluster")
    call.refused(f"redis+sentinel://{place}/m", IdempotencyPersistenceConfigError, "is no Sentinel")


def test_a_cluster_whose_user_may_not_ask_for_its_nodes(call, start):
    server = start(RedisServer(programs.redis_70(), options={"cluster-enabled": "yes"}))
    server.command("ACL", "SETUSER", "blind", "on", f">{SECRET}", "~*", "+@all", "-cluster|slots")
    url = f"redis+cluster://blind:{SECRET}@{server.host}:{server.port}"
    call.refused(url, IdempotencyPersistenceConfigError, r"does not permit this user .*\(.*'cluster\|slots'")


def test_a_cluster_that_is_taken_for_one_server(call, start):
    cluster = start(RedisCluster(programs.redis_70()))
    call(cluster.url.replace("redis:", "redis+cluster:"))
    (elsewhere, _) = [node for node in cluster.nodes if not node.command("KEYS", "*")]
    call.ran.clear()
    call.refused(elsewhere.url, IdempotencyPersistenceConnectionError, "it is a cluster: mode='cluster' or [+]cluster")


@pytest.mark.parametrize("program", [programs.redis_62, programs.redis_70, programs.valkey_91])
def test_a_cluster_that_is_down_but_may_be_read(call, start, program):
    options = {"cluster-enabled": "yes", "cluster-allow-reads-when-down": "yes"}
    server = start(RedisServer(program(), options=options))
    server.command("CLUSTER", "ADDSLOTS", *range(16_383))
    wait_until(lambda: b"cluster_slots_ok:16383" in server.command("CLUSTER", "INFO"), "all slots but one")
    call.refused(server.url, IdempotencyPersistenceConnectionError, "is down: the cluster does not serve this key")


def test_a_cluster_refuses_a_password_as_any_server_does(call, start):
    server = start(RedisServer(programs.redis_70(), password=SECRET, options={"cluster-enabled": "yes"}))
    url = f"redis+cluster://{server.host}:{server.port}"
    call.refused(url.replace("//", "//:wrong@"), IdempotencyPersistenceConfigError, "refuses the username or the pass")
    call.refused(url.replace("//", f"//:{SECRET}@"), IdempotencyPersistenceConnectionError, "cannot be reached")


def test_something_else_under_the_key(call, redis_62):
    redis_62.command("FLUSHALL")
    call(redis_62.url)
    (key,) = redis_62.command("KEYS", "*")
    call.ran.clear()
    redis_62.command("DEL", key)
    redis_62.command("LPUSH", key, "x")
    call.refused(
        redis_62.url, IdempotencyPersistenceConsistencyError, "holds something under the key that is no record"
    )
    redis_62.command("SET", key, b"\xff\xfe")
    call.refused(redis_62.url, IdempotencyPersistenceConsistencyError, "no record that can be read|no text")


# --- clients that are passed in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        (["CONFIG", "SET", "maxmemory", "1"], IdempotencyPersistenceLayerError, "has no memory left"),
        (["ACL", "SETUSER", "default", "-evalsha"], IdempotencyPersistenceConfigError, "does not permit this user"),
        (["CONFIG", "SET", "min-replicas-to-write", "1"], IdempotencyPersistenceConnectionError, "too few replicas"),
        (["REPLICAOF", "127.0.0.1", "1"], IdempotencyPersistenceConnectionError, "is a replica"),
    ],
    ids=["memory", "permission", "replicas", "replica"],
)
def test_refusals_are_told_alike_through_any_client(start, setting, kind, message):
    server = start(RedisServer(programs.redis_70()))
    clients = [
        redis.Redis(host=server.host, port=server.port),
        valkey.Valkey(host=server.host, port=server.port),
        glide_sync.GlideClient.create(
            glide_sync.GlideClientConfiguration([glide_sync.NodeAddress(server.host, server.port)])
        ),
    ]
    server.command(*setting)
    for client in clients:
        function = idempotent_function(lambda order: order, persistence_store=CachePersistenceLayer(client=client))
        with pytest.raises(kind, match=f"the cache at {server.host}:{server.port} .*{message}"):
            function(1)
        client.close()


# --- what cannot be provoked ------------------------------------------------------------------------------------------


def test_a_client_that_shows_a_password_in_its_error_is_not_repeated():
    shown = explained(RuntimeError(f"<Connection(host=cache,password={SECRET},db=0)>: {SECRET}"), "cache:1", SECRET)
    assert SECRET not in f"{shown!r} {shown}"
    assert "password=...,db=0" in str(shown)


def test_nor_is_one_with_commas_and_brackets():
    options = "<Connection(host=cache,password=pass,w(or)d,db=0)>, <Connection(password=pass,w(or)d)>"
    for password in ("", "pass,w(or)d"):
        shown = explained(RuntimeError(options), "cache:1", password)
        assert shown.details == "<Connection(host=cache,password=...,db=0)>, <Connection(password=...)>"


class UnspeakableError(Exception):
    """One without a text."""

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("handled", [ValueError(42, "password=too short, tell them"), UnspeakableError(42)])
def test_an_error_that_the_caller_handles_meanwhile_is_left_as_it_is(handled):
    args, error = handled.args, redis.ConnectionError(f"<Connection(password={SECRET})>")
    error.__context__ = handled
    assert type(explained(error, "cache:1")) is IdempotencyPersistenceConnectionError
    assert SECRET not in str(error)
    assert handled.args == args
