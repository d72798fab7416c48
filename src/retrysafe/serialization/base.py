"""The serializer contract, and how the decorator's `output_serializer` becomes a serializer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyNoSerializationModelError

if TYPE_CHECKING:
    from collections.abc import Callable


class BaseIdempotencySerializer(ABC):
    """Turns a function's answer into a dict, and back.

    Neither method is called for the answer None.
    """

    @abstractmethod
    def to_dict(self, data: Any) -> dict[Any, Any]:
        """The answer as a dict, which may hold every type that an answer may (see docs/record-format.md).

        What it raises makes the answer one that cannot be stored.
        """

    @abstractmethod
    def from_dict(self, data: dict[Any, Any]) -> Any:
        """The answer that `to_dict` gave this dict for.

        A dict that a peer wrote holds plain JSON only. What this method raises reaches the caller as
        `IdempotencyPersistenceConsistencyError`.
        """


class BaseIdempotencyModelSerializer(BaseIdempotencySerializer):
    """A serializer for one model.

    The decorator also takes the class itself; the function's return annotation then gives the model.
    """

    @classmethod
    @abstractmethod
    def instantiate(cls, model_type: Any) -> BaseIdempotencySerializer:
        """The serializer for a function with this return annotation.

        Args:
            model_type: The annotation: the model, or `model | None`. None where there is none, or it is None.

        Raises:
            IdempotencyNoSerializationModelError: There is no annotation.
            IdempotencyModelTypeError: It is no model of this serializer's kind.
        """


def serializer_for(
    serializer: BaseIdempotencySerializer | type[BaseIdempotencyModelSerializer] | None,
    function: Callable[..., Any],
) -> BaseIdempotencySerializer | None:
    """The serializer that the option `output_serializer` asks for on this function; None for none.

    Raises:
        IdempotencyConfigError: The value is neither a serializer nor a class of model serializer.
        IdempotencyNoSerializationModelError: It is a class, and the function has no return annotation, or one
            that cannot be resolved.
        IdempotencyModelTypeError: It is a class, and the annotation is no model of its kind.
    """
    given: Any = serializer  # whatever a caller without a type checker hands in
    if given is None or isinstance(given, BaseIdempotencySerializer):
        return given
    if isinstance(given, type) and issubclass(given, BaseIdempotencyModelSerializer):
        return given.instantiate(_model_named_by(function))
    raise IdempotencyConfigError(
        "output_serializer must be a serializer, or a class of model serializer such as PydanticSerializer; "
        f"got {given!r}"
    )


def _model_named_by(function: Callable[..., Any]) -> Any:
    from retrysafe.exact.annotations import NO_ANNOTATION, return_annotation  # noqa: PLC0415  # only for a class

    try:
        annotation = return_annotation(function)
    except Exception as error:
        raise IdempotencyNoSerializationModelError(
            f"the return annotation of {getattr(function, '__qualname__', function)!r} cannot be resolved; "
            "hand output_serializer an instance made with the model",
            error,
        ) from error
    return None if annotation is NO_ANNOTATION or annotation is type(None) else annotation


def model_of(model_type: Any) -> Any:
    """The model in a return annotation: `Model`, `Model | None`, `Annotated[Model, ...]`; for `instantiate`.

    Raises:
        IdempotencyNoSerializationModelError: There is no annotation, or it is None.
    """
    from retrysafe.exact.annotations import NO_ANNOTATION, bare  # noqa: PLC0415  # only for a class

    if any(model_type is none for none in (None, type(None), NO_ANNOTATION)):
        raise IdempotencyNoSerializationModelError(
            "the output serializer takes its model from the return annotation, and the function has none"
        )
    return bare(model_type)
