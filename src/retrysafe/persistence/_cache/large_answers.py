"""Answers that a server cannot take, told from connections that are merely lost.

A server closes the connection on a text above its proto-max-bulk-len, mostly before its refusal can be read, and a slow
network does not carry a large one within the client's timeout. Either looks like a lost connection, each time anew; the
record would stay INPROGRESS, and the work be done again when its lease is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from retrysafe.exceptions import (
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from retrysafe.persistence.datarecord import DataRecord

T = TypeVar("T")

# Bytes. No server can be told to refuse less than this.
LARGE: Final = 1 << 20


def large_outcome(
    record: DataRecord,
    write: Callable[[], Generator[Any, Any, T]],
    look: Callable[[], Generator[Any, Any, DataRecord | None]],
) -> Generator[Any, Any, T]:
    """Write a large outcome; twice, where the connection is lost over it and the server answers to a look.

    Args:
        record: The outcome.
        write: The steps that write it.
        look: The steps that tell what stands.

    Raises:
        IdempotencyResponseUnavailableError: It was lost both times, and is not stored.
    """
    try:
        return (yield from write())
    except IdempotencyPersistenceLayerError as error:
        if not _may_be_its_size(error):
            raise
    yield from _looked(look)
    try:
        return (yield from write())
    except IdempotencyPersistenceLayerError as error:
        if not _may_be_its_size(error):
            raise
        standing = yield from _looked(look)
        if standing is not None and standing.owner == record.owner and standing.stored_status == record.stored_status:
            raise
        raise IdempotencyResponseUnavailableError(
            "the cache answers, and lost the connection twice over an answer of "
            f"{len(record.response_data or '')} characters: larger than its proto-max-bulk-len, or too large for the "
            "client's timeout",
            record.idempotency_key,
            record=standing,
        ) from error


def _looked(look: Callable[[], Generator[Any, Any, T]]) -> Generator[Any, Any, T]:
    """Look, and once more: asyncio may find out only now that the connection over which it was sent is lost."""
    try:
        return (yield from look())
    except IdempotencyPersistenceConnectionError:
        return (yield from look())


def _may_be_its_size(error: IdempotencyPersistenceLayerError) -> bool:
    return type(error) is IdempotencyPersistenceConnectionError or "Protocol error" in error.details
