"""The hook that may change a replayed answer before the caller gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord


class IdempotentHookFunction(Protocol):
    """A callable `hook(response, idempotent_data)`; what it returns is what the caller gets.

    It is called on replay only, never on the first run.
    """

    def __call__(self, response: Any, idempotent_data: DataRecord, /) -> Any:
        """Take the stored answer and its record, and return the answer to give."""
        ...
