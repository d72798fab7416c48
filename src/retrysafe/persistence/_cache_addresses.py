"""Where a cache is: a URL or the constructor's arguments, checked, as one value. No client library is needed for it.

| URL | server |
|---|---|
| `redis://user:password@host:6379/0`, `valkey://...` | one server |
| `rediss://...`, `valkeys://...` | the same over TLS |
| `redis+cluster://host1:6379,host2:6379` | a cluster |
| `redis+sentinel://host1:26379,host2:26379/service/0` | the master that Sentinels tell |

`valkey`, `rediss` and `valkeys` go before `+cluster` and `+sentinel` too. The query holds options of the client
library's connection, as redis-py's own URLs do: `?socket_timeout=1&ssl_ca_certs=ca.pem`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

from retrysafe.exceptions import IdempotencyPersistenceConfigError

Mode = Literal["standalone", "cluster"]
Topology = Literal["standalone", "cluster", "sentinel"]

SCHEMES: Final = tuple(
    f"{base}{topology}"
    for base in ("redis", "rediss", "valkey", "valkeys")
    for topology in ("", "+cluster", "+sentinel")
)

_DEFAULT_PORTS: Final = {"standalone": 6379, "cluster": 6379, "sentinel": 26379}
_HIGHEST_PORT: Final = 65535


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
        query: Options of the client library's connection, as in a URL.
    """

    __slots__ = (
        "db_index",
        "hosts",
        "password",
        "prefers_valkey",
        "query",
        "service",
        "tls",
        "topology",
        "username",
    )

    def __init__(
        self,
        hosts: tuple[tuple[str, int], ...],
        topology: Topology = "standalone",
        *,
        prefers_valkey: bool = False,
        tls: bool = False,
        username: str = "",
        password: str = "",
        db_index: int = 0,
        service: str = "",
        query: str = "",
    ) -> None:
        self.hosts = hosts
        self.topology: Topology = topology
        self.prefers_valkey = prefers_valkey
        self.tls = tls
        self.username = username
        self.password = password
        self.db_index = db_index
        self.service = service
        self.query = query

    @property
    def where(self) -> str:
        """Hosts and ports, for errors; never the password."""
        shown = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{shown} (master {self.service!r})" if self.service else shown

    def __repr__(self) -> str:
        return f"Address({self.where!r}, {self.topology!r}, tls={self.tls})"


def address_of(
    url: str, host: Any, port: int | str, username: str, password: str, db_index: Any, mode: str, *, ssl: bool
) -> Address:
    """The address that the constructor's arguments name; a URL comes before all others but `mode`.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong; names it.
    """
    if mode not in get_args(Mode):
        raise IdempotencyPersistenceConfigError(f"mode={mode!r}: must be 'standalone' or 'cluster'")
    if url:
        found = parse_url(url)
        if mode == "cluster" and found.topology == "standalone":
            found.topology = "cluster"
        return found
    if not isinstance(host, str) or not host:
        raise IdempotencyPersistenceConfigError(f"host={host!r}: give url, host or client")
    if isinstance(db_index, bool) or not isinstance(db_index, int) or db_index < 0:
        raise IdempotencyPersistenceConfigError(f"db_index={db_index!r}: must be a whole number from 0")
    topology: Topology = "cluster" if mode == "cluster" else "standalone"
    if topology == "cluster" and db_index:
        raise IdempotencyPersistenceConfigError(f"db_index={db_index!r}: a cluster has no database but 0")
    return Address(
        ((host, _checked_port(port, f"port={port!r}")),),
        topology,
        tls=ssl,
        username=username,
        password=password,
        db_index=db_index,
    )


def parse_url(url: str) -> Address:
    """The address that a URL names.

    Raises:
        IdempotencyPersistenceConfigError: It names none; the message shows no password.
    """
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415  # only a URL needs it

    try:
        parts = urlsplit(url)
    except (ValueError, AttributeError, TypeError):
        raise wrong_url(url, "it is no URL") from None
    if parts.scheme not in SCHEMES:
        raise wrong_url(url, f"its scheme is none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    base, _, named = parts.scheme.partition("+")
    topology: Topology = "cluster" if named == "cluster" else "sentinel" if named else "standalone"
    credentials, _, places = parts.netloc.rpartition("@")
    username, colon, password = credentials.partition(":")
    if not places or parts.fragment:
        raise wrong_url(url, "it has a fragment; write # in a password as %23" if places else "it names no host")
    hosts = tuple(_host(url, place, _DEFAULT_PORTS[topology]) for place in places.split(","))
    if len(hosts) > 1 and topology == "standalone":
        raise wrong_url(url, "it names several hosts, which only +cluster and +sentinel have")
    service, db_index = _service_and_db(url, unquote(parts.path), topology)
    return Address(
        hosts,
        topology,
        prefers_valkey=base.startswith("valkey"),
        tls=base in ("rediss", "valkeys"),
        username=unquote(username),
        password=unquote(password) if colon else "",
        db_index=db_index,
        service=service,
        query=parts.query,
    )


def wrong_url(url: Any, why: str) -> IdempotencyPersistenceConfigError:
    """The refusal of a URL, without what may be a password."""
    import re  # noqa: PLC0415  # only a wrong URL needs it

    shown = re.sub(r"//.*@", "//...@", url) if isinstance(url, str) else url
    return IdempotencyPersistenceConfigError(f"url={shown!r} is not usable: {why}")


def _host(url: str, place: str, default_port: int) -> tuple[str, int]:
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    if not host:
        raise wrong_url(url, "it names no host")
    return host, _checked_port(port or default_port, f"url: port {port!r}")


def _checked_port(port: int | str, named: str) -> int:
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = 0
    if not 0 < number <= _HIGHEST_PORT:
        raise IdempotencyPersistenceConfigError(f"{named}: must be a port, from 1 to {_HIGHEST_PORT}")
    return number


def _service_and_db(url: str, path: str, topology: Topology) -> tuple[str, int]:
    steps = [step for step in path.split("/") if step]
    service = ""
    if topology == "sentinel":
        if not steps:
            raise wrong_url(url, "it names no master: redis+sentinel://host:26379/mymaster")
        service = steps.pop(0)
    if len(steps) > 1 or (steps and not steps[0].isdecimal()):
        raise wrong_url(url, f"its path {path!r} names no database")
    db_index = int(steps[0]) if steps else 0
    if topology == "cluster" and db_index:
        raise wrong_url(url, "a cluster has no database but 0")
    return service, db_index
