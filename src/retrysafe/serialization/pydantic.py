"""The serializer for pydantic models."""

from __future__ import annotations

import functools
import json
from typing import Any

from retrysafe.exceptions import IdempotencyModelTypeError
from retrysafe.schemas import shows_aliases
from retrysafe.serialization.base import BaseIdempotencyModelSerializer, model_of

_NEEDED = "PydanticSerializer needs pydantic 2.11 or later: pip install 'retrysafe[pydantic]'"

try:
    import pydantic
    from pydantic_core import InitErrorDetails, PydanticCustomError
except ImportError as error:
    raise ImportError(_NEEDED) from error

if tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 11):
    # Earlier ones cannot look for fields by their names where a model has aliases.
    raise ImportError(f"{_NEEDED}; {pydantic.VERSION} is installed")


class PydanticSerializer(BaseIdempotencyModelSerializer):
    """Stores a model as the dict that `model_dump(mode="json")` makes, and validates that into a model again.

    Fields go by their names, as the peer writes them; by their aliases where a model is configured with
    `serialize_by_alias`, unless it would not take these when validated. What the dump leaves out or masks
    (an excluded field, a secret) is not stored, so it is not there on replay. Without a serializer, the
    return annotation alone brings a model back with all it holds.

    Args:
        model: The pydantic model.

    Raises:
        IdempotencyModelTypeError: It is no pydantic model.
    """

    def __init__(self, model: type[pydantic.BaseModel]) -> None:
        given: Any = model  # whatever a caller without a type checker hands in
        if not (isinstance(given, type) and issubclass(given, pydantic.BaseModel)):
            raise IdempotencyModelTypeError(f"PydanticSerializer needs a pydantic model, not {model!r}")
        self.model = model

    @classmethod
    def instantiate(cls, model_type: Any) -> PydanticSerializer:
        """The serializer for a function with this return annotation; see the base class.

        Raises:
            IdempotencyNoSerializationModelError: There is no annotation.
            IdempotencyModelTypeError: It is no pydantic model.
        """
        return cls(model=model_of(model_type))

    def to_dict(self, data: Any) -> dict[str, Any]:
        """The model's dump, without computed fields: validation works them out again, or refuses them."""
        dumped = _dump(data)
        # An alias may be one for dumps alone, under which no validation finds the field: nor would the peer.
        return _dump(data, by_alias=False) if self._has_aliases() and not self._can_read(dumped) else dumped

    def _can_read(self, dumped: dict[str, Any]) -> bool:
        try:
            return _dump(self._validated(dumped)) == dumped
        except Exception:  # noqa: BLE001  # validators written by the user raise anything
            return False

    def _has_aliases(self) -> bool:
        """Whether aliases may stand in a dump, so that validation has to look for them."""
        # Its schema may wait for its first use. None is told where there was nothing to do.
        return self.model.model_rebuild(raise_errors=False) is not False and _shows_aliases(self.model)

    def from_dict(self, data: dict[str, Any]) -> Any:
        """The model of this dump; or the model itself, as it is read back where it was stored without a serializer.

        Raises:
            pydantic.ValidationError: It is not valid. The error tells where and of which type, and not what was stored.
        """
        stored: Any = data
        if isinstance(stored, self.model):
            return stored
        try:
            return self._validated(data)
        except pydantic.ValidationError as error:
            without_values = _without_values(error)
        raise without_values  # out here, or the one with them would be its context

    def _validated(self, data: dict[str, Any]) -> Any:
        computed = self.model.model_computed_fields
        if computed:
            # The peer's dump has them.
            data = {name: item for name, item in data.items() if name not in computed}
        by_alias = self._has_aliases()
        try:
            # As JSON text, since a strict model takes a date from a string there, and only there.
            return self.model.model_validate_json(json.dumps(data), by_alias=by_alias, by_name=True)
        except ValueError as error:
            if not _is_about_the_text(error):
                raise
        return self.model.model_validate(data, by_alias=by_alias, by_name=True)


def _dump(model: pydantic.BaseModel, by_alias: bool | None = None) -> dict[str, Any]:
    return model.model_dump(mode="json", round_trip=True, by_alias=by_alias)


@functools.lru_cache(maxsize=256)
def _shows_aliases(model: type[pydantic.BaseModel]) -> bool:
    return shows_aliases(model.__pydantic_core_schema__)


def _without_values(error: pydantic.ValidationError) -> pydantic.ValidationError:
    details: list[InitErrorDetails] = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        kind: Any = each["type"]
        # Its own message may quote a value too, as those of validators do.
        message = PydanticCustomError(kind, "The stored value is not valid, and not shown")
        details.append(InitErrorDetails(type=message, loc=each["loc"], input=None))
    return pydantic.ValidationError.from_exception_data(error.title, details, hide_input=True)


def _is_about_the_text(error: ValueError) -> bool:
    """Whether the text failed and not the model: pydantic reads no half of a surrogate, Python writes no long int."""
    if not isinstance(error, pydantic.ValidationError):
        return True
    [first, *_] = error.errors(include_url=False, include_context=False, include_input=False)
    return first["type"] == "json_invalid" and not first["loc"]
