"""Pydantic models: taken apart and rebuilt by the state protocol that pydantic itself pickles by.

A model's plain form is the peer's, `model_dump(mode="json")`; where that shows a field otherwise than its
mark can read, or not at all, the mark holds the field's value itself.

Imported only where a class already is a model, so pydantic is there.
"""

from __future__ import annotations

import copy
import functools
import json
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import pydantic
from pydantic_core import PydanticUndefined

from retrysafe.exact import marks, places
from retrysafe.exact.errors import UnstorableAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.exact.marks import Mark


class Encoder(Protocol):
    """What writes the values of fields; see there."""

    dumps: bool

    def encode(self, value: Any, depth: int = 0) -> tuple[Any, Mark]: ...  # noqa: D102  # see there, as all
    def at(self, place: Any, value: Any, depth: int, step: Callable[[Any], str]) -> tuple[Any, Mark]: ...  # noqa: D102
    def beside(  # noqa: D102
        self, state: dict[str, Any], depth: int, can_lack: Callable[[str], bool] | None = None
    ) -> list[Any] | None: ...
    def same(self, value: Any, shown: Any, plain: Any, mark: Mark, depth: int) -> bool: ...  # noqa: D102


class Decoder(Protocol):
    """What reads them back; see there."""

    def decode(self, plain: Any, mark: Mark) -> Any: ...  # noqa: D102
    def beside(self, rest: Any) -> dict[str, Any] | None: ...  # noqa: D102


def encode_model(encoder: Encoder, model: pydantic.BaseModel, name: str | None, depth: int) -> tuple[Any, Mark]:
    """A model as plain JSON and its mark.

    Args:
        encoder: What writes the fields.
        model: The model instance.
        name: Its class's name in a mark; None where no annotation names it, and the dump is all that is kept.
        depth: Its level of nesting.

    Raises:
        UnstorableAnswerError: A field was never set, or has no stored form.
    """
    cls = type(model)
    # Not all of __dict__: cached properties stand there too.
    fields = {field: item for field, item in model.__dict__.items() if field in cls.model_fields}
    extra = model.__pydantic_extra__ or {}
    values = {**fields, **extra}
    dumped = _dump(model) if encoder.dumps or name is None else None
    if name is None:
        return encoder.encode(values if dumped is None else dumped, depth)
    if len(fields) < len(cls.model_fields):
        raise UnstorableAnswerError(model, "has a field that was never set")
    shown = None if dumped is None else encoder.encode(dumped, depth)[0]
    plains: dict[str, Any] = {}
    item_marks: dict[str, Mark] = {}
    for field in sorted(values):
        plain, mark = _encode_field(encoder, model, field, values[field], shown, depth)
        plains[field] = plain
        if mark is not None:
            item_marks[field] = mark
    is_set = sorted(model.model_fields_set)
    rest = {
        "set": None if is_set == sorted(values) else is_set,
        "extra": sorted(extra) or None,
        "private": encoder.beside(model.__pydantic_private__ or {}, depth, functools.partial(_has_default, cls)),
    }
    rest = {what: need for what, need in rest.items() if need is not None}
    whole = marks.mark("model", name, item_marks or None, rest or None)
    if shown is None:
        return plains, whole
    # What is no object (a root model's list) has no place for the fields.
    return shown, whole if marks.is_object(shown) else ["instead", plains, whole]


def _dump(model: pydantic.BaseModel, only: set[str] | None = None) -> Any:
    """The model, or a field of it, as the peer stores it, of JSON's types only; None where pydantic cannot make it."""
    try:
        return model.model_dump(mode="json", include=only, warnings=False)
    except Exception:  # noqa: BLE001  # serializers written by the user raise anything
        return None


def _encode_field(
    encoder: Encoder, model: pydantic.BaseModel, field: str, item: Any, shown: Any, depth: int
) -> tuple[Any, Mark]:
    """A field's plain form, and its mark for what the dump shows in its place."""
    is_shown = marks.is_object(shown) and field in shown
    try:
        plain, mark = encoder.at(field, item, depth, places.attribute)
    except UnstorableAnswerError:
        # Where the whole cannot be dumped, for another field's sake (bytes that are no UTF-8), this one may be.
        alone = encoder.encode(_dump(model, {field}), depth)[0] if shown is None else shown
        if marks.is_object(alone) and field in alone and _reads_back(type(model), field, alone[field], item):
            return alone[field], "field"
        raise
    if not marks.is_object(shown) or (is_shown and encoder.same(item, shown[field], plain, mark, depth + 1)):
        return plain, mark
    # A dump of another form (a custom serializer), or none (an excluded field): the mark holds the value.
    return plain, ["instead", plain, mark]


def _has_default(cls: type[pydantic.BaseModel], private: str) -> bool:
    """Whether a private attribute can do without a stored form (a lock, a client): one that has a default."""
    declared = cls.__private_attributes__.get(private)
    return declared is not None and (declared.default is not PydanticUndefined or declared.default_factory is not None)


def decode_model(
    decoder: Decoder,
    plain: Any,
    cls: type[pydantic.BaseModel],
    item_marks: dict[str, Any],
    rest: dict[str, Any],
) -> pydantic.BaseModel:
    """The model that was written as this plain form and this mark.

    Raises:
        Exception: The two do not go together, or a field without a default has no value.
    """
    if not marks.is_object(plain):
        raise TypeError("not an object")
    fields: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for place in {**plain, **item_marks}:
        mark = item_marks.get(place)
        if place in cls.model_fields:
            fields[place] = (
                _read_field(cls, place, plain[place]) if mark == "field" else decoder.decode(plain.get(place), mark)
            )
        elif place in rest.get("extra", ()):
            extra[place] = decoder.decode(plain.get(place), mark)
        # What is neither is a computed field, or was a field when the record was written.
    is_set = set(rest["set"]) if "set" in rest else {*fields, *extra}
    return _rebuild(cls, fields, extra, decoder.beside(rest.get("private")) or {}, is_set)


def _rebuild(
    cls: type[pydantic.BaseModel],
    fields: dict[str, Any],
    extra: dict[str, Any],
    private: dict[str, Any],
    is_set: set[str],
) -> pydantic.BaseModel:
    """A model instance with this state, made without validating it.

    What was valid when it was stored is not judged again: a validator that changes its input would change it
    twice, and aliases, under which validation looks for the fields, play no part.
    """
    values: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        values[name] = fields[name] if name in fields else _default(field, values)
        if values[name] is PydanticUndefined:
            raise ValueError(f"no value for the field {name!r} of {cls.__qualname__}")
    attributes = {
        name: private[name] if name in private else _default(declared, values)
        for name, declared in cls.__private_attributes__.items()
    }
    made = cls.__new__(cls)
    # The base class's own: a model may make something else of being unpickled.
    pydantic.BaseModel.__setstate__(
        made,
        {
            "__dict__": values,
            "__pydantic_extra__": extra if cls.model_config.get("extra") == "allow" else None,
            "__pydantic_fields_set__": is_set,
            "__pydantic_private__": {name: item for name, item in attributes.items() if item is not PydanticUndefined}
            if attributes
            else None,
        },
    )
    return made


def _default(declared: Any, values: dict[str, Any]) -> Any:
    """The default of a field or private attribute; PydanticUndefined where it has none.

    Not by its own `get_default`, whose parameters differ from version to version.
    """
    if declared.default_factory is None:
        return copy.deepcopy(declared.default)
    if getattr(declared, "default_factory_takes_validated_data", False):
        return declared.default_factory(values)
    return declared.default_factory()


@functools.lru_cache(maxsize=256)
def _adapter(cls: type[pydantic.BaseModel], name: str) -> pydantic.TypeAdapter[Any]:
    field = cls.model_fields[name]
    hint: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return pydantic.TypeAdapter(hint)


def _read_field(cls: type[pydantic.BaseModel], name: str, dumped: Any) -> Any:
    """A field of a type that only pydantic knows (a URL, an IP address), read from its own dump."""
    return _adapter(cls, name).validate_json(json.dumps(dumped))


def _reads_back(cls: type[pydantic.BaseModel], name: str, dumped: Any, value: Any) -> bool:
    """Whether `_read_field` gives this very value; it does not for a secret, which is dumped as asterisks."""
    try:
        back = _read_field(cls, name, dumped)
        return type(back) is type(value) and bool(back == value)
    except Exception:  # noqa: BLE001  # validators written by the user raise anything
        return False
