"""The serializer for pydantic models."""

from __future__ import annotations

import json
from typing import Any

from retrysafe.exceptions import IdempotencyModelTypeError
from retrysafe.serialization.base import (
    BaseIdempotencyModelSerializer,
    BaseIdempotencySerializer,
    model_of,
)

_NEEDED = "PydanticSerializer needs pydantic 2.11 or later: pip install 'retrysafe[pydantic]'"

try:
    import pydantic
except ImportError as error:
    raise ImportError(_NEEDED) from error

if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11):
    # Earlier ones cannot look for fields by their names where a model has aliases.
    raise ImportError(f"{_NEEDED}; {pydantic.VERSION} is installed")


class PydanticSerializer(BaseIdempotencyModelSerializer):
    """Stores a model as the dict that `model_dump(mode="json")` makes, and validates that into a model again.

    Fields go by their names, not their aliases, as the peer writes them. What the dump leaves out or masks (an
    excluded field, a secret) is not stored, so it is not there on replay. Without a serializer, the return
    annotation alone brings a model back with all it holds.

    Args:
        model: The pydantic model.

    Raises:
        IdempotencyModelTypeError: It is no pydantic model.
    """

    def __init__(self, model: type[pydantic.BaseModel]) -> None:
        if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel)):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers without a type checker
            raise IdempotencyModelTypeError(f"PydanticSerializer needs a pydantic model, not {model!r}")
        self.model = model

    @classmethod
    def instantiate(cls, model_type: Any) -> BaseIdempotencySerializer:
        """The serializer for a function with this return annotation; see the base class.

        Raises:
            IdempotencyNoSerializationModelError: There is no annotation.
            IdempotencyModelTypeError: It is no pydantic model.
        """
        return cls(model=model_of(model_type))

    def to_dict(self, data: Any) -> dict[str, Any]:
        """The model's dump, without computed fields: they are worked out again, and validation may refuse them."""
        return data.model_dump(mode="json", round_trip=True)

    def from_dict(self, data: dict[str, Any]) -> Any:
        """The model of this dump.

        Raises:
            pydantic.ValidationError: It is not valid.
        """
        if isinstance(data, dict) and self.model.model_computed_fields:  # pyright: ignore[reportUnnecessaryIsInstance]  # a root model's is none
            # The peer's dump has them.
            data = {name: item for name, item in data.items() if name not in self.model.model_computed_fields}
        # As JSON text, since a strict model takes a date from a string there, and only there.
        return self.model.model_validate_json(json.dumps(data), by_alias=False, by_name=True)
