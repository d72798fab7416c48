"""retrysafe makes work safe to retry: it runs once per idempotency key, and duplicates get the first answer."""

from retrysafe.block import idempotent_block
from retrysafe.config import IdempotencyConfig
from retrysafe.execution import Execution, current_execution
from retrysafe.hook import IdempotentHookFunction
from retrysafe.idempotency import idempotent, idempotent_function
from retrysafe.persistence import async_layer_from_url, layer_from_url
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.persistence.memory import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer

__version__ = "0.1.0"

__all__ = [
    "AsyncBasePersistenceLayer",
    "AsyncMemoryPersistenceLayer",
    "BasePersistenceLayer",
    "DataRecord",
    "Execution",
    "IdempotencyConfig",
    "IdempotentHookFunction",
    "MemoryPersistenceLayer",
    "async_layer_from_url",
    "current_execution",
    "idempotent",
    "idempotent_block",
    "idempotent_function",
    "layer_from_url",
]
