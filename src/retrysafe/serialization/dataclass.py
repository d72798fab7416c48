"""The serializer for dataclasses."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, get_args, get_origin

from retrysafe.exact.annotations import bare, class_hints, is_typed_dict, is_union, named_by
from retrysafe.exact.classes import kind_of, rebuild_dataclass
from retrysafe.exact.encode import Encoder
from retrysafe.exceptions import IdempotencyModelTypeError
from retrysafe.serialization.base import BaseIdempotencyModelSerializer, model_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class DataclassSerializer(BaseIdempotencyModelSerializer):
    """Stores a dataclass as the dict of its fields, and makes instances of it again.

    Nested dataclasses come back, too, where an annotation that can be resolved names them: as a field, in a
    list, tuple or dict, in a union. Instances are rebuilt from their fields without `__init__` and
    `__post_init__`, which have run before; but see `from_peers_dict`. What an instance holds beside its fields is
    not stored, nor is its class: of a union it becomes the first member that has its fields, and where an
    annotation names a base class, that class, or a dict if it has other fields. Without a serializer, the return
    annotation alone brings a dataclass back as it was.

    Args:
        model: The dataclass; a generic one may have its parameters (`Page[Order]`).

    Raises:
        IdempotencyModelTypeError: It is no dataclass.
    """

    def __init__(self, model: type[Any]) -> None:
        if _dataclass_in(model) is None:
            raise IdempotencyModelTypeError(f"DataclassSerializer needs a dataclass, not {model!r}")
        self.model = model

    @classmethod
    def instantiate(cls, model_type: Any) -> DataclassSerializer:
        """The serializer for a function with this return annotation; see the base class.

        Raises:
            IdempotencyNoSerializationModelError: There is no annotation.
            IdempotencyModelTypeError: It is no dataclass.
        """
        return cls(model=model_of(model_type))

    def to_dict(self, data: Any) -> dict[str, Any]:
        """The fields by name, nested dataclasses as dicts."""
        return dataclasses.asdict(data)

    def from_dict(self, data: dict[str, Any]) -> Any:
        """An instance of the model with these fields; or the one that was stored without a serializer.

        Raises:
            TypeError: `data` is no dict.
            ValueError: A field without a default has no value.
        """
        if isinstance(data, get_origin(self.model) or self.model):
            return data
        if not _is_dict(data):  # whatever a record holds
            raise TypeError(f"the fields of {self.model!r} come as a dict, not as {type(data).__name__}")
        return _rebuilt(data, self.model, {})

    def from_peers_dict(self, data: dict[str, Any]) -> Any:
        """The same for fields as a peer stores them, in plain JSON, where nothing tells their types.

        The peer hands them to the class, so that its `__post_init__` may make Decimals of strings again. So do we,
        unless it makes other fields of them than were stored, such as a fee added again.

        Raises:
            TypeError: `data` is no dict.
            ValueError: A field without a default has no value.
        """
        rebuilt = self.from_dict(data)
        cls = _dataclass_in(self.model)
        is_overridden = type(self).from_dict is not DataclassSerializer.from_dict
        if is_overridden or cls is None or (cls.__dataclass_params__.init and not hasattr(cls, "__post_init__")):
            return rebuilt
        try:
            made = cls(**data)
            is_as_stored = self._json_of(dataclasses.asdict(made)) == self._json_of(data)
        except Exception:  # noqa: BLE001  # the class is the user's, and may not take what it once made
            return rebuilt
        if not is_as_stored:
            return rebuilt
        for name, item in data.items():
            if getattr(made, name, None) is item:  # nested dataclasses, where it leaves them as dicts
                object.__setattr__(made, name, getattr(rebuilt, name))
        return made

    def _json_of(self, value: Any) -> Any:
        plain, _ = Encoder(lambda: named_by([self.model])).encode(value)
        return plain


def _dataclass_in(hint: Any) -> type[Any] | None:
    """The dataclass that this annotation is, with or without parameters; None where it is none."""
    cls = get_origin(hint) or hint
    return cls if isinstance(cls, type) and kind_of(cls) == "dataclass" else None


@functools.lru_cache(maxsize=256)
def _hints_of(cls: type) -> dict[str, Any]:
    return class_hints(cls)


def _rebuilt(value: Any, hint: Any, bound: Mapping[Any, Any]) -> Any:
    """The value with every dict that an annotation calls a dataclass made into one. All else stays as it is.

    Args:
        value: What was stored.
        hint: The resolved annotation of its place.
        bound: What the parameters of the generic dataclass around it stand for.
    """
    hint = bare(hint)
    if isinstance(hint, TypeVar):
        return _rebuilt(value, bound[hint], {}) if hint in bound else value
    if is_union(hint):
        return _of_union(value, get_args(hint), bound)
    if _is_dict(value):
        return _of_dict(value, hint, bound)
    if _is_sequence(value):
        return _of_sequence(value, hint, bound)
    return value


def _is_dict(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)


def _is_sequence(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple))


def _of_dict(value: dict[Any, Any], hint: Any, bound: Mapping[Any, Any]) -> Any:
    cls = _dataclass_in(hint)
    # Looked up here, as the names are those of the class around; inside, they are those of this one.
    arguments = [
        bound.get(argument, argument) if isinstance(argument, TypeVar) else argument for argument in get_args(hint)
    ]
    if cls is not None or is_typed_dict(hint):
        inner = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        named: type = cls or hint
        hints = _hints_of(named)
        fields = {name: _rebuilt(item, hints.get(name), inner) for name, item in value.items()}
        return fields if cls is None else rebuild_dataclass(cls, fields)
    if len(arguments) == 2:  # noqa: PLR2004  # a mapping's: of its keys, of its values
        return {key: _rebuilt(item, arguments[1], bound) for key, item in value.items()}
    return value


def _of_sequence(value: list[Any] | tuple[Any, ...], hint: Any, bound: Mapping[Any, Any]) -> Any:
    cls: Any = type(value)
    if kind_of(cls) == "namedtuple":
        own = _hints_of(cls)
        return cls._make(_rebuilt(item, own.get(name), bound) for name, item in zip(cls._fields, value, strict=True))
    hints = get_args(hint)
    if not hints:
        return value
    if get_origin(hint) is not tuple or hints[-1] is ... or len(hints) != len(value):
        hints = (hints[0],) * len(value)
    return cls(_rebuilt(item, each, bound) for item, each in zip(value, hints, strict=True))


def _of_union(value: Any, members: tuple[Any, ...], bound: Mapping[Any, Any]) -> Any:
    """The value as the first member that makes something of it, a dataclass with just these fields first."""
    for exactly in (True, False):
        for member in members:
            cls = _dataclass_in(bare(member))
            if cls is not None and not _fits(value, cls, exactly=exactly):
                continue
            try:
                made = _rebuilt(value, member, bound)
            except (TypeError, ValueError):
                continue
            if made is not value:
                return made
    return value


def _fits(value: Any, cls: type[Any], *, exactly: bool) -> bool:
    """Whether the value is a dict of this dataclass's fields: of all, or at least of those it needs."""
    if not _is_dict(value):
        return False
    given = set(value)
    fields = dataclasses.fields(cls)
    names = {field.name for field in fields}
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    return given == names if exactly else needed <= given <= names
