"""Powertools as the benchmarks use it: a persistence layer in a dict, as simple as ours in memory is to its users."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from aws_lambda_powertools.utilities.idempotency import (
        BasePersistenceLayer,
        DynamoDBPersistenceLayer,
        IdempotencyConfig,
        idempotent,
        idempotent_function,
    )
    from aws_lambda_powertools.utilities.idempotency.exceptions import (
        IdempotencyItemAlreadyExistsError,
        IdempotencyItemNotFoundError,
    )
    from aws_lambda_powertools.utilities.idempotency.persistence.redis import RedisCachePersistenceLayer

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

__all__ = [
    "DynamoDBPersistenceLayer",
    "IdempotencyConfig",
    "PeerMemoryLayer",
    "RedisCachePersistenceLayer",
    "idempotent",
    "idempotent_function",
]


class PeerMemoryLayer(BasePersistenceLayer):
    """Records in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, DataRecord] = {}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        try:
            return self.records[idempotency_key]
        except KeyError:
            raise IdempotencyItemNotFoundError from None

    def _put_record(self, data_record: DataRecord) -> None:
        standing = self.records.get(data_record.idempotency_key)
        if standing is not None and not standing.is_expired:
            raise IdempotencyItemAlreadyExistsError(old_data_record=standing)
        self.records[data_record.idempotency_key] = data_record

    def _update_record(self, data_record: DataRecord) -> None:
        self.records[data_record.idempotency_key] = data_record

    def _delete_record(self, data_record: DataRecord) -> None:
        self.records.pop(data_record.idempotency_key, None)


def config(expression: str, context: Any) -> Any:
    """A config that knows its Lambda context: without one, each call would also pay for a warning."""
    made = IdempotencyConfig(event_key_jmespath=expression)
    made.register_lambda_context(context)
    return made
