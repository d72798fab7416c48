"""Persistence layers: where records are kept, one module each; and a layer from a URL.

| URL | layer |
|---|---|
| `memory://` | `MemoryPersistenceLayer`, `AsyncMemoryPersistenceLayer` |
| `sqlite:///relative.db`, `sqlite:////absolute.db` | `SQLitePersistenceLayer`, `AsyncSQLitePersistenceLayer` |
| `redis://host:6379/0`, `redis+cluster://a,b`, `redis+sentinel://a,b/name` | `CachePersistenceLayer` and its twin |
| `dynamodb://table?region=eu-central-1` | `DynamoDBPersistenceLayer`, `AsyncDynamoDBPersistenceLayer` |

`valkey` may stand for `redis`, and `rediss` or `valkeys` ask for TLS.

The options of a URL are the keyword arguments of the layer, as a query: `sqlite:///jobs.db?synchronous=normal`,
`redis://host?min_replicas=1`. A cache's has options of its connection too: `redis://host?socket_timeout=1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyPersistenceConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

_CACHES = tuple(
    f"{base}{kind}" for base in ("redis", "rediss", "valkey", "valkeys") for kind in ("", "+cluster", "+sentinel")
)

SCHEMES = ("memory", "sqlite", "dynamodb", *_CACHES)

# The options of a cache layer that a URL may have: what each is read with, and what it must be.
_NAME = (str, "a name")
_CACHE_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "in_progress_expiry_attr": _NAME,
    "expiry_attr": _NAME,
    "status_attr": _NAME,
    "data_attr": _NAME,
    "validation_key_attr": _NAME,
    "min_replicas": (int, "a whole number"),
    "replica_timeout_seconds": (float, "a number of seconds"),
}


def layer_from_url(url: str) -> BasePersistenceLayer:
    """The synchronous layer that a URL names. It owns what it opens: `close()` it.

    Raises:
        IdempotencyPersistenceConfigError: The URL names no layer, or its options are wrong.
    """
    scheme, path, options = _split(url)
    if scheme == "memory":
        from retrysafe.persistence.memory import MemoryPersistenceLayer  # noqa: PLC0415  # each comes when named

        return MemoryPersistenceLayer()
    if scheme in _CACHES:
        from retrysafe.persistence.cache import CachePersistenceLayer  # noqa: PLC0415  # each comes when named

        return CachePersistenceLayer(path, **options)
    if scheme == "dynamodb":
        from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer  # noqa: PLC0415  # each comes when named

        return DynamoDBPersistenceLayer(**options)
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer  # noqa: PLC0415  # each comes when named

    return SQLitePersistenceLayer(path, **options)


def async_layer_from_url(url: str) -> AsyncBasePersistenceLayer:
    """The asynchronous layer that a URL names. It owns what it opens: `await close()` it.

    Raises:
        IdempotencyPersistenceConfigError: The URL names no layer, or its options are wrong.
    """
    scheme, path, options = _split(url)
    if scheme == "memory":
        from retrysafe.persistence.memory import AsyncMemoryPersistenceLayer  # noqa: PLC0415  # each comes when named

        return AsyncMemoryPersistenceLayer()
    if scheme in _CACHES:
        from retrysafe.persistence.cache import AsyncCachePersistenceLayer  # noqa: PLC0415  # each comes when named

        return AsyncCachePersistenceLayer(path, **options)
    if scheme == "dynamodb":
        from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer  # noqa: PLC0415  # each comes when named

        return AsyncDynamoDBPersistenceLayer(**options)
    from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer  # noqa: PLC0415  # each comes when named

    return AsyncSQLitePersistenceLayer(path, **options)


def _split(url: str) -> tuple[str, str, dict[str, Any]]:
    """Scheme, path and options of a URL, checked; of a cache, its own URL in the path's place."""
    from urllib.parse import parse_qsl, unquote  # noqa: PLC0415  # only a URL needs it

    from retrysafe.persistence._urls import split_url  # noqa: PLC0415  # the same

    parts = split_url(url)
    if parts is None:
        raise _wrong(url, "it is no URL")
    if parts.scheme in _CACHES:
        return parts.scheme, *_cache_url(url)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise _wrong(url, f"its scheme is none of {known}")
    if parts.scheme == "dynamodb":
        from retrysafe.persistence._dynamodb_urls import arguments_of  # noqa: PLC0415  # each comes when named

        return parts.scheme, "", arguments_of(url)
    if parts.netloc or parts.fragment:
        raise _wrong(url, f"it names a host or a fragment; write {parts.scheme}:/// and a path")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "memory":
        if parts.path.strip("/") or options:
            raise _wrong(url, "memory:// takes neither a path nor options")
        return parts.scheme, "", {}
    path = unquote(parts.path.removeprefix("/"))
    if not path:
        raise _wrong(url, "it names no file; write sqlite:///idempotency.db")
    return parts.scheme, path, _sqlite_options(url, options)


def _sqlite_options(url: str, given: dict[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name == "busy_timeout_seconds":
            try:
                options[name] = float(value)
            except ValueError:
                raise _wrong(url, f"{name}={value!r} is no number of seconds") from None
        elif name in ("synchronous", "table"):
            options[name] = value
        else:
            raise _wrong(url, f"unknown option {name!r}; known: busy_timeout_seconds, synchronous, table")
    return options


def _cache_url(url: str) -> tuple[str, dict[str, Any]]:
    """A cache's URL without the options that are the layer's, and those."""
    from urllib.parse import unquote_plus  # noqa: PLC0415  # only a URL needs it

    place, mark, query = url.partition("?")
    options: dict[str, Any] = {}
    others: list[str] = []
    for pair in query.split("&"):
        name, equals, value = (unquote_plus(part) for part in pair.partition("="))
        if not equals or name not in _CACHE_OPTIONS or name in options:
            others.append(pair)  # the connection's, or wrong, which is said there
            continue
        read, what = _CACHE_OPTIONS[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise _wrong(url, f"{name}={value!r} is not {what}") from None
    return f"{place}{mark}{'&'.join(others)}", options


def _wrong(url: Any, why: str) -> IdempotencyPersistenceConfigError:
    from retrysafe.persistence._urls import shown_url  # noqa: PLC0415  # only a wrong URL needs it

    return IdempotencyPersistenceConfigError(f"persistence_store={shown_url(url)} is not usable: {why}")
