"""Where a cache is: a URL or the constructor's arguments, checked, as one value. No client library is needed for it.

| URL | server |
|---|---|
| `redis://user:password@host:6379/0`, `valkey://...` | one server |
| `rediss://...`, `valkeys://...` | the same over TLS |
| `redis+cluster://host1:6379,host2:6379` | a cluster |
| `redis+sentinel://host1:26379,host2:26379/service/0` | the master that Sentinels tell |

`valkey`, `rediss` and `valkeys` go before `+cluster` and `+sentinel` too. The query holds options of the connection,
`?socket_timeout=1&ssl_ca_certs=ca.pem`; see `options`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast, get_args

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.options import connection_options
from retrysafe.persistence._urls import decoded, query_options, shown_in_place_of, shown_url, split_url

Mode = Literal["standalone", "cluster"]
Topology = Literal["standalone", "cluster", "sentinel"]

SCHEMES: Final = tuple(
    f"{base}{topology}"
    for base in ("redis", "rediss", "valkey", "valkeys")
    for topology in ("", "+cluster", "+sentinel")
)

_DEFAULT_PORTS: Final = {"standalone": 6379, "cluster": 6379, "sentinel": 26379}
_HIGHEST_PORT: Final = 65_535
_LONGEST_NUMBER: Final = 9


class Address:
    """Where a cache is.

    Args:
        hosts: Host and port of each server to begin with.
        topology: What stands there.
        prefers_valkey: Whether valkey-py is the client to try first.
        tls: Whether to speak TLS.
        username: For the server; "" for none.
        password: For the server; "" for none.
        db_index: The database; a cluster has none but 0.
        service: The name of the master that Sentinels know.
        options: Of each connection, under the client libraries' names for them.
    """

    __slots__ = (
        "db_index",
        "hosts",
        "options",
        "password",
        "prefers_valkey",
        "service",
        "tls",
        "topology",
        "username",
    )

    def __init__(
        self,
        hosts: tuple[tuple[str, int], ...],
        topology: Topology,
        options: dict[str, Any],
        *,
        prefers_valkey: bool = False,
        tls: bool = False,
        username: str = "",
        password: str = "",
        db_index: int = 0,
        service: str = "",
    ) -> None:
        self.hosts = hosts
        self.topology: Topology = topology
        self.options = options
        self.prefers_valkey = prefers_valkey
        self.tls = tls
        self.username = username
        self.password = password
        self.db_index = db_index
        self.service = service

    @property
    def where(self) -> str:
        """Hosts and ports, and whether TLS is spoken, for errors; never the password."""
        shown = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        shown = f"{shown} (master {self.service!r})" if self.service else shown
        return f"{shown} (TLS)" if self.tls else shown

    def __repr__(self) -> str:
        return f"Address({self.where!r}, {self.topology!r})"


def address_of(
    url: Any, host: Any, port: Any, username: Any, password: Any, db_index: Any, mode: Any, *, ssl: Any
) -> Address:
    """The address that the constructor's arguments name; a URL comes before all others but `mode`.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong; names it.
    """
    if mode not in get_args(Mode):
        raise IdempotencyPersistenceConfigError(f"mode={mode!r}: must be 'standalone' or 'cluster'")
    if url:
        return parse_url(url, mode)
    _check_arguments(host, username, password, db_index, ssl)
    if mode == "cluster" and db_index:
        raise IdempotencyPersistenceConfigError(f"db_index={db_index!r}: a cluster has no database but 0")
    number = _port(port)
    if number is None:
        raise IdempotencyPersistenceConfigError(f"port={port!r}: must be a port, from 1 to {_HIGHEST_PORT}")
    return Address(
        ((host, number),),
        mode,
        connection_options({}, tls=ssl, sentinel=False),
        tls=ssl,
        username=username,
        password=password,
        db_index=db_index,
    )


def _check_arguments(host: Any, username: Any, password: Any, db_index: Any, ssl: Any) -> None:
    if not isinstance(host, str) or not host:
        raise IdempotencyPersistenceConfigError(f"host={shown_in_place_of(host)}: give url, host or client")
    if any(mark in host for mark in "/@ []"):
        raise IdempotencyPersistenceConfigError(f"host={shown_url(host)}: must be a name or an address; a URL is url=")
    for name, text in (("username", username), ("password", password)):
        if not isinstance(text, str):
            raise IdempotencyPersistenceConfigError(f"{name}: must be a text, not {type(text).__name__}")
    if not isinstance(ssl, bool):
        raise IdempotencyPersistenceConfigError(f"ssl={ssl!r}: must be True or False")
    if isinstance(db_index, bool) or not isinstance(db_index, int) or db_index < 0:
        raise IdempotencyPersistenceConfigError(f"db_index={db_index!r}: must be a whole number from 0")


def parse_url(url: Any, mode: Mode = "standalone") -> Address:
    """The address that a URL names.

    Args:
        url: The URL.
        mode: `"cluster"` makes a URL without `+cluster` a cluster's too.

    Raises:
        IdempotencyPersistenceConfigError: It names none, or an option of it is wrong; the message shows no password.
    """
    parts = split_url(url)
    if parts is None:
        raise _wrong_url(url, "it is no URL")
    if parts.scheme not in SCHEMES:
        raise _wrong_url(url, f"its scheme is none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if "@" in parts.path + parts.query + parts.fragment:
        raise _wrong_url(url, "it has a bare / ? # or @; write them in a password as %2F %3F %23 %40")
    credentials, _, places = parts.netloc.rpartition("@")
    username, password, path = (decoded(part) for part in (*credentials.partition(":")[::2], parts.path))
    if username is None or password is None or path is None:
        raise _wrong_url(url, "what its percent signs encode is no UTF-8")
    if parts.fragment:
        raise _wrong_url(url, "it has a fragment; write # in a password as %23")
    base, _, named = parts.scheme.partition("+")
    topology = cast("Topology", named or mode)
    if topology == "sentinel" and mode == "cluster":
        raise _wrong_url(url, "mode='cluster' is not for Sentinels")
    hosts = tuple(_host(url, place, topology) for place in places.split(","))
    if len(hosts) > 1 and topology == "standalone":
        raise _wrong_url(url, "it names several hosts, which only +cluster and +sentinel have")
    service, db_index = _service_and_db(url, path, topology)
    tls = base in ("rediss", "valkeys")
    return Address(
        hosts,
        topology,
        connection_options(query_options(parts.query), tls=tls, sentinel=topology == "sentinel"),
        prefers_valkey=base.startswith("valkey"),
        tls=tls,
        username=username,
        password=password,
        db_index=db_index,
        service=service,
    )


def _wrong_url(url: Any, why: str) -> IdempotencyPersistenceConfigError:
    return IdempotencyPersistenceConfigError(f"url={shown_url(url)} is not usable: {why}")


def _host(url: str, place: str, topology: Topology) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket:
            raise _wrong_url(url, "an address of it begins with [ and has no ]")
    else:
        host, colon, port = place.partition(":")
    if not host:
        raise _wrong_url(url, "it names no host")
    number = _port(port) if colon else _DEFAULT_PORTS[topology]
    if number is None or colon not in ("", ":"):
        raise _wrong_url(url, f"the port of {host!r} is no number from 1 to {_HIGHEST_PORT}")
    return host, number


def _port(port: Any) -> int | None:
    """The port as a number, where it is one."""
    if isinstance(port, str) and _is_number(port):
        port = int(port)
    if isinstance(port, int) and not isinstance(port, bool) and 0 < port <= _HIGHEST_PORT:
        return port
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _service_and_db(url: str, path: str, topology: Topology) -> tuple[str, int]:
    steps = [step for step in path.split("/") if step]
    service = ""
    if topology == "sentinel":
        if not steps:
            raise _wrong_url(url, "it names no master: redis+sentinel://host:26379/mymaster")
        service = steps.pop(0)
    db_index = steps[0] if steps else "0"
    if len(steps) > 1 or not _is_number(db_index):
        raise _wrong_url(url, f"{'/'.join(steps)!r} in its path is no number of a database")
    if topology == "cluster" and int(db_index):
        raise _wrong_url(url, f"a cluster has no database but 0, and it names {db_index}")
    return service, int(db_index)
