"""The options that a cache's URL may have in its query, what each may be, and what holds where none is given.

| option | value |
|---|---|
| `socket_timeout`, `socket_connect_timeout` | seconds until a reply, and until a connection: 5 and 2 |
| `health_check_interval` | seconds after which an idle connection is tried before it is used: 0, never |
| `max_connections` | how many the client opens at most, in a cluster to each node: no limit |
| `socket_keepalive` | `true` or `false` |
| `client_name` | what the server's CLIENT LIST shows |
| `protocol` | `2` or `3` |
| `ssl_ca_certs`, `ssl_ca_path`, `ssl_ca_data` | who may have signed the server's certificate; the system's own list |
| `ssl_certfile`, `ssl_keyfile`, `ssl_password` | the client's own certificate |
| `ssl_check_hostname`, `ssl_cert_reqs` | `true`, `required`. With `false` or `none` anybody can pose as the server |
| `ssl_ciphers` | as OpenSSL lists them |
| `sentinel_username`, `sentinel_password` | for the Sentinels themselves |

They are passed to redis-py or valkey-py under these names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Seconds. A call waits twice for each: its claim is tried again.
CONNECT_TIMEOUT: Final = 2.0
SOCKET_TIMEOUT: Final = 5.0

_LONGEST_SECONDS: Final = 1e6


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise ValueError
    return seconds


def _whole(lowest: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not value.isdecimal() or int(value) < lowest:
            raise ValueError
        return int(value)

    return read


def _text(value: str) -> str:
    if not value:
        raise ValueError
    return value


_FLAGS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _flag(value: str) -> bool:
    return _FLAGS[value.lower()]


def _requirement(value: str) -> str:
    return {"required": value, "optional": value, "none": value}[value]


def _protocol(value: str) -> int:
    return {"2": 2, "3": 3}[value]


_Kind = tuple["Callable[[str], Any]", str]

_SECONDS: Final[_Kind] = (_seconds, "a number of seconds above 0")
_TEXT: Final[_Kind] = (_text, "a text")
_FLAG: Final[_Kind] = (_flag, "true or false")

_OPTIONS: Final[Mapping[str, _Kind]] = {
    "client_name": _TEXT,
    "health_check_interval": (_whole(0), "a whole number of seconds from 0"),
    "max_connections": (_whole(1), "a whole number from 1"),
    "protocol": (_protocol, "2 or 3"),
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _FLAG,
    "socket_timeout": _SECONDS,
}
_TLS_OPTIONS: Final[Mapping[str, _Kind]] = {
    "ssl_ca_certs": _TEXT,
    "ssl_ca_data": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_cert_reqs": (_requirement, "required, optional or none"),
    "ssl_certfile": _TEXT,
    "ssl_check_hostname": _FLAG,
    "ssl_ciphers": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
}
_SENTINEL_OPTIONS: Final[Mapping[str, _Kind]] = {"sentinel_password": _TEXT, "sentinel_username": _TEXT}


def connection_options(given: Mapping[str, str], *, tls: bool, sentinel: bool) -> dict[str, Any]:
    """The options of each connection, with their defaults.

    Args:
        given: Those of the URL.
        tls: Whether TLS is spoken.
        sentinel: Whether Sentinels tell where the server is.

    Raises:
        IdempotencyPersistenceConfigError: One is unknown, has no meaning here, or a wrong value.
    """
    options: dict[str, Any] = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}
    if tls:
        # valkey-py would not look at the name.
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": given.get("ssl_cert_reqs") != "none"}
    for name, value in given.items():
        options[name] = _read(name, value, tls=tls, sentinel=sentinel)
    if options.get("ssl_check_hostname") and options["ssl_cert_reqs"] == "none":
        raise IdempotencyPersistenceConfigError(
            "url: ssl_check_hostname='true' and ssl_cert_reqs='none': without a certificate there is no name to check"
        )
    return options


def _read(name: str, value: str, *, tls: bool, sentinel: bool) -> Any:
    places = (
        (_OPTIONS, True, ""),
        (_TLS_OPTIONS, tls, "TLS: rediss:// or valkeys://"),
        (_SENTINEL_OPTIONS, sentinel, "Sentinel: +sentinel://"),
    )
    for options, meant, where in places:
        if name not in options:
            continue
        if not meant:
            raise IdempotencyPersistenceConfigError(f"url: the option {name!r} is for {where}")
        read, what = options[name]
        try:
            return read(value)
        except (ValueError, KeyError):
            shown = "..." if "password" in name else repr(value)
            raise IdempotencyPersistenceConfigError(f"url: {name}={shown}: must be {what}") from None
    known = ", ".join(sorted(name for options, meant, _ in places if meant for name in options))
    raise IdempotencyPersistenceConfigError(f"url: unknown option {name!r}; known: {known}")
