"""Many records at once beside the methods for one: whatever stands, each record comes to the same."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import uuid

import pytest
import redis

from retrysafe import MemoryPersistenceLayer
from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence import memory, sqlite
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE, DataRecord
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.many import outcome
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.dynamodb_support import client_at, new_table

KEYS = 14
OPERATIONS = ("put", "put", "update", "delete", "renew", "get")


class Memory:
    """Nothing can stand there that the layer did not write."""

    oddities = ()

    def __init__(self):
        self.layer = MemoryPersistenceLayer()

    def plant(self, key, oddity):
        raise AssertionError(oddity)


class SQLite:
    oddities = (
        "status = 'BOGUS'",
        "owner = NULL",
        "data = x'00'",
        "expiration = 'soon'",
        "in_progress_expiration = NULL",
    )

    def __init__(self, path):
        self.path = path
        self.layer = SQLitePersistenceLayer(path, synchronous="off")

    def plant(self, key, oddity):
        with sqlite3.connect(self.path) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO retrysafe (id, status, expiration, in_progress_expiration, owner, attempt,"
                " validation, types, data)"
                " VALUES (?, 'INPROGRESS', 4000000000, 4000000000000, 'owner-0', 1, '', '', '')",
                (key,),
            )
            connection.execute(f"UPDATE retrysafe SET {oddity} WHERE id = ?", (key,))  # noqa: S608  # our own
        connection.close()


class Cache:
    oddities = (
        b"garbage",
        b"[1]",
        b"\xff\xfe",
        list,
        json.dumps({"status": "INPROGRESS", "expiration": 4_000_000_000}).encode(),
        json.dumps({"status": "INPROGRESS", "expiration": 4_000_000_000, "in_progress_expiration": 1.5}).encode(),
        json.dumps({"status": "COMPLETED", "expiration": 4_000_000_000, "data": "1"}).encode(),
        json.dumps({"status": "BOGUS", "expiration": 4_000_000_000, "owner": "owner-0"}).encode(),
        b'{"status": "INPROGRESS", "expiration": NaN, "owner": "owner-0"}',
        b"",
    )

    def __init__(self, url):
        self.layer = CachePersistenceLayer(url)
        self.url = url

    def plant(self, key, oddity):
        with (
            redis.Redis.from_url(self.url)
            if "cluster" not in self.url
            else redis.RedisCluster.from_url(self.url.replace("+cluster", "")) as client
        ):
            client.delete(key)
            if oddity is list:
                client.lpush(key, "1")
            else:
                client.set(key, oddity)


class DynamoDB:
    oddities = (
        {"status": {"S": "INPROGRESS"}, "expiration": {"N": "4000000000"}},
        {"status": {"S": "COMPLETED"}, "expiration": {"N": "4000000000"}, "data": {"S": "1"}},
        {"status": {"N": "3"}},
        {"status": {"S": "INPROGRESS"}, "expiration": {"S": "soon"}, "owner": {"S": "owner-0"}},
        {"status": {"S": "INPROGRESS"}, "expiration": {"N": "1"}, "owner": {"S": "owner-0"}},
        {},
    )

    def __init__(self, server):
        self.client = client_at(server.url)
        self.layer = DynamoDBPersistenceLayer(new_table(server), boto3_client=self.client)

    def plant(self, key, oddity):
        self.client.put_item(TableName=self.layer.table_name, Item={"id": {"S": key}, **oddity})


@pytest.fixture(params=["memory", "sqlite", "valkey", "cluster", "dynoxide"])
def store(request, tmp_path):
    make = {
        "memory": Memory,
        "sqlite": lambda: SQLite(str(tmp_path / "records.db")),
        "valkey": lambda: Cache(request.getfixturevalue("valkey_91").url),
        "cluster": lambda: Cache(request.getfixturevalue("redis_cluster").url.replace("redis://", "redis+cluster://")),
        "dynoxide": lambda: DynamoDB(request.getfixturevalue("dynoxide")),
    }
    made = make[request.param]()
    yield made
    made.layer.close()


def described(record):
    """What tells it from others; nothing where its window is over, as layers sweep those away when it suits them."""
    if record is None or record.window_over(SYSTEM_CLOCK.now_ms()):
        return None
    told = (record.stored_status, record.owner, record.attempt, record.response_data, record.types, record.payload_hash)
    return (*told, record.in_progress_expiry_timestamp is None, record.expiry_timestamp is None)


def came_to(told):
    if isinstance(told, DataRecord):
        return described(told)
    if isinstance(told, IdempotencyItemNotFoundError):
        return None
    if isinstance(told, Exception):
        standing = getattr(told, "old_data_record", None) or getattr(told, "record", None)
        return type(told).__name__, re.sub(r"[sm][0-9a-f]{32}#\d+", "KEY", str(told.args[0])), described(standing)
    return told


def drawn(rng, layer, operation, prefixes, number):
    """The same argument for both."""
    now = SYSTEM_CLOCK.now_ms()
    owner = rng.choice(["owner-0", "owner-0", "owner-1", None if operation != "put" else "owner-2", "two\nlines"])
    window, lease = rng.choice([3600, 3600, 3600, -20]), rng.choice([3_600_000, 3_600_000, -5_000])
    payload_hash = "abc" if owner == "owner-1" else ""  # of a call, which has one owner
    data = rng.choice(
        ['"paid"', "x" * 40_000, "\ud800" if isinstance(layer, SQLitePersistenceLayer) else '"ü"', '"a\\nb"']
    )
    status = rng.choice([COMPLETED, FAILED, UNAVAILABLE])
    takes_over = rng.random() < 0.3
    arguments = []
    for prefix in prefixes:
        key = f"{prefix}{number}"
        if operation == "get":
            arguments.append(key)
            continue
        running = operation != "update"
        replaces = None
        if operation == "put" and takes_over:
            found = outcome(layer._get_record, key)
            replaces = found if isinstance(found, DataRecord) else None
        arguments.append(
            DataRecord(
                key,
                INPROGRESS if running else status,
                now // 1000 + window,
                now + lease if running else None,
                "" if running else data,
                payload_hash,
                None,
                owner,
                1,
                "",
                replaces,
                now,
            )
        )
    return arguments


@pytest.mark.parametrize("seed", range(3))
def test_each_of_many_comes_to_what_it_comes_to_by_itself(store, seed, monkeypatch):
    # What sweeps away is told by the number of writes, which differs.
    monkeypatch.setattr(memory, "CLAIMS_PER_SWEEP", 10**9)
    monkeypatch.setattr(sqlite, "_SWEEP_EVERY", 10**9)
    rng = random.Random(seed)  # noqa: S311  # no secrets
    layer, prefixes = store.layer, [f"{side}{uuid.uuid4().hex}#" for side in "sm"]
    for _ in range(20):
        if store.oddities and rng.random() < 0.5:
            number, oddity = rng.randrange(KEYS), rng.choice(store.oddities)
            for prefix in prefixes:
                store.plant(f"{prefix}{number}", oddity)
        operation = rng.choice(OPERATIONS)
        numbers = rng.sample(range(KEYS), rng.choice([1, 2, 5, KEYS]))
        pairs = [drawn(rng, layer, operation, prefixes, number) for number in numbers]
        single = [outcome(getattr(layer, f"_{operation}_record"), one) for one, _ in pairs]
        many = layer._for_each(operation, [other for _, other in pairs])
        for number, one, other in zip(numbers, single, many, strict=True):
            assert came_to(one) == came_to(other), (operation, number, one, other)
        stand = [[came_to(outcome(layer._get_record, f"{prefix}{n}")) for n in range(KEYS)] for prefix in prefixes]
        assert stand[0] == stand[1], operation
