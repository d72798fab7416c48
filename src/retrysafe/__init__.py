"""retrysafe makes work safe to retry: it runs once per idempotency key, and duplicates get the first answer."""

import typing as _typing

from retrysafe.block import idempotent_block
from retrysafe.config import IdempotencyConfig
from retrysafe.execution import Execution, current_execution
from retrysafe.hook import IdempotentHookFunction
from retrysafe.idempotency import idempotent, idempotent_function
from retrysafe.persistence import async_layer_from_url, layer_from_url
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.persistence.memory import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer

if _typing.TYPE_CHECKING:
    from retrysafe.batch import BatchResult, ItemResult, idempotent_batch
    from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer

__version__ = "0.1.0"

__all__ = [
    "AsyncBasePersistenceLayer",
    "AsyncMemoryPersistenceLayer",
    "BasePersistenceLayer",
    "BatchResult",
    "DataRecord",
    "DynamoDBPersistenceLayer",
    "Execution",
    "IdempotencyConfig",
    "IdempotentHookFunction",
    "ItemResult",
    "MemoryPersistenceLayer",
    "async_layer_from_url",
    "current_execution",
    "idempotent",
    "idempotent_batch",
    "idempotent_block",
    "idempotent_function",
    "layer_from_url",
]


def __getattr__(name: str) -> _typing.Any:
    """What is loaded only when it is asked for."""
    if name == "DynamoDBPersistenceLayer":
        from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer  # noqa: PLC0415  # see above

        return DynamoDBPersistenceLayer
    if name in ("BatchResult", "ItemResult", "idempotent_batch"):
        from retrysafe import batch  # noqa: PLC0415  # see above

        return getattr(batch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
