"""Opens the clients of a cache that the layer is told the address of, with redis-py or valkey-py.

A client that a user passes in never comes here: it is the user's to open and to close.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.addresses import Address, Mode, address_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType


# What valkey-py and older versions of redis-py take for no limit. Newer ones refuse whoever comes while 100 are busy.
_NO_LIMIT: Final = 2**31


class CacheConnection:
    """A connection to Redis or Valkey: checked when it is made, opened when it is first used.

    Args:
        url: Where the cache is; see `CachePersistenceLayer`. Where it is given, all others but `mode` are ignored.
        host: Its host.
        port: Its port. Default: 6379.
        username: Its user. Default: none.
        password: The user's password. Default: none.
        db_index: The database. Default: 0.
        mode: `"standalone"`, or `"cluster"`, which makes a URL without `+cluster` a cluster's too. Default: standalone.
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
        timeout: float | None = self._address.options["socket_timeout"]
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
        """The client of this module, sync or async, and what is to be closed beside it."""
        address, options = self._address, self._connection_options(module)
        name = "Valkey" if self._library.__name__ == "valkey" else "Redis"
        if address.topology == "cluster":
            cluster = importlib.import_module(f"{module.__name__}.cluster")
            nodes = [cluster.ClusterNode(host, port) for host, port in address.hosts]
            if name == "Valkey":
                options["cluster_error_retry_attempts"] = 1
            return getattr(cluster, f"{name}Cluster")(startup_nodes=nodes, ssl=address.tls, **options), []
        if address.topology == "sentinel":
            mine = {
                name.removeprefix("sentinel_"): options.pop(name, None)
                for name in ("sentinel_username", "sentinel_password")
            }
            theirs = {
                name: value
                for name, value in options.items()
                if name.startswith(("ssl_", "socket_", "retry")) or name == "protocol"
            }
            sentinels = importlib.import_module(f"{module.__name__}.sentinel")
            sentinel = sentinels.Sentinel(
                address.hosts, sentinel_kwargs=theirs | {"ssl": address.tls} | mine, ssl=address.tls, **options
            )
            kind = sentinels.SentinelManagedSSLConnection if address.tls else sentinels.SentinelManagedConnection
            if module is self._library:
                kind = _closing(kind)
            client = sentinel.master_for(address.service, db=address.db_index, connection_class=kind)
            return client, list(sentinel.sentinels)
        ((host, port),) = address.hosts
        client = getattr(module, name)
        connection = importlib.import_module(f"{module.__name__}.connection")
        kind = connection.SSLConnection if address.tls else connection.Connection
        pool = connection.ConnectionPool(connection_class=kind, host=host, port=port, db=address.db_index, **options)
        return client.from_pool(pool), []

    def _connection_options(self, module: ModuleType) -> dict[str, Any]:
        """The options of each connection, under the library's own names for them."""
        errors = importlib.import_module(f"{self._library.__name__}.exceptions")
        return {
            "username": self._address.username or None,
            "password": self._address.password or None,
            "retry": _retrying(module, errors.ConnectionError),
            # Without this, valkey-py connects again but sends nothing.
            **({"retry_on_error": [errors.ConnectionError]} if self._library.__name__ == "valkey" else {}),
            "max_connections": _NO_LIMIT,
            **self._address.options,
        }


class GivenClient:
    """A client that was passed in, in the place of a connection: it is open, and never closed here.

    Args:
        client: The client.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        pool = getattr(client, "connection_pool", None)
        self._known: dict[str, Any] = getattr(pool, "connection_kwargs", {})
        self._service = getattr(pool, "service_name", None)

    @property
    def where(self) -> str:
        """Host and port, where the client tells them; else what kind of client it is."""
        if "host" in self._known:
            return f"{self._known['host']}:{self._known.get('port', 6379)}"
        if self._service:
            return f"master {self._service!r}"
        nodes = getattr(getattr(self._client, "nodes_manager", None), "startup_nodes", ())  # redis-py's cluster
        config = getattr(self._client, "config", getattr(self._client, "_config", None))  # valkey-glide, async and sync
        addresses = getattr(config, "addresses", ())
        shown = [*map(str, nodes), *(f"{each.host}:{each.port}" for each in addresses)]
        return ",".join(shown) or type(self._client).__name__

    @property
    def password(self) -> str:
        """The password, where the client tells it, for keeping it out of errors."""
        return str(self._known.get("password") or "")

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


def _retrying(module: ModuleType, lost: type[Exception]) -> Any:
    """The library's policy: what was sent on a connection that turns out to be dead is sent again, once, at once.

    What timed out is not tried again. It has taken its time, and tries would multiply: the libraries connect anew by
    this same policy within each try of a command, and the protocol has tries of its own.
    """
    library = module.__name__.partition(".")[0]
    retries: Any = importlib.import_module(f"{module.__name__}.retry")
    backoff: Any = importlib.import_module(f"{library}.backoff")
    return retries.Retry(backoff.NoBackoff(), 1, (lost,))


def _closing(kind: Any) -> Any:
    """A synchronous class of connections, made such that a failed read closes the connection, as it does of all others.

    Those to a Sentinel's master stay open, and the policy of tries closes only what it tries again. One that timed out
    would go back into its pool, and give its late reply to whoever sends the next command: a stranger's answer.
    """

    def read_response(self: Any, *args: Any, disconnect_on_error: bool = True, **options: Any) -> Any:
        return kind.read_response(self, *args, disconnect_on_error=disconnect_on_error, **options)

    return type(kind.__name__, (kind,), {"read_response": read_response})


def _library(address: Address) -> ModuleType:
    names = ("valkey", "redis") if address.prefers_valkey else ("redis", "valkey")
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise IdempotencyPersistenceConfigError(
        f"neither redis-py nor valkey-py is installed: pip install 'retrysafe[{names[0]}]', or pass a client"
    )
