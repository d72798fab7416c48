"""The stores that whole calls are measured on: our layer, the bare commands below it, and peers' layers on the same.

*Bare* is what no library can do without, with everything ready that can be: of a first call the two writes, of a replay
the read. In memory, where there are no commands, it is deriving the key, two steps of a dict, and the answer as JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import redis
import redis.asyncio
from aiobotocore.session import get_session
from benchmarks import dynamodb, peer, sqlite
from benchmarks.servers import dynamodb_local, redis_70, valkey
from botocore.config import Config
from botocore.exceptions import ClientError
from idemkit.backends.memory import InMemoryBackend
from idemkit.backends.redis import RedisBackend

import retrysafe
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from benchmarks.memory import Payload
    from benchmarks.servers import DynamoDBServer, RedisServer

MOST_CONNECTIONS = 256
WINDOW_MS = 3_600_000
CLAIM = (
    '{"status": "INPROGRESS", "expiration": 1795306257, "in_progress_expiration": 1795302687816, '
    '"owner": "0123456789abcdef0123456789abcdef", "attempt": 1}'
)

Bare: TypeAlias = "Callable[[str, Payload, str], Any]"
"""One call's bare commands: of a key, the payload that it is of and that is its answer, and the answer's text."""

NUMBERS = itertools.count()


@dataclass(frozen=True)
class Store:
    """One store, as synchronous callers see it.

    Attributes:
        name: What reports call it.
        layer: Our layer.
        first: The bare commands of a first call.
        replay: Those of a replay of such a call.
        powertools: Powertools' layer; None where it has none.
    """

    name: str
    layer: Any
    first: Bare
    replay: Bare
    powertools: Any = None


@dataclass(frozen=True)
class AsyncStore:
    """The same as coroutines see it.

    Attributes:
        name: What reports call it.
        layer: Our layer.
        first: The bare commands of a first call.
        replay: Those of a replay of such a call.
        idemkit: idemkit's backend; None where it has none.
    """

    name: str
    layer: Any
    first: Callable[[str, Payload, str], Awaitable[Any]]
    replay: Callable[[str, Payload, str], Awaitable[Any]]
    idemkit: Any = None


class Place:
    """Where a store is, opened as often as it is asked for, and empty then."""

    largest = 1 << 30
    """Bytes of the largest answer that it takes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def sync(self) -> contextlib.AbstractContextManager[Store]:
        """The store for synchronous callers."""
        raise NotImplementedError

    def asynchronous(self) -> contextlib.AbstractAsyncContextManager[AsyncStore]:
        """The store for coroutines."""
        raise NotImplementedError


@contextlib.contextmanager
def places() -> Iterator[list[Place]]:
    """All of them, their servers running."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-"))
        yield [
            Memory("memory"),
            SQLite("SQLite", Path(directory)),
            Cache("Valkey 9.1", stack.enter_context(valkey())),
            Cache("Redis 7.0", stack.enter_context(redis_70())),
            DynamoDB("DynamoDB Local", stack.enter_context(dynamodb_local())),
        ]


class Memory(Place):
    """A dict."""

    @contextlib.contextmanager
    def sync(self) -> Iterator[Store]:
        """See `Place`."""
        records: dict[str, str] = {}

        def first(_: str, payload: Payload, answer: str) -> None:  # noqa: ARG001  # its text is part of the work here
            key = _digest(payload)
            records[key] = CLAIM
            records[key] = json.dumps(payload)

        def replay(_: str, payload: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the payload
            return json.loads(records[_digest(payload)])

        yield Store(self.name, retrysafe.MemoryPersistenceLayer(), first, replay, peer.PeerMemoryLayer())

    @contextlib.asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[AsyncStore]:
        """See `Place`."""
        with self.sync() as bare:
            layer = retrysafe.AsyncMemoryPersistenceLayer()
            yield AsyncStore(self.name, layer, _awaited(bare.first), _awaited(bare.replay), InMemoryBackend())


def _digest(payload: Payload) -> str:
    return hashlib.md5(json.dumps(payload, sort_keys=True).encode(), usedforsecurity=False).hexdigest()


class SQLite(Place):
    """A file, `synchronous=full`."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name)
        self.directory = directory

    @contextlib.contextmanager
    def sync(self) -> Iterator[Store]:
        """See `Place`."""
        path = self.directory / f"{next(NUMBERS)}.db"
        with SQLitePersistenceLayer(path) as layer, contextlib.closing(_by_hand(path)) as connection:
            execute = connection.execute

            def first(key: str, _: Payload, answer: str) -> None:
                now = time.time_ns() // 1_000_000
                window = now // 1000 + sqlite.WINDOW_SECONDS
                lease = now + sqlite.LEASE_MS
                claim = (key, "INPROGRESS", window, lease, sqlite.OWNER, 1, "", "", "", now // 1000, now)
                execute(sqlite.CLAIM, claim)
                execute(sqlite.COMPLETE, ("COMPLETED", window, "", answer, key, sqlite.OWNER))

            def replay(key: str, _: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the key
                return execute("SELECT * FROM by_hand WHERE id = ?", (key,)).fetchone()

            yield Store(self.name, layer, first, replay)

    @contextlib.asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[AsyncStore]:
        """See `Place`."""
        with self.sync() as bare:
            async with AsyncSQLitePersistenceLayer(self.directory / f"{next(NUMBERS)}.db") as layer:
                yield AsyncStore(self.name, layer, _awaited(bare.first), _awaited(bare.replay))


def _by_hand(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = full")
    connection.executescript(sqlite.TABLE)
    return connection


class Cache(Place):
    """Redis or Valkey, through redis-py."""

    def __init__(self, name: str, server: RedisServer) -> None:
        super().__init__(name)
        self.server = server

    @contextlib.contextmanager
    def sync(self) -> Iterator[Store]:
        """See `Place`."""
        where: dict[str, Any] = {"host": self.server.host, "port": self.server.port}
        with redis.Redis(**where, max_connections=MOST_CONNECTIONS) as client:
            client.flushall()

            def first(key: str, _: Payload, answer: str) -> None:
                client.set(key, CLAIM, nx=True, px=WINDOW_MS)
                client.set(key, answer, px=WINDOW_MS)

            def replay(key: str, _: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the key
                return client.get(key)

            theirs = peer.RedisCachePersistenceLayer(client=client)
            yield Store(self.name, CachePersistenceLayer(client=client), first, replay, theirs)

    @contextlib.asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[AsyncStore]:
        """See `Place`."""
        where: dict[str, Any] = {"host": self.server.host, "port": self.server.port}
        async with redis.asyncio.Redis(**where, max_connections=MOST_CONNECTIONS) as client:
            await client.flushall()

            async def first(key: str, _: Payload, answer: str) -> None:
                await client.set(key, CLAIM, nx=True, px=WINDOW_MS)
                await client.set(key, answer, px=WINDOW_MS)

            async def replay(key: str, _: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the key
                return await client.get(key)

            yield AsyncStore(self.name, AsyncCachePersistenceLayer(client=client), first, replay, RedisBackend(client))


class DynamoDB(Place):
    """A table. Each side opens its own client, as most users have it."""

    largest = 400_000

    def __init__(self, name: str, server: DynamoDBServer) -> None:
        super().__init__(name)
        self.arguments = server.client_arguments
        self.table = "benchmarks"
        server.create_table(self.table)
        os.environ |= dynamodb.environment(self.arguments)

    @contextlib.contextmanager
    def sync(self) -> Iterator[Store]:
        """See `Place`."""
        config = Config(max_pool_connections=MOST_CONNECTIONS)
        client = boto3.client("dynamodb", **self.arguments, config=config)

        def first(key: str, _: Payload, answer: str) -> None:
            now = int(time.time())
            client.put_item(**dynamodb.claim(self.table, key, now))
            client.update_item(**dynamodb.outcome(self.table, key, now, answer))

        def replay(key: str, _: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the key
            try:
                client.put_item(**dynamodb.claim(self.table, key, int(time.time())))
            except ClientError as error:
                return error.response["Item"]

        theirs = peer.DynamoDBPersistenceLayer(self.table, boto_config=config)
        with DynamoDBPersistenceLayer(self.table, boto_config=config) as layer:
            yield Store(self.name, layer, first, replay, theirs)

    @contextlib.asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[AsyncStore]:
        """See `Place`."""
        async with (
            get_session().create_client("dynamodb", **self.arguments) as client,
            AsyncDynamoDBPersistenceLayer(self.table) as layer,
        ):

            async def first(key: str, _: Payload, answer: str) -> None:
                now = int(time.time())
                await client.put_item(**dynamodb.claim(self.table, key, now))
                await client.update_item(**dynamodb.outcome(self.table, key, now, answer))

            async def replay(key: str, _: Payload, answer: str) -> Any:  # noqa: ARG001  # found by the key
                try:
                    await client.put_item(**dynamodb.claim(self.table, key, int(time.time())))
                except ClientError as error:
                    return error.response["Item"]

            yield AsyncStore(self.name, layer, first, replay)


def _awaited(bare: Bare) -> Callable[[str, Payload, str], Awaitable[Any]]:
    async def call(key: str, payload: Payload, answer: str) -> Any:
        return bare(key, payload, answer)

    return call
