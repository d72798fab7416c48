"""The serializer that changes nothing."""

from __future__ import annotations

from typing import Any

from retrysafe.serialization.base import BaseIdempotencySerializer


class NoOpSerializer(BaseIdempotencySerializer):
    """Hands answers on as they are; the same as no serializer."""

    def to_dict(self, data: Any) -> Any:
        """The answer itself, of whatever type."""
        return data

    def from_dict(self, data: Any) -> Any:
        """What was stored, as it came back."""
        return data
