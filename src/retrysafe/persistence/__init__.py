"""Persistence layers: where records are kept, one module each; and a layer from a URL.

| URL | layer |
|---|---|
| `memory://` | `MemoryPersistenceLayer`, `AsyncMemoryPersistenceLayer` |
| `sqlite:///relative.db`, `sqlite:////absolute.db` | `SQLitePersistenceLayer`, `AsyncSQLitePersistenceLayer` |
| `redis://host:6379/0`, `redis+cluster://a,b`, `redis+sentinel://a,b/name` | `CachePersistenceLayer` and its twin |
| `dynamodb://table?region=eu-central-1` | `DynamoDBPersistenceLayer`, `AsyncDynamoDBPersistenceLayer` |

`valkey` may stand for `redis`, and `rediss` or `valkeys` ask for TLS.

The query of a URL has options of the layer, under the names of its arguments: `sqlite:///jobs.db?synchronous=normal`,
`redis://host?min_replicas=1`. A cache's has options of its connection too: `redis://host?socket_timeout=1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer


def layer_from_url(url: str) -> BasePersistenceLayer:
    """The synchronous layer that a URL names. It owns what it opens: `close()` it.

    Args:
        url: See `retrysafe.persistence`.

    Raises:
        IdempotencyPersistenceConfigError: The URL names no layer, its options are wrong, or a client library is
            missing.
        IdempotencyPersistenceLayerError: SQLite's file is locked, damaged or on a full disk; other stores are first
            asked by a call.
    """
    layer: BasePersistenceLayer = _made(url, "")
    return layer


def async_layer_from_url(url: str) -> AsyncBasePersistenceLayer:
    """The asynchronous layer that a URL names. It owns what it opens: `await close()` it.

    Args:
        url: See `retrysafe.persistence`.

    Raises:
        IdempotencyPersistenceConfigError: The URL names no layer, its options are wrong, or a client library is
            missing.
        IdempotencyPersistenceLayerError: SQLite's file is locked, damaged or on a full disk; other stores are first
            asked by a call.
    """
    layer: AsyncBasePersistenceLayer = _made(url, "Async")
    return layer


def _made(url: str, kind: str) -> Any:
    from retrysafe.persistence._store_urls import arguments_of  # noqa: PLC0415  # only a URL needs it

    scheme, arguments = arguments_of(url)
    module, name = _layers_of(scheme)
    layer: Any = getattr(module, f"{kind}{name}")
    return layer(**arguments)


def _layers_of(scheme: str) -> tuple[Any, str]:
    """The module, which comes when it is named, and the layer, whose twin has "Async" before its name.

    Imported by statements: what freezes a program finds no module that is imported by a text.
    """
    if scheme == "memory":
        from retrysafe.persistence import memory  # noqa: PLC0415  # see above

        return memory, "MemoryPersistenceLayer"
    if scheme == "sqlite":
        from retrysafe.persistence import sqlite  # noqa: PLC0415  # see above

        return sqlite, "SQLitePersistenceLayer"
    if scheme == "dynamodb":
        from retrysafe.persistence import dynamodb  # noqa: PLC0415  # see above

        return dynamodb, "DynamoDBPersistenceLayer"
    from retrysafe.persistence import cache  # noqa: PLC0415  # see above

    return cache, "CachePersistenceLayer"
