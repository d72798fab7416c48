"""What a serializer of one's own finds its model with, under the name that it has in Powertools."""

from __future__ import annotations

from typing import Any

from retrysafe.exact.annotations import bare, is_union
from retrysafe.exceptions import IdempotencyModelTypeError


def get_actual_type(model_type: Any) -> Any:
    """The model in a return annotation: `Model` of `Model | None` and of `Annotated[Model, ...]`; else as it is.

    Raises:
        IdempotencyModelTypeError: It leaves a choice of models.
    """
    model = bare(model_type)
    if is_union(model):
        raise IdempotencyModelTypeError(f"the return annotation {model_type!r} names more than one model")
    return model
