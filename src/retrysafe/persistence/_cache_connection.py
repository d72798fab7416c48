"""Opens the clients of a cache that the layer is told the address of, with redis-py or valkey-py.

A client that a user passes in never comes here: it is the user's to open and to close.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache_addresses import Address, Mode, address_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

# Seconds. Shorter than a Lambda function's shortest timeout; a URL's query can say otherwise.
CONNECT_TIMEOUT: Final = 2.0
SOCKET_TIMEOUT: Final = 5.0

# A connection that turns out to be dead is made anew, once. More would multiply: connecting is tried again as often for
# each time that a command is, and the protocol has tries of its own.
_RETRIES: Final = 1

_SENTINEL_OPTIONS: Final = ("sentinel_username", "sentinel_password")


class CacheConnection:
    """A connection to Redis or Valkey: checked when it is made, opened when it is first used.

    Args:
        url: Where the cache is; see `retrysafe.persistence.cache`. It comes before the arguments that follow.
        host: Its host.
        port: Its port. Default: 6379.
        username: Its user. Default: none.
        password: The user's password. Default: none.
        db_index: The database. Default: 0.
        mode: `"standalone"` or `"cluster"`. Default: standalone.
        ssl: Whether to speak TLS, where no URL says so. Default: True.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong, or neither redis-py nor valkey-py is installed.
    """

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
    ) -> None:
        self._address = address_of(url, host, port, username, password, db_index, mode, ssl=ssl)
        self._library = _library(self._address)
        self._options = self._connection_options()

    @property
    def where(self) -> str:
        """Hosts and ports; never the password."""
        return self._address.where

    @property
    def password(self) -> str:
        """The password, for keeping it out of errors."""
        return self._address.password

    @property
    def reply_timeout(self) -> float | None:
        """For how long the client waits for a reply, in seconds; None: for ever."""
        timeout: float | None = self._options["socket_timeout"]
        return timeout

    def __repr__(self) -> str:
        return f"CacheConnection({self._address.where!r})"

    def open(self) -> tuple[Any, Callable[[], None]]:
        """A synchronous client, and what closes it. Opening connects to nothing but a cluster."""
        client, others = self._open(self._library)

        def close() -> None:
            for each in (client, *others):
                each.close()

        return client, close

    def open_async(self) -> tuple[Any, Callable[[], Awaitable[None]]]:
        """An asynchronous client, and the coroutine function that closes it."""
        client, others = self._open(importlib.import_module(f"{self._library.__name__}.asyncio"))

        async def close() -> None:
            for each in (client, *others):
                await each.aclose()

        return client, close

    def _open(self, module: ModuleType) -> tuple[Any, list[Any]]:
        address, options = self._address, self._options
        name = "Valkey" if self._library.__name__ == "valkey" else "Redis"
        retries = importlib.import_module(f"{module.__name__}.retry")
        backoff = importlib.import_module(f"{self._library.__name__}.backoff")
        options = options | {"retry": retries.Retry(backoff.NoBackoff(), _RETRIES)}
        if address.topology == "cluster":
            cluster = importlib.import_module(f"{module.__name__}.cluster")
            nodes = [cluster.ClusterNode(host, port) for host, port in address.hosts]
            return getattr(cluster, f"{name}Cluster")(startup_nodes=nodes, ssl=address.tls, **options), []
        if address.topology == "sentinel":
            mine = {name.removeprefix("sentinel_"): options.pop(name) for name in _SENTINEL_OPTIONS if name in options}
            timeouts = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout")}
            sentinel = importlib.import_module(f"{module.__name__}.sentinel").Sentinel(
                address.hosts, sentinel_kwargs=timeouts | {"ssl": address.tls} | mine, ssl=address.tls, **options
            )
            return sentinel.master_for(address.service, db=address.db_index), list(sentinel.sentinels)
        ((host, port),) = address.hosts
        client = getattr(module, name)
        pool = importlib.import_module(f"{module.__name__}.connection")
        kind = pool.SSLConnection if address.tls else pool.Connection
        return (
            client.from_pool(
                pool.ConnectionPool(connection_class=kind, host=host, port=port, db=address.db_index, **options)
            ),
            [],
        )

    def _connection_options(self) -> dict[str, Any]:
        """The options of each connection, with those of the URL checked against the library."""
        connection = importlib.import_module(f"{self._library.__name__}.connection")
        try:
            given = connection.parse_url(f"{self._library.__name__}://localhost?{self._address.query}")
        except (ValueError, TypeError) as error:
            raise IdempotencyPersistenceConfigError(f"url: its option cannot be read: {error}") from None
        given.pop("host", None)
        given.pop("connection_class", None)
        known = {"max_connections", "timeout", *_SENTINEL_OPTIONS}
        for cls in connection.SSLConnection.__mro__:
            if "__init__" in vars(cls) and cls is not object:
                known |= inspect.signature(cls.__init__).parameters.keys()
        for name in given:
            if name not in known:
                raise IdempotencyPersistenceConfigError(f"url: unknown option {name!r}")
        credentials = {"username": self._address.username or None, "password": self._address.password or None}
        timeouts = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
        return {**timeouts, **credentials, **given}


class GivenClient:
    """A client that was passed in, in the place of a connection: it is open, and never closed here.

    Args:
        client: The client.
    """

    password = ""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def where(self) -> str:
        """Host and port, where the client tells them; else what kind of client it is."""
        pool = getattr(self._client, "connection_pool", None)
        known: dict[str, Any] = getattr(pool, "connection_kwargs", {})
        if "host" in known:
            return f"{known['host']}:{known.get('port', 6379)}"
        service = getattr(pool, "service_name", None)
        return f"master {service!r}" if service else type(self._client).__name__

    @property
    def reply_timeout(self) -> float | None:
        """For how long the client waits for a reply, in seconds; None: for ever, or it is not known."""
        for holder in (getattr(self._client, name, None) for name in ("connection_pool", "nodes_manager")):
            options: dict[str, Any] = getattr(holder, "connection_kwargs", {})
            if options:
                break
        else:  # the asyncio clusters keep them themselves
            options = getattr(self._client, "connection_kwargs", {})
        timeout: float | None = options.get("socket_timeout")
        return timeout

    def open(self) -> tuple[Any, Callable[[], None]]:
        """The client."""
        return self._client, lambda: None

    def open_async(self) -> tuple[Any, Callable[[], Awaitable[None]]]:
        """The client."""

        async def leave_open() -> None:
            pass

        return self._client, leave_open


def connection_of(
    client: Any,
    url: str,
    host: str,
    port: int | str,
    username: str,
    password: str,
    db_index: int,
    mode: Mode,
    *,
    ssl: bool,
) -> CacheConnection | GivenClient:
    """What opens the client: the one given, before all other arguments."""
    if client is not None:
        return GivenClient(client)
    return CacheConnection(url, host, port, username, password, db_index, mode, ssl)


def _library(address: Address) -> ModuleType:
    names = ("valkey", "redis") if address.prefers_valkey else ("redis", "valkey")
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise IdempotencyPersistenceConfigError(
        f"neither redis-py nor valkey-py is installed: pip install 'retrysafe[{names[0]}]', or pass a client"
    )
