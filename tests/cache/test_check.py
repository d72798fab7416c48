"""`check()` says what a cache may lose or refuse, with every client; what it cannot find out, it says too."""

from __future__ import annotations

import warnings

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence._cache.check import fields, judged
from retrysafe.persistence.cache import CacheFinding, CachePersistenceLayer
from servers import RedisCluster, RedisServer, programs, wait_until
from support.replicated import Caller, Cluster, Pair, Sentinels

SAFE = {"appendonly": "yes", "appendfsync": "always"}


class One(Pair):
    """One server by itself."""

    def __init__(self, program=None, **options):
        self.master = RedisServer(program or programs.redis_70(), **options)

    def start(self):
        self.master.start()

    def stop(self):
        self.master.kill()


class SafeCluster(Cluster):
    """Three masters with no replicas."""

    def __init__(self):
        RedisCluster.__init__(self, programs.redis_70(), options=SAFE)


@pytest.fixture(scope="module")
def safe(start_shared):
    """A server that loses nothing but with its disk."""
    return start_shared(One(options=SAFE))


@pytest.fixture(scope="module")
def safe_cluster(start_shared):
    return start_shared(SafeCluster())


@pytest.fixture(scope="module")
def pair(start_shared):
    return start_shared(Pair())


def check(world, library="redis", asynchronous=False, **options):
    with Caller(world, library, asynchronous, **options) as caller:
        return caller.run(caller.layer.check)


def codes(found):
    return sorted(finding.code for finding in found)


# --- with every client --------------------------------------------------------------------------------------------


def test_nothing_is_found_where_all_is_well(safe, library, asynchronous):
    assert check(safe, library, asynchronous) == []


def test_nothing_is_found_in_a_cluster_where_all_is_well(safe_cluster, library, asynchronous):
    assert check(safe_cluster, library, asynchronous) == []


def test_each_master_of_a_cluster_is_asked(safe_cluster, library, asynchronous):
    odd = safe_cluster.nodes[1]
    odd.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        found = check(safe_cluster, library, asynchronous)
    finally:
        odd.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert [(finding.code, finding.where) for finding in found] == [("evicting", f"{odd.host}:{odd.port}")]


def test_a_client_of_a_class_of_ones_own_asks_as_the_one_that_it_is_derived_from(safe_cluster, library, asynchronous):
    """One that traces what goes through it, say."""
    with Caller(safe_cluster, library, asynchronous) as caller:
        caller.client.__class__ = type("Traced", (type(caller.client),), {})
        assert caller.run(caller.layer.check) == []
        safe_cluster.nodes[1].command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            found = caller.run(caller.layer.check)
        finally:
            safe_cluster.nodes[1].command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert codes(found) == ["evicting"]


def test_replicas_that_nobody_waits_for_are_found_and_too_few_of_them_too(pair, library, asynchronous):
    found = check(pair, library, asynchronous)
    assert codes(found) == ["asynchronous_replicas", "no_persistence"]
    assert codes(check(pair, library, asynchronous, min_replicas=1)) == ["no_persistence"]
    assert codes(check(pair, library, asynchronous, min_replicas=2)) == ["no_persistence", "too_few_replicas"]


def test_replicas_that_need_not_confirm_are_found_too(pair, start, library, asynchronous):
    master = pair.master
    second = start(RedisServer(programs.redis_70(), options={"replicaof": f"{master.host} {master.port}"}))
    wait_until(lambda: ",state=online" in master.info("replication").get("slave1", ""), "two replicas")
    (_, found) = sorted(check(pair, library, asynchronous, min_replicas=1), key=lambda each: each.code)
    assert (found.code, "set min_replicas=2" in found.message) == ("unconfirmed_replicas", True)
    assert codes(check(pair, library, asynchronous, min_replicas=2)) == ["no_persistence"]
    second.kill()
    wait_until(lambda: "slave1" not in master.info("replication"), "one replica")


@pytest.mark.parametrize("library", ["redis", "valkey"])  # valkey-glide refuses to open one
def test_a_replica_is_found_to_be_none_to_write_to(pair, library, asynchronous):
    assert "not_a_master" in codes(check(pair, library, asynchronous, at=pair.replica))


def test_what_managed_services_refuse_to_tell_is_said(safe, library, asynchronous):
    safe.master.command("ACL", "SETUSER", "default", "-config")
    try:
        found = check(safe, library, asynchronous)
        assert codes(found) == ["not_known"]
        assert "CONFIG" in found[0].message
        if library == "glide":  # it asks for INFO itself, when it connects
            return
        safe.master.command("ACL", "SETUSER", "default", "-info")
        found = check(safe, library, asynchronous)
        assert codes(found) == ["not_known"]
        assert "INFO" in found[0].message
    finally:
        safe.master.command("ACL", "SETUSER", "default", "+@all")


@pytest.mark.parametrize("known", [False, True], ids=["new server", "server that was asked before"])
@pytest.mark.parametrize("command", ["set", "get", "del", "pexpire", "time", "evalsha", "eval"])
def test_a_command_that_the_user_may_not_run_is_found(safe, library, asynchronous, command, known):
    if (library, command) == ("glide", "eval"):
        command = "script|load"  # its way to make a script known
    if known:
        assert check(safe, library, asynchronous) == []
    else:
        safe.master.command("SCRIPT", "FLUSH")
    safe.master.command("ACL", "SETUSER", "default", f"-{command}")
    try:
        found = check(safe, library, asynchronous)
    finally:
        safe.master.command("ACL", "SETUSER", "default", "+@all")
    assert codes(found) == ["not_permitted"]
    assert command.replace("|", " ") in found[0].message.lower().replace("|", " ")


def test_a_user_who_may_not_publish_is_found(safe, library, asynchronous):
    safe.master.command("ACL", "SETUSER", "default", "resetchannels")
    try:
        assert codes(check(safe, library, asynchronous)) == ["not_told"]
    finally:
        safe.master.command("ACL", "SETUSER", "default", "allchannels")


def test_a_user_with_other_keys_than_the_one_tried_out_is_told_what_is_not_known(safe, library, asynchronous):
    safe.master.command("ACL", "SETUSER", "default", "resetkeys", "~orders*")
    try:
        assert codes(check(safe, library, asynchronous)) == ["not_known"]
    finally:
        safe.master.command("ACL", "SETUSER", "default", "allkeys")


def test_a_user_who_may_not_wait_is_found(pair, library, asynchronous):
    pair.master.command("ACL", "SETUSER", "default", "-wait")
    try:
        found = check(pair, library, asynchronous, min_replicas=1)
    finally:
        pair.master.command("ACL", "SETUSER", "default", "+wait")
    assert "not_permitted" in codes(found)


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_the_master_of_a_sentinel_is_asked(redis_sentinel, library, asynchronous):
    redis_sentinel.client = Sentinels.client.__get__(redis_sentinel)
    found = check(redis_sentinel, library, asynchronous)
    assert codes(found) == ["asynchronous_replicas", "no_persistence"]


# --- what is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"appendonly": "no", "save": ""}, ["no_persistence"]),
        ({"appendonly": "no", "save": "3600 1"}, ["snapshots_only"]),
        (SAFE | {"appendfsync": "everysec"}, ["delayed_fsync"]),
        (SAFE | {"appendfsync": "no"}, ["delayed_fsync"]),
        (SAFE | {"maxmemory": "100mb", "maxmemory-policy": "volatile-ttl"}, ["evicting"]),
        (SAFE | {"maxmemory-policy": "allkeys-random"}, ["evicting"]),
        (SAFE | {"maxmemory": "100kb"}, ["memory_full"]),
        (SAFE | {"maxmemory": "100kb", "maxmemory-policy": "volatile-lru"}, ["evicting", "memory_full"]),
        (SAFE | {"maxmemory": "100mb"}, []),
    ],
    ids=str,
)
def test_how_a_server_is_set_up(start, options, expected):
    assert codes(check(start(One(options=options)))) == expected


@pytest.mark.parametrize("program", [programs.redis_62, programs.valkey_81, programs.valkey_91])
def test_other_servers_are_understood_too(start, program):
    assert check(start(One(program(), options=SAFE))) == []
    assert codes(check(start(One(program(), options={"maxmemory-policy": "allkeys-lfu"})))) == [
        "evicting",
        "no_persistence",
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ({"redis_version": "6.2.0"}, []),
        ({"redis_version": "6.0.16"}, ["version"]),
        ({"redis_version": "5.0.14"}, ["version"]),
        ({"redis_version": "8.2.1"}, []),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, []),
        ({}, ["not_known"]),
    ],
    ids=str,
)
def test_a_version_too_old(version, expected):
    well = {"role": "master", "maxmemory": "0", "maxmemory_policy": "noeviction", "aof_enabled": "1"}
    found = judged("here", well | version, {"appendfsync": "always"}, min_replicas=0)
    assert codes(found) == expected


def test_a_disk_that_fails():
    info = {
        "role": "master",
        "redis_version": "7.0.0",
        "maxmemory": "0",
        "maxmemory_policy": "noeviction",
        "aof_enabled": "1",
        "aof_last_write_status": "err",
    }
    assert codes(judged("here", info, {"appendfsync": "always"}, min_replicas=0)) == ["disk_failing"]


def test_an_info_that_tells_nothing_is_no_all_clear():
    assert codes(judged("here", {}, {}, min_replicas=0)) == ["not_known"] * 4


def test_replies_are_read_in_every_form_that_clients_give_them():
    assert fields(b"# Server\r\nredis_version:7.0.0\r\n\r\nslave0:ip=1,state=online\r\n") == {
        "redis_version": "7.0.0",
        "slave0": "ip=1,state=online",
    }
    assert fields({"redis_version": "7.0.0", "slave0": {"ip": "1", "state": "online"}}) == fields(
        "redis_version:7.0.0\nslave0:ip=1,state=online\n"
    )
    assert fields([b"save", b""]) == fields({b"save": b""}) == {"save": ""}


def test_a_client_with_nothing_but_get_set_and_delete_is_found():
    class Client:
        def get(self, name): ...
        def set(self, name, value, ex=None, px=None, nx=False): ...
        def delete(self, keys): ...

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = CachePersistenceLayer(client=Client())
    assert codes(layer.check()) == ["not_known", "plain_client"]


def test_a_server_that_cannot_be_reached_is_an_error_not_a_finding(asynchronous, start):
    world = start(One())
    with Caller(world, "redis", asynchronous) as caller:
        world.stop()
        with pytest.raises(IdempotencyPersistenceConnectionError):
            caller.run(caller.layer.check)


def test_a_finding_shows_what_it_is_and_where():
    finding = CacheFinding("evicting", "maxmemory-policy is allkeys-lru", "cache:6379")
    assert str(finding) == "cache:6379: maxmemory-policy is allkeys-lru"
    assert repr(finding) == "CacheFinding('evicting', 'maxmemory-policy is allkeys-lru', 'cache:6379')"
    assert finding == CacheFinding("evicting", "maxmemory-policy is allkeys-lru", "cache:6379")
    assert len({finding, CacheFinding("evicting", "maxmemory-policy is allkeys-lru", "cache:6379")}) == 1


def test_checking_leaves_nothing_behind(safe):
    safe.master.command("FLUSHALL")
    assert check(safe) == []
    assert safe.master.command("DBSIZE") == 0
