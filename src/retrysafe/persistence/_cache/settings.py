"""What the sync and the async cache layer are made of: the constructor's arguments, checked, as one value."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, TypeVar

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.async_clients import async_backend
from retrysafe.persistence._cache.backends import Options
from retrysafe.persistence._cache.channels import AsyncChannel, Channel, can_open
from retrysafe.persistence._cache.clients import is_async_client, kind_of, sync_backend, wrong_colour
from retrysafe.persistence._cache.commands import Commands
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence._cache.plain import CANNOT_KEEP, PlainSteps
from retrysafe.persistence._cache.steps import ScriptSteps
from retrysafe.persistence._cache.watching import Watching
from retrysafe.persistence._forks import leave_to_parent
from retrysafe.persistence._urls import is_storable_name
from retrysafe.persistence.wire import ATTEMPT, OWNER, TYPES, AttributeNames
from retrysafe.warn import warn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.clock import Clock
    from retrysafe.persistence._cache.async_clients import AsyncBackend
    from retrysafe.persistence._cache.backends import Backend
    from retrysafe.persistence._cache.connection import CacheConnection, GivenClient
    from retrysafe.persistence._cache.watching_async import AsyncWatching

T = TypeVar("T")


class Opened:
    """An open client, as a synchronous layer uses it.

    Args:
        backend: What carries commands out.
        close_client: What closes the client, where the layer opened it.
        watching: What tells of changes, where the client can subscribe.
        given: Whether the client was passed in.
    """

    __slots__ = ("_close_client", "_given", "backend", "watching")

    def __init__(
        self, backend: Backend, close_client: Callable[[], None], watching: Watching | None, *, given: bool
    ) -> None:
        self.backend = backend
        self.watching = watching
        self._close_client = close_client
        self._given = given

    def in_child(self) -> Opened | None:
        """What a forked child goes on with; None where it opens a client of its own."""
        if self._given:
            return self
        leave_to_parent(self.backend.client)
        return None

    def close(self) -> None:
        """Close what the layer opened."""
        if self.watching is not None:
            self.watching.close()
        self._close_client()


class AsyncOpened:
    """`Opened` for an asynchronous layer, in one event loop."""

    __slots__ = ("_close_client", "backend", "watching")

    def __init__(
        self, backend: AsyncBackend, close_client: Callable[[], Awaitable[None]], watching: AsyncWatching | None
    ) -> None:
        self.backend = backend
        self.watching = watching
        self._close_client = close_client

    async def close(self) -> None:
        """Close what the layer opened."""
        if self.watching is not None:
            await self.watching.close()
        await self._close_client()


class Settings:
    """What a layer is made of.

    Args:
        names: What the attributes are called.
        connection: What opens the client.
        client: The client that was given, or None.
        asynchronous: Whether the layer awaits its client.
        min_replicas: How many replicas must confirm what is written.
        replica_timeout_seconds: For how long to wait for them.
        clock: The caller's clock.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong.
    """

    __slots__ = ("_connection", "_given", "options", "steps")

    def __init__(
        self,
        names: AttributeNames,
        connection: CacheConnection | GivenClient,
        client: Any,
        *,
        asynchronous: bool,
        min_replicas: int,
        replica_timeout_seconds: float,
        clock: Clock,
    ) -> None:
        _check_names(names)
        _check_replicas(min_replicas, replica_timeout_seconds)
        _check_patience(min_replicas, replica_timeout_seconds, connection.reply_timeout)
        self._connection = connection
        self._given = client is not None
        self.steps: ScriptSteps | PlainSteps = ScriptSteps(Commands(names, clock), min_replicas)
        if client is not None:
            kind = kind_of(client)
            if (is_async := is_async_client(client)) not in (None, asynchronous):
                raise wrong_colour(client, asynchronous=is_async is True)
            _check_threads(client, asynchronous=asynchronous)
            _check_encoding(client)
            if kind == "plain":
                self.steps = _plain_steps(client, names, clock, min_replicas)
        self.options = Options(
            connection.where,
            connection.password,
            min_replicas,
            int(replica_timeout_seconds * 1000),
        )

    def open(self) -> Opened:
        """A client that is opened now."""
        client, close = self._opened(self._connection.open)
        watching = Watching(lambda: Channel(client)) if can_open(client) else None
        return Opened(sync_backend(client, self.options), close, watching, given=self._given)

    def open_async(self) -> AsyncOpened:
        """The same, asynchronous."""
        from retrysafe.persistence._cache.watching_async import AsyncWatching  # noqa: PLC0415  # imports asyncio

        client, close = self._opened(self._connection.open_async)
        watching = AsyncWatching(lambda: AsyncChannel(client)) if can_open(client) else None
        return AsyncOpened(async_backend(client, self.options), close, watching)

    def _opened(self, open_client: Callable[[], T]) -> T:
        try:
            return open_client()
        except Exception as error:
            raise explained(error, self.options.where, self.options.password) from error


def _plain_steps(client: Any, names: AttributeNames, clock: Clock, min_replicas: int) -> PlainSteps:
    kind = type(client).__name__
    if min_replicas:
        raise IdempotencyPersistenceConfigError(f"min_replicas={min_replicas!r}: client={kind} cannot wait for any")
    warn(f"client={kind} has only get, set and delete: {CANNOT_KEEP}")
    return PlainSteps(names, clock)


def _check_threads(client: Any, *, asynchronous: bool) -> None:
    """A client whose threads share one connection unguarded hands out strangers' replies, another order's answer too.

    Heartbeats are a second thread to every call.
    """
    if asynchronous or getattr(client, "connection", None) is None or hasattr(client, "single_connection_lock"):
        return  # redis-py has that lock
    if can_open(client):
        raise IdempotencyPersistenceConfigError(
            f"client={type(client).__name__} has single_connection_client=True, and no lock for that connection: calls "
            "and heartbeats of several threads would read each other's replies; leave that option out"
        )


def _check_encoding(client: Any) -> None:
    """Clients that spell one key in several ways run its work several times.

    One that cannot spell a key, and was told not to mind, has the same for several functions: another order's answer.
    """
    if not can_open(client) or not hasattr(client, "get_encoder"):
        return
    encoding = client.get_encoder().encoding
    try:
        is_utf_8 = codecs.lookup(encoding).name == "utf-8"
    except LookupError:  # there is none of this name
        is_utf_8 = False
    if not is_utf_8:
        raise IdempotencyPersistenceConfigError(
            f"client={type(client).__name__} has encoding={encoding!r}: keys must be the same for all clients, in UTF-8"
        )


def _check_names(names: AttributeNames) -> None:
    """Each attribute has a name of its own, and none is one of ours."""
    given = {
        "in_progress_expiry_attr": names.in_progress_expiry,
        "expiry_attr": names.expiry,
        "status_attr": names.status,
        "data_attr": names.data,
        "validation_key_attr": names.validation,
    }
    taken = {OWNER: "owner", ATTEMPT: "attempt", TYPES: "types"}
    name: Any
    for option, name in given.items():
        if not is_storable_name(name):
            raise IdempotencyPersistenceConfigError(f"{option}={name!r}: must be a name that UTF-8 has a form for")
        if name in taken:
            raise IdempotencyPersistenceConfigError(f"{option}={name!r}: the name is taken, by {taken[name]}")
        taken[name] = option


def _check_replicas(min_replicas: Any, replica_timeout_seconds: Any) -> None:
    if isinstance(min_replicas, bool) or not isinstance(min_replicas, int) or min_replicas < 0:
        raise IdempotencyPersistenceConfigError(f"min_replicas={min_replicas!r}: must be a whole number from 0")
    if (
        isinstance(replica_timeout_seconds, bool)
        or not isinstance(replica_timeout_seconds, int | float)
        or not 0.001 <= replica_timeout_seconds < 1e6  # noqa: PLR2004  # WAIT takes milliseconds, and 0 is for ever
    ):
        raise IdempotencyPersistenceConfigError(
            f"replica_timeout_seconds={replica_timeout_seconds!r}: must be a number of seconds from 0.001"
        )


def _check_patience(min_replicas: int, replica_timeout_seconds: float, reply_timeout: float | None) -> None:
    """A client that gives up before the replicas' time is over would never learn how many have confirmed."""
    if min_replicas and reply_timeout is not None and reply_timeout <= replica_timeout_seconds:
        raise IdempotencyPersistenceConfigError(
            f"replica_timeout_seconds={replica_timeout_seconds!r}: the client gives up earlier, "
            f"after socket_timeout={reply_timeout!r}"
        )
