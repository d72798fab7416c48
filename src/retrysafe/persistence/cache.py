"""The cache layer: records in Redis or Valkey, standalone, in a cluster or under Sentinel, with any client.

Each method of the contract is one server-side script, so one round trip and one atomic step, judged by the server's
clock. Works from Redis 6.2 on.

A cache may lose what it was told: what can be lost, and what `min_replicas` and the server's own settings change
about that, stands in docs/cache.md; `check()` tells what is set on a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from retrysafe.exceptions import IdempotencyPersistenceLayerError
from retrysafe.locks import new_lock
from retrysafe.persistence._cache.asking import Asker, ask
from retrysafe.persistence._cache.async_layer import AsyncCachePersistenceLayer
from retrysafe.persistence._cache.check import CacheFinding
from retrysafe.persistence._cache.connection import CacheConnection, GivenClient
from retrysafe.persistence._cache.settings import Settings
from retrysafe.persistence._cache.steps import for_each
from retrysafe.persistence._courses import carried_out
from retrysafe.persistence._forks import begin_anew_in_children
from retrysafe.persistence._shared_reads import SharedReads
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.wire import AttributeNames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.clock import Clock
    from retrysafe.persistence._cache.addresses import Mode
    from retrysafe.persistence._cache.settings import Opened
    from retrysafe.persistence._cache.steps import Steps
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome
    from retrysafe.persistence.watch import Watch

__all__ = [
    "AsyncCachePersistenceLayer",
    "CacheClientProtocol",
    "CacheConnection",
    "CacheFinding",
    "CachePersistenceLayer",
]

T = TypeVar("T")


class CacheClientProtocol(Protocol):
    """The least that a client must have. With no more than this, some promises cannot be kept; see docs/cache.md."""

    def get(self, name: str) -> Any:
        """The value under the name, or None."""
        ...

    def set(self, name: str, value: str, ex: int | None = ..., px: int | None = ..., nx: bool = ...) -> Any:
        """Set the value, for `ex` seconds or `px` milliseconds; with `nx`, only if none stands: else falsy."""
        ...

    def delete(self, keys: str) -> Any:
        """Remove the value."""
        ...


class CachePersistenceLayer(BasePersistenceLayer):
    """Records in Redis or Valkey, for synchronous callers.

    A first call costs two round trips, a replay one.

    What is sent on a connection that turns out to be dead is sent again, once; a claim knows itself by its owner. A
    server that refuses connections is an error at once. One that does not answer to them is one after twice
    `socket_connect_timeout` (2 seconds, so 4), one that hangs after twice `socket_timeout` (5, so 10). A Sentinel like
    that costs its timeout once, before the next one is asked; where none answers, each costs it four times (8, 20).
    Both are options of a URL's query. A client that is passed in has times and tries of its own.

    Args:
        url: Where the cache is: `redis://`, `rediss://`, `valkey://`, `valkeys://`, each also with `+cluster` and
            `+sentinel`. Where it is given, those that follow are ignored up to `ssl`, but for `mode`. Its query holds
            options of the connection; docs/layers.md has them.
        host: Its host.
        port: Its port. Default: 6379.
        username: Its user. Default: none.
        password: The user's password. Default: none.
        db_index: The database. Default: 0.
        mode: `"standalone"`, or `"cluster"`, which makes a URL without `+cluster` a cluster's too. Default: standalone.
        ssl: Whether to speak TLS, where no URL says so. Default: True.
        client: A client of redis-py, valkey-py or valkey-glide-sync, or anything with the methods of
            `CacheClientProtocol`. The arguments above are ignored then. It is never closed by the layer.
        in_progress_expiry_attr: What the attributes of a record are called; these five.
        expiry_attr: See there.
        status_attr: See there.
        data_attr: See there.
        validation_key_attr: See there.
        min_replicas: How many replicas must have confirmed a claim before the function runs, and an outcome before
            it counts as stored. Default: 0, none.
        replica_timeout_seconds: For how long to wait for them. Default: 1.
        clock: The caller's clock. The server's judges, save where the client can do no more than get and set.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong, or no client library is installed. From a call: the
            server refuses the user.
        IdempotencyPersistenceConnectionError: From a call: the server cannot be reached, or too few replicas confirm.
        IdempotencyPersistenceConsistencyError: From a call: what stands under the key is no record.
        IdempotencyPersistenceLayerError: From a call: the server refuses the command, as for want of memory.
        IdempotencyResponseUnavailableError: From storing an outcome: the server does not take one so large.
    """

    _peers_own = frozenset({"_acquire_lock", "_get_expiry_second", "_item_to_data_record", "_put_in_progress_record"})

    def __init__(
        self,
        url: str = "",
        host: str = "",
        port: int | str = 6379,
        username: str = "",
        password: str = "",
        db_index: int = 0,
        mode: Mode = "standalone",
        ssl: bool = True,
        client: CacheClientProtocol | Any = None,
        in_progress_expiry_attr: str = "in_progress_expiration",
        expiry_attr: str = "expiration",
        status_attr: str = "status",
        data_attr: str = "data",
        validation_key_attr: str = "validation",
        *,
        min_replicas: int = 0,
        replica_timeout_seconds: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self._settings = Settings(
            AttributeNames(expiry_attr, in_progress_expiry_attr, status_attr, data_attr, validation_key_attr),
            CacheConnection(url, host, port, username, password, db_index, mode, ssl)
            if client is None
            else GivenClient(client),
            client,
            asynchronous=False,
            min_replicas=min_replicas,
            replica_timeout_seconds=replica_timeout_seconds,
            clock=self.clock,
        )
        self._steps = self._settings.steps
        self._opened: Opened | None = None
        self._begin()
        begin_anew_in_children(self._begin)

    def _begin(self) -> None:
        self._opened = None if self._opened is None else self._opened.in_child()
        self._opening = new_lock()
        self._reads = SharedReads(lambda key: self._carry_out(self._steps.get(key)))

    def _put_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.put(data_record))

    def _get_record(self, idempotency_key: str) -> DataRecord:
        return self._reads.read(idempotency_key)

    def _update_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.update(data_record))

    def _delete_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.delete(data_record))

    def _renew_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.renew(data_record))

    def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        backend = (self._opened or self._open()).backend
        return carried_out(for_each(self._steps, operation, arguments), backend.run_all)

    def _watch_record(self, idempotency_key: str) -> Watch | None:
        watching = (self._opened or self._open()).watching
        return None if watching is None else watching.watch(idempotency_key)

    @property
    def client(self) -> Any:
        """The client, opened now if it was not yet."""
        return (self._opened or self._open()).backend.client

    def check(self) -> list[CacheFinding]:
        """What the servers may lose or refuse as they are set up now; empty where all is well.

        Every master of a cluster is asked, with INFO and CONFIG GET. Whether the user may run what is needed is tried
        out on a key of its own, `retrysafe:check:...`, which is removed. The codes, and what to do, are in
        docs/cache.md.

        Raises:
            IdempotencyPersistenceConnectionError: The cache cannot be reached.
        """
        backend = (self._opened or self._open()).backend
        return ask(Asker(backend.client, backend.run, self._settings.options))

    def close(self) -> None:
        """Close the client, if the layer opened it. A later call opens another."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _carry_out(self, steps: Steps[T]) -> T:
        backend = (self._opened or self._open()).backend
        try:
            command = next(steps)
            while True:
                try:
                    reply = backend.run(command)
                except IdempotencyPersistenceLayerError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    def _open(self) -> Opened:
        with self._opening:
            opened = self._opened
            if opened is None:
                opened = self._opened = self._settings.open()
            return opened
