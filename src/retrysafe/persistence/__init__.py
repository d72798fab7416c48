"""Persistence layers: where records are kept, one module each; and a layer from a URL.

| URL | layer |
|---|---|
| `memory://` | `MemoryPersistenceLayer`, `AsyncMemoryPersistenceLayer` |
| `sqlite:///relative.db`, `sqlite:////absolute.db` | `SQLitePersistenceLayer`, `AsyncSQLitePersistenceLayer` |
| `dynamodb://table?region=eu-central-1` | `DynamoDBPersistenceLayer`, `AsyncDynamoDBPersistenceLayer` |

The options of a URL are the keyword arguments of the layer, as a query: `sqlite:///jobs.db?synchronous=normal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyPersistenceConfigError

if TYPE_CHECKING:
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

SCHEMES = ("memory", "sqlite", "dynamodb")


def layer_from_url(url: str) -> BasePersistenceLayer:
    """The synchronous layer that a URL names. It owns what it opens: `close()` it.

    Raises:
        IdempotencyPersistenceConfigError: The URL names no layer, or its options are wrong.
    """
    scheme, path, options = _split(url)
    if scheme == "memory":
        from retrysafe.persistence.memory import MemoryPersistenceLayer  # noqa: PLC0415  # each comes when named

        return MemoryPersistenceLayer()
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
    if scheme == "dynamodb":
        from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer  # noqa: PLC0415  # each comes when named

        return AsyncDynamoDBPersistenceLayer(**options)
    from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer  # noqa: PLC0415  # each comes when named

    return AsyncSQLitePersistenceLayer(path, **options)


def _split(url: str) -> tuple[str, str, dict[str, Any]]:
    """Scheme, path and options of a URL, checked."""
    from urllib.parse import parse_qsl, unquote, urlsplit  # noqa: PLC0415  # only a URL needs it

    try:
        parts = urlsplit(url)
    except (ValueError, AttributeError, TypeError):
        raise _wrong(url, "it is no URL") from None
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


def _wrong(url: Any, why: str) -> IdempotencyPersistenceConfigError:
    import re  # noqa: PLC0415  # only a wrong URL needs it

    shown = re.sub(r"//[^/@]*@", "//...@", url) if isinstance(url, str) else url  # no password in an error
    return IdempotencyPersistenceConfigError(f"persistence_store={shown!r} is not usable: {why}")
