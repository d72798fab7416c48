"""What the cache layer sends, keeps and owns: round trips, scripts, the client, the record's bytes and its life."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path

import pytest
import redis
import redis.asyncio

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.testing import ManualClock
from servers import RedisCluster, RedisSentinel, RedisServer, programs
from support.any_client import OnlyGetSetDelete
from support.bodies import counted

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "powertools-python-3.37.0.json").read_text())["records"]
TEN_YEARS = 10 * 365 * 86_400


def connected(server, **options):
    return redis.Redis(host=server.host, port=server.port, **options)


def url_of(server):
    return f"redis://{server.host}:{server.port}/0"


def once(layer, body, key, **options):
    return idempotent_function(body, persistence_store=layer, key_prefix=key, config=IdempotencyConfig(**options))


def key_in(server, prefix):
    (key,) = server.command("KEYS", f"{prefix}#*")
    return key.decode()


def record(key, status=INPROGRESS, *, owner="owner-1", window=3600, lease=30, **fields):
    clock = ManualClock()
    now = clock.now_ms()
    lease_end = now + lease * 1000 if status == INPROGRESS else None
    return DataRecord(key, status, now // 1000 + window, lease_end, owner=owner, made_at_ms=now, **fields)


# --- round trips ------------------------------------------------------------------------------------------------------


class Counting(redis.Redis):
    """Counts the commands that it is given."""

    commands = 0

    def execute_command(self, *args, **options):
        self.commands += 1
        return super().execute_command(*args, **options)


def test_a_first_call_is_two_commands_and_a_replay_one(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)
    with Counting(host=proxy.host, port=proxy.port) as client:
        call = once(CachePersistenceLayer(client=client), counted(), "trips-call")
        call(0)  # makes the connection, and may teach the server the scripts
        for payload, expected in ((1, 2), (1, 1), (1, 1), (2, 2)):
            proxy.forget_requests()
            client.commands = 0
            call(payload)
            assert client.commands == proxy.count() == expected


def test_a_release_and_a_renewal_are_one_command_each(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)
    with connected(proxy.server) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        for _ in range(2):  # the first time teaches the server the scripts
            claim = record("trips-steps")
            layer._put_record(claim)
            proxy.forget_requests()
            layer._renew_record(claim)
            renewed = proxy.count()
            layer._delete_record(claim)
        assert (renewed, proxy.count()) == (1, 2)


def test_the_server_counts_one_script_for_each_step(start):
    server = start(RedisServer(programs.valkey_91()))
    with connected(server) as client:
        call = once(CachePersistenceLayer(client=client), counted(), "trips-stats")
        call(0)
        server.command("CONFIG", "RESETSTAT")
        call(1)
        call(1)
        stats = server.info("commandstats")
    assert stats["cmdstat_evalsha"].startswith("calls=3,")
    assert "cmdstat_eval" not in stats


def test_an_asynchronous_call_takes_as_many(valkey_91, proxy_to):
    proxy = proxy_to(valkey_91)

    async def main():
        async with redis.asyncio.Redis(host=proxy.host, port=proxy.port) as client:

            async def charge(order):
                return order

            call = once(AsyncCachePersistenceLayer(client=client), charge, "trips-async")
            await call(0)
            for expected in (2, 1):
                proxy.forget_requests()
                await call(1)
                assert proxy.count() == expected

    asyncio.run(main())


# --- scripts that the server has forgotten ----------------------------------------------------------------------------


@pytest.mark.parametrize("forget", ["SCRIPT FLUSH", "restart"])
def test_scripts_that_a_server_forgot_are_sent_again(forget, start):
    server = start(RedisServer(programs.valkey_91(), options={"appendonly": "yes", "appendfsync": "always"}))
    with CachePersistenceLayer(url_of(server)) as layer:
        body = counted()
        call = once(layer, body, "forgotten")
        assert call(1) == 1
        for payload in (2, 3):
            if forget == "restart":
                server.restart()
            else:
                server.command("SCRIPT", "FLUSH")
            assert [call(payload), call(payload), call(1)] == [payload, payload, 1]
        assert body.body.runs == 3


def test_a_call_follows_a_slot_that_moved(start):
    cluster = start(RedisCluster(programs.valkey_91()))
    with CachePersistenceLayer(f"redis+cluster://{cluster.nodes[0].host}:{cluster.nodes[0].port}") as layer:
        body = counted()
        call = once(layer, body, "{moved}")
        assert call(1) == 1
        source = cluster.master_of("{moved}")
        target = next(node for node in cluster if node is not source)
        move_slot(cluster, "{moved}", source, target)
        assert [call(2), call(2)] == [2, 2]
        assert cluster.master_of("{moved}") is target
        assert call(1) == 1  # its record has moved along
        assert body.body.runs == 2


def test_a_call_follows_a_failover(start):
    sentinel = start(RedisSentinel(programs.valkey_81()))
    addresses = ",".join(f"{host}:{port}" for host, port in sentinel.addresses)
    with CachePersistenceLayer(f"redis+sentinel://{addresses}/{sentinel.name}") as layer:
        call = once(layer, counted(), "failover")
        assert call(1) == 1
        sentinel.master.command("WAIT", 2, 5000)
        sentinel.fail_over()  # the new master has never seen the scripts
        assert [call(2), call(2), call(1)] == [2, 2, 1]


def move_slot(cluster, key, source, target):
    slot = source.command("CLUSTER", "KEYSLOT", key)
    names = {node: node.command("CLUSTER", "MYID") for node in cluster}
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    for moved in source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.command("MIGRATE", target.host, target.port, moved, 0, 5000)
    for node in (target, source):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", names[target])


# --- whose client it is -----------------------------------------------------------------------------------------------


def test_a_client_that_was_passed_in_is_never_closed(valkey_91):
    with connected(valkey_91) as client:
        with CachePersistenceLayer(client=client) as layer:
            once(layer, counted(), "passed-in")(1)
        assert connections(client) == 1
        layer.close()
        assert connections(client) == 1
        assert once(layer, counted(), "passed-in")(1) == 1


def connections(client):
    """How many of the client's connections are open."""
    pool = client.connection_pool
    return sum(each._sock is not None for each in pool._available_connections)


def test_an_asynchronous_client_that_was_passed_in_is_never_closed(valkey_91):
    async def main():
        async with redis.asyncio.Redis(host=valkey_91.host, port=valkey_91.port) as client:
            async with AsyncCachePersistenceLayer(client=client) as layer:
                await layer._put_record(record("passed-in-async"))
            (connection,) = client.connection_pool._available_connections
            assert connection.is_connected

    asyncio.run(main())


def clients_of(server):
    return [line for line in server.command("CLIENT", "LIST").decode().splitlines() if "cmd=client" not in line]


def test_a_client_that_the_layer_opened_is_closed_with_it_and_opened_again_when_needed(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = CachePersistenceLayer(url_of(server))
    call = once(layer, counted(), "opened")
    assert clients_of(server) == []
    assert call(1) == 1
    assert len(clients_of(server)) == 1
    layer.close()
    layer.close()
    assert clients_of(server) == []
    assert call(1) == 1
    layer.close()
    assert clients_of(server) == []


def test_one_asynchronous_layer_serves_one_event_loop_after_the_other(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = AsyncCachePersistenceLayer(url_of(server))
    runs = []

    async def charge(order):
        runs.append(order)
        return order

    call = once(layer, charge, "loops")

    async def main(payload):
        assert await call(payload) == payload
        assert len(clients_of(server)) == 1
        await layer.close()
        await layer.close()
        assert await call(payload) == payload
        await layer.close()
        assert clients_of(server) == []

    for payload in (1, 2):
        asyncio.run(main(payload))
        gc.collect()  # a connection that nobody closed would warn
    assert runs == [1, 2]


def test_what_belongs_to_loops_that_ended_without_a_close_is_let_go(start):
    server = start(RedisServer(programs.valkey_91()))
    layer = AsyncCachePersistenceLayer(url_of(server))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the client, rightly
        for number in range(10):
            asyncio.run(layer._put_record(record(f"ended-{number}")))
        gc.collect()
        assert len(clients_of(server)) <= 1
        del layer
        gc.collect()


def test_a_forked_child_and_its_parent_both_go_on(valkey_91):
    with CachePersistenceLayer(url_of(valkey_91)) as layer:
        call = once(layer, counted(), "forked")
        assert call(1) == 1
        context = multiprocessing.get_context("fork")
        replies = context.SimpleQueue()

        def in_child():
            try:
                replies.put([call(1), *(call(number) for number in range(100, 120))])
            except BaseException:  # noqa: BLE001  # the parent shows it
                replies.put(traceback.format_exc())

        child = context.Process(target=in_child)
        child.start()
        ours = [call(number) for number in range(200, 220)]
        theirs = replies.get()
        child.join(10)
        assert child.exitcode == 0
        assert ours == theirs[1:] == list(range(2, 22))
        assert [theirs[0], call(1)] == [1, 1]


FORKED_WHILE_OPENING = """
import os, signal, socket, threading
from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.cache import CachePersistenceLayer

def look():
    try:
        layer._get_record("key")
    except IdempotencyPersistenceConnectionError:
        return

silent = socket.create_server(("127.0.0.1", 0))
layer = CachePersistenceLayer(f"redis+cluster://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=1")
opening = threading.Thread(target=look)
opening.start()
accepted = [silent.accept()]
child = os.fork()
if child == 0:
    signal.alarm(30)
    look()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_forked_while_a_thread_opens_the_client_opens_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED_WHILE_OPENING], check=True, timeout=60)


FORKED_WHILE_A_POOL_IS_LOCKED = """
import os, signal, sys, threading
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.cache import CachePersistenceLayer

def look():
    try:
        layer._get_record("key")
    except IdempotencyItemNotFoundError:
        return

def hold():
    with pool._lock:
        held.set()
        forked.wait()

layer = CachePersistenceLayer(sys.argv[1])
look()
pool = layer.client.connection_pool
held, forked = threading.Event(), threading.Event()
threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    look()
    del pool
    layer.close()
    sys.exit(0)
forked.set()
assert os.waitpid(child, 0)[1] == 0
look()
"""


@pytest.mark.parametrize("library", ["redis", "valkey"])
def test_a_child_forked_while_a_thread_takes_a_connection_opens_its_own(library, valkey_91):
    program = [sys.executable, "-W", "ignore", "-c", FORKED_WHILE_A_POOL_IS_LOCKED]
    subprocess.run([*program, url_of(valkey_91).replace("redis", library, 1)], check=True, timeout=60)


def test_threads_share_a_layer(valkey_91):
    with CachePersistenceLayer(url_of(valkey_91)) as layer:
        body = counted()
        call = once(layer, body, "threads", on_in_progress="wait", wait_timeout_seconds=20)
        start_together = threading.Barrier(32)
        answers = []

        def one(number):
            start_together.wait()
            answers.append((call(number % 4), call(f"own {number}")))

        threads = [threading.Thread(target=one, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 32
    assert body.body.runs == 4 + 32
    assert len({shared for shared, _ in answers}) == 4


# --- what stands under the key and is no record -----------------------------------------------------------------------

NO_RECORDS = {
    "a hash": ("HSET", "field", "value"),
    "a list": ("RPUSH", "value"),
    "nothing": ("SET", ""),
    "no JSON": ("SET", "no record"),
    "JSON, but no object": ("SET", '["COMPLETED"]'),
    "no UTF-8": ("SET", b'{"status": "\xff\xfe"}'),
    "an unknown status": ("SET", '{"status": "PAUSED", "expiration": 1, "owner": "owner-1", "attempt": 1}'),
    "no status": ("SET", '{"expiration": 1}'),
}


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decoding"])
@pytest.mark.parametrize("planted", NO_RECORDS.values(), ids=NO_RECORDS)
def test_what_is_no_record_is_refused_and_left_as_it_is(planted, decode, valkey_81):
    prefix = f"no-record-{decode}-{list(NO_RECORDS.values()).index(planted)}"
    body = counted()
    with connected(valkey_81, decode_responses=decode) as client:
        call = once(CachePersistenceLayer(client=client), body, prefix)
        call(1)
        key = key_in(valkey_81, prefix)
        valkey_81.command("DEL", key)
        command, *values = planted
        valkey_81.command(command, key, *values)
        before = valkey_81.command("DUMP", key)
        for _ in range(2):
            with pytest.raises(IdempotencyPersistenceConsistencyError):
                call(1)
    assert body.body.runs == 1
    assert valkey_81.command("DUMP", key) == before
    assert valkey_81.command("PTTL", key) == -1


# One that JSON can read is no record either, and NaN is a number that Lua keeps in no table.
BECAME = ["no record", "5", '["COMPLETED"]', '{"status": "INPROGRESS", "expiration": NaN, "attempt": NaN}']


@pytest.mark.parametrize("became", BECAME)
def test_nothing_overwrites_what_became_no_record(became, valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        claims = [record(f"became-no-record-{BECAME.index(became)}-{number}") for number in range(3)]
        assert layer._for_each("put", claims) == [None] * 3
        takeovers = [claim.replaced(owner="owner-2", attempt=2, replaces=claim) for claim in claims]
        outcomes = [claim.replaced(status=COMPLETED, in_progress_expiry_timestamp=None) for claim in claims]
        for claim in claims:
            valkey_81.command("SET", claim.idempotency_key, became)
        for operation, records in (("put", takeovers), ("update", outcomes), ("renew", claims)):
            with pytest.raises(IdempotencyPersistenceConsistencyError):
                getattr(layer, f"_{operation}_record")(records[0])
            told = layer._for_each(operation, records)
            assert [type(each) for each in told] == [IdempotencyPersistenceConsistencyError] * 3
        layer._delete_record(claims[0])
        assert layer._for_each("delete", claims) == [None] * 3
        for claim in claims:
            assert valkey_81.command("GET", claim.idempotency_key) == became.encode()


# --- the record's bytes -----------------------------------------------------------------------------------------------

TIMES = {"expiration", "in_progress_expiration"}


def test_records_are_the_peers_byte_for_byte_save_their_times(valkey_81):
    written = []

    def charge(order):
        written.append(valkey_81.command("GET", key_in(valkey_81, prefix)))
        return {"payment": "p1", "ok": True}

    prefix = "golden-cache.shop.orders.charge"
    config = IdempotencyConfig(
        event_key_jmespath="id", payload_validation_jmespath="amount", in_progress_expires_after_seconds=30
    )
    with connected(valkey_81) as client:
        idempotent_function(
            charge,
            data_keyword_argument="order",
            persistence_store=CachePersistenceLayer(client=client),
            config=config,
            key_prefix=prefix,
        )(order={"id": 1, "amount": 5})
    written.append(valkey_81.command("GET", key_in(valkey_81, prefix)))
    for ours, golden in zip(written, GOLDEN["redis"], strict=True):
        attributes, expected = json.loads(ours), json.loads(golden["value"])
        if "data" in expected:
            expected = {**expected, "validation": attributes["validation"]}  # which we keep
        expected |= {name: attributes[name] for name in TIMES & expected.keys()}
        assert ours.decode().startswith(json.dumps(expected).removesuffix("}"))
        assert list(attributes)[len(expected) :] == ["owner", "attempt"]


RENAMED = {
    "in_progress_expiry_attr": "lease",
    "expiry_attr": "until",
    "status_attr": "state",
    "data_attr": "answer",
    "validation_key_attr": "checked",
}


def test_attributes_are_written_and_read_by_the_names_given(valkey_81):
    body = counted()
    config = IdempotencyConfig(payload_validation_jmespath="amount", event_key_jmespath="id")
    prefix = "renamed"
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, **RENAMED)
        call = idempotent_function(
            body, data_keyword_argument="order", persistence_store=layer, config=config, key_prefix=prefix
        )
        assert [call({"id": 1, "amount": 5}), call({"id": 1, "amount": 5})] == [1, 1]
        stored = json.loads(valkey_81.command("GET", key_in(valkey_81, prefix)))
        assert list(stored) == ["answer", "state", "until", "checked", "owner", "attempt"]
        claim = record("renamed-claim")
        layer._put_record(claim)
        assert list(json.loads(client.get("renamed-claim"))) == ["state", "until", "lease", "owner", "attempt"]
        taken = claim.replaced(owner="owner-2", attempt=2, replaces=layer._get_record("renamed-claim"))
        layer._put_record(taken)
        layer._renew_record(taken)
        layer._delete_record(taken)
        assert client.get("renamed-claim") is None


@pytest.mark.parametrize(
    "names",
    [{"status_attr": "owner"}, {"data_attr": "types"}, {"data_attr": "status"}, {"expiry_attr": ""}],
    ids=str,
)
def test_names_that_are_taken_are_refused(names):
    (option,) = names
    with pytest.raises(IdempotencyPersistenceConfigError, match=option):
        CachePersistenceLayer("redis://localhost", **names)


def test_an_answer_of_64_mb_comes_back(valkey_81):
    answer = "0123456789abcdef" * (1 << 22)
    body = counted(answer=answer)
    with CachePersistenceLayer(url_of(valkey_81) + "?socket_timeout=60") as layer:
        call = once(layer, body, "64-mb")
        assert call(1) == answer
        assert call(1) == answer
    assert body.body.runs == 1
    valkey_81.command("DEL", key_in(valkey_81, "64-mb"))


# --- how long it stands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "lease"), [(1, 30), (1, 1), (3600, 30), (TEN_YEARS, 30), (60, 3600)])
def test_a_record_outlasts_its_window_and_its_lease(window, lease, valkey_81):
    key = f"outlasts-{window}-{lease}"
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        claim = record(key, window=window, lease=lease)
        layer._put_record(claim)
        assert_outlasts(valkey_81, key)
        layer._renew_record(claim)
        assert_outlasts(valkey_81, key)
        layer._update_record(record(key, COMPLETED, window=window))
        assert_outlasts(valkey_81, key)


def assert_outlasts(server, key):
    """The time to live ends after window and lease, and soon after."""
    script = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), redis.call('TIME')}"
    text, left_ms, (seconds, microseconds) = server.command("EVAL", script, 1, key)
    attributes = json.loads(text)
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    # A window counts until its last second has passed.
    last_ms = max((attributes["expiration"] + 1) * 1000, attributes.get("in_progress_expiration", 0))
    assert last_ms < now_ms + left_ms <= last_ms + 2000


@pytest.mark.parametrize("ahead_ms", [1, 500, 999, 1000, 7_100])
def test_a_window_moved_to_the_servers_clock_is_never_shorter_than_asked(ahead_ms, valkey_81_clock):
    asked = record(f"moved-{ahead_ms}")
    valkey_81_clock.stop_clock_at(asked.made_at_ms + ahead_ms)
    with connected(valkey_81_clock) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        layer._put_record(asked)
        found = layer._get_record(asked.idempotency_key)
    assert 0 <= found.expiry_timestamp * 1000 - (asked.expiry_timestamp * 1000 + ahead_ms) < 1000


def test_a_record_whose_window_never_ends_has_no_time_to_live(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client, clock=ManualClock())
        layer._put_record(record("for-ever").replaced(expiry_timestamp=None))
        assert valkey_81.command("PTTL", "for-ever") == -1
    valkey_81.command("DEL", "for-ever")


# --- a client that turns out to be of the other kind ------------------------------------------------------------------


class GivesAwaitables:
    """Plain functions, whose replies are to be awaited: nothing but a reply tells."""

    def __init__(self, values):
        self.values = values

    def get(self, name):
        return self._get(name)

    async def _get(self, name):
        return self.values.get(name)

    def set(self, name, value, px=None, nx=False):
        return self._set(name, value)

    async def _set(self, name, value):
        return self.values.setdefault(name, value) is value

    def delete(self, keys):
        return self._get(keys)


class GivesValues(GivesAwaitables):
    """Plain functions, whose replies are there at once."""

    def get(self, name):
        return self.values.get(name)

    def set(self, name, value, px=None, nx=False):
        return self.values.setdefault(name, value) is value

    def delete(self, keys):
        return self.values.pop(keys, None)


@pytest.mark.filterwarnings("ignore:client=Gives")
def test_what_is_to_be_awaited_is_never_taken_for_a_reply():
    body = counted()
    call = once(CachePersistenceLayer(client=GivesAwaitables({})), body, "colours")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is asynchronous: use AsyncCachePersistenceLayer"):
        call(1)
    assert body.body.runs == 0


@pytest.mark.filterwarnings("ignore:client=Gives")
def test_an_asynchronous_layer_refuses_a_client_that_blocks():
    runs = []

    async def charge(order):
        runs.append(order)

    call = once(AsyncCachePersistenceLayer(client=GivesValues({})), charge, "colours")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is synchronous: use CachePersistenceLayer"):
        asyncio.run(call(1))
    assert runs == []


class Traced(redis.asyncio.Redis):
    """A subclass whose method hands on what is to be awaited, without being a coroutine function."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def execute_command(self, *words, **options):
        self.seen.append(words[0])
        return super().execute_command(*words, **options)


def test_an_asynchronous_client_is_known_also_where_a_subclass_traces_its_commands(valkey_81):
    async def check():
        async with Traced(host=valkey_81.host, port=valkey_81.port) as client:
            with pytest.raises(IdempotencyPersistenceConfigError, match="is asynchronous: use AsyncCachePersistence"):
                CachePersistenceLayer(client=client)

            async def charge(order):
                return order

            call = once(AsyncCachePersistenceLayer(client=client), charge, "traced")
            assert [await call(1), await call(1)] == [1, 1]
            assert "EVALSHA" in client.seen

    asyncio.run(check())


# --- between what a claim sees and what it replaces -------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["owner", "expiration"])
def test_what_is_over_gives_way_once(valkey_81, mark):
    """Between the refusal that shows what is over and the claim that names it, another was quicker."""
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        run = layer._settings.open().backend.run
        now = SYSTEM_CLOCK.now_ms()
        over = {"data": "1", "status": COMPLETED, "expiration": now // 1000 - 60}  # a Powertools worker's: no owner
        key = f"over-{mark}"
        valkey_81.command("SET", key, json.dumps(over))
        claim = DataRecord(key, INPROGRESS, now // 1000 + 60, now + 30_000, owner="late", made_at_ms=now)
        steps = layer._steps.put(claim)
        locking = steps.send(run(next(steps)))
        naming = steps.send(run(locking))
        if mark == "owner":
            layer._put_record(claim.replaced(owner="quick"))
        else:  # nothing else tells the answer of another such worker from the one before
            valkey_81.command("SET", key, json.dumps(over | {"data": "2", "expiration": now // 1000 + 60}))
        with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
            steps.send(run(naming))
        standing = refused.value.old_data_record
        assert (standing.owner, standing.response_data) == (("quick", "") if mark == "owner" else (None, "2"))


def test_times_that_are_no_whole_numbers_hinder_no_takeover(valkey_81):
    """A worker that multiplies seconds by 1000 writes such ones."""
    now = SYSTEM_CLOCK.now_ms()
    dead = {"status": INPROGRESS, "expiration": now // 1000 + 3600.5, "in_progress_expiration": now - 1000.5}
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        takeovers = []
        for key in ("fractions-1", "fractions-2", "fractions-3"):
            valkey_81.command("SET", key, json.dumps(dead))
            seen = layer._get_record(key)
            takeovers.append(record(key).replaced(attempt=2, replaces=seen))
        layer._put_record(takeovers[0])
        assert layer._for_each("put", takeovers[1:]) == [None, None]
        assert {layer._get_record(each.idempotency_key).owner for each in takeovers} == {"owner-1"}


# --- beside Powertools workers, which lock a key before they take it over ---------------------------------------------


def abandoned(layer, *keys):
    """Claims that take over what a worker left that died."""
    now = SYSTEM_CLOCK.now_ms()
    claims = [DataRecord(key, INPROGRESS, now // 1000 + 60, now - 1, owner="dead", made_at_ms=now) for key in keys]
    assert layer._for_each("put", claims) == [None] * len(keys)
    return [
        claim.replaced(
            owner="late", attempt=2, in_progress_expiry_timestamp=now + 30_000, replaces=layer._get_record(key)
        )
        for key, claim in zip(keys, claims, strict=True)
    ]


def test_a_takeover_keeps_them_out_for_ten_seconds(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        for takeover in abandoned(layer, "keeps-out-1", "keeps-out-2"):
            layer._put_record(takeover)
        outcomes = layer._for_each("put", abandoned(layer, "keeps-out-3", "keeps-out-4"))
    assert outcomes == [None, None]
    for number in range(1, 5):
        assert 0 < valkey_81.command("PTTL", f"keeps-out-{number}:lock") <= 10_000


def test_a_takeover_leaves_a_key_to_one_that_has_locked_it(valkey_81):
    with connected(valkey_81) as client:
        layer = CachePersistenceLayer(client=client)
        keys = [f"locked-{number}" for number in range(4)]
        takeovers = abandoned(layer, *keys)
        for key in keys[1:3]:
            valkey_81.command("SET", f"{key}:lock", "true", "PX", 10_000)
        with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
            layer._put_record(takeovers[1])
        assert refused.value.old_data_record.owner == "dead"
        told = layer._for_each("put", takeovers)
        assert [type(each) for each in told[1:3]] == [IdempotencyItemAlreadyExistsError] * 2
        assert [told[0], told[3]] == [None, None]
        assert [layer._get_record(key).owner for key in keys] == ["late", "dead", "dead", "late"]
        assert [valkey_81.command("GET", f"{key}:lock") for key in keys[1:3]] == [b"true"] * 2


# --- a takeover in two steps, which dies between them -----------------------------------------------------------------


class DiesAfterTheMarker:
    """A client with three methods that dies when it has won a takeover, before it stores its claim."""

    def __init__(self, client):
        self.set, self.delete = client.set, client.delete
        self._client, self._gets = client, 0

    def get(self, name):
        self._gets += 1
        if self._gets == 2:  # the first finds what to take over, the second looks whether it still stands
            raise ConnectionError("as if killed")
        return self._client.get(name)


@pytest.mark.filterwarnings("ignore:client=")
def test_a_takeover_that_died_holds_the_key_for_no_longer_than_its_lease(valkey_81_clock):
    clock = ManualClock()

    def pass_time(seconds):
        clock.advance(seconds)
        valkey_81_clock.stop_clock_at(clock.now_ms())

    pass_time(0)
    with connected(valkey_81_clock) as client:
        layer = CachePersistenceLayer(client=OnlyGetSetDelete(client), clock=clock)
        dying = CachePersistenceLayer(client=DiesAfterTheMarker(client), clock=clock)
        first = record("marked")
        layer._put_record(first)
        pass_time(31)
        seen = layer._get_record("marked")

        def takeover(owner):
            now = clock.now_ms()
            return seen.replaced(
                owner=owner,
                attempt=2,
                expiry_timestamp=now // 1000 + 3600,
                in_progress_expiry_timestamp=now + 30_000,
                replaces=seen,
            )

        with pytest.raises(IdempotencyPersistenceLayerError):
            dying._put_record(takeover("died"))
        with pytest.raises(IdempotencyItemAlreadyExistsError):
            layer._put_record(takeover("owner-2"))
        pass_time(32)
        layer._put_record(takeover("owner-2"))
        assert layer._get_record("marked").owner == "owner-2"
