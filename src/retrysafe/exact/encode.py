"""From a value to plain JSON and its marks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from retrysafe.exact import marks, places
from retrysafe.exact.classes import class_of, dataclass_fields, kind_of, state_beside
from retrysafe.exact.decode import Decoder
from retrysafe.exact.errors import TooDeepError, UnstorableAnswerError, type_name
from retrysafe.exact.scalars import (
    MOMENTS,
    TEXTS,
    encode_float,
    encode_int,
    encode_scalar,
    encode_str,
    float_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retrysafe.exact.annotations import NamedClasses
    from retrysafe.exact.marks import Mark

MAX_DEPTH: Final = 100
"""Levels of nesting. Each takes a few frames of Python's stack; reading back takes no more than writing."""


class Encoder:
    """Writes one value.

    Args:
        named: Gives the classes that may be restored; asked only where the value holds an instance of one.
        dumps: Whether a model's plain form is its dump; else it is made of its fields, which is enough to compare.

    Attributes:
        plain: After `encode`: names of classes whose instances come back as plain values.
    """

    def __init__(self, named: Callable[[], NamedClasses], *, dumps: bool = True) -> None:
        self._named = named
        self.dumps = dumps
        self.plain: dict[str, None] = {}

    def encode(self, value: Any, depth: int = 0) -> tuple[Any, Mark]:
        """The value as JSON and mark.

        Raises:
            UnstorableAnswerError: Something in it has no stored form.
        """
        if depth > MAX_DEPTH:
            raise TooDeepError(value, f"is nested more than {MAX_DEPTH} levels deep, or contains itself")
        kind = class_of(value)
        if value is None or kind is bool:
            return value, None
        write = self._WRITERS.get(kind)
        if write is not None:
            return write(self, value, depth)
        if kind in TEXTS or kind in MOMENTS:
            return self._scalar(value, kind)
        return self._instance(value, kind, depth)

    def _str(self, value: str, _: int) -> tuple[Any, Mark]:
        return encode_str(value)

    def _int(self, value: int, _: int) -> tuple[Any, Mark]:
        return encode_int(value)

    def _float(self, value: float, _: int) -> tuple[Any, Mark]:
        return encode_float(value)

    def _scalar(self, value: Any, cls: type) -> tuple[Any, Mark]:
        plain, mark, forgotten = encode_scalar(value, cls)
        self.plain.update(dict.fromkeys(forgotten))
        return plain, mark

    def at(self, place: Any, value: Any, depth: int, step: Callable[[Any], str]) -> tuple[Any, Mark]:
        """The value one level further in; `step` words the place, which only an error needs."""
        try:
            return self.encode(value, depth + 1)
        except UnstorableAnswerError as error:
            error.inside(step(place))
            raise

    def _items(self, value: Iterable[Any], depth: int) -> tuple[list[Any], list[Mark]]:
        plains: list[Any] = []
        item_marks: list[Mark] = []
        for place, item in enumerate(value):
            plain, mark = self.at(place, item, depth, places.index)
            plains.append(plain)
            item_marks.append(mark)
        return plains, item_marks

    def _attributes(
        self, values: dict[str, Any], depth: int, can_lack: Callable[[str], bool] | None = None
    ) -> tuple[dict[str, Any], marks.ItemMarks]:
        plains: dict[str, Any] = {}
        item_marks: dict[str, Mark] = {}
        for name in sorted(values):
            plain_before = None if can_lack is None else dict(self.plain)
            try:
                plains[name], item_marks[name] = self.at(name, values[name], depth, places.attribute)
            except TooDeepError:
                raise
            except UnstorableAnswerError:
                if can_lack is None or plain_before is None or not can_lack(name):
                    raise
                self.plain = plain_before
        return plains, marks.of_entries(item_marks)

    def _list(self, value: list[Any], depth: int) -> tuple[Any, Mark]:
        plains, item_marks = self._items(value, depth)
        return plains, _if_any("list", marks.of_items(item_marks))

    def _tuple(self, value: tuple[Any, ...], depth: int) -> tuple[Any, Mark]:
        plains, item_marks = self._items(value, depth)
        return plains, marks.mark("tuple", marks.of_items(item_marks))

    def _set(self, value: set[Any] | frozenset[Any], depth: int) -> tuple[Any, Mark]:
        items = (self.at("*", item, depth, places.index) for item in value)
        # Sorted by their text, so that equal sets are stored equally.
        ordered = sorted(items, key=lambda item: (_text_of(item[0]), _text_of(item[1])))
        tag = "set" if isinstance(value, set) else "frozenset"
        item_marks = marks.of_items([mark for _, mark in ordered])
        return [plain for plain, _ in ordered], marks.mark(tag, item_marks)

    def _dict(self, value: dict[Any, Any], depth: int) -> tuple[Any, Mark]:
        keys: dict[str, Any] = {}
        key_marks: dict[str, Mark] = {}
        for key in value:
            text, mark = (key, None) if type(key) is str and key.isascii() else self._key(key, depth)
            if text is None or text in keys:
                return self._pairs(value, depth)
            keys[text], key_marks[text] = key, mark
        # As the peer sorts them: by the keys themselves. It cannot store a dict whose keys do not compare.
        comparable = any(all(isinstance(key, kind) for key in value) for kind in (str, (int, float)))
        plains: dict[str, Any] = {}
        item_marks: dict[str, Mark] = {}
        for text in sorted(keys, key=keys.__getitem__ if comparable else None):
            key = keys[text]
            plains[text], item_marks[text] = self.at(key, value[key], depth, places.key)
        return plains, _if_any("dict", marks.of_entries(item_marks), marks.of_entries(key_marks))

    def _key(self, key: Any, depth: int) -> tuple[str | None, Mark]:
        """A key as the text that the peer writes, or would; None for one that is no single value."""
        plain, mark = self.at(key, key, depth, places.key)
        if isinstance(plain, str):
            return plain, mark
        if plain is None:
            text, tag = "null", "None"
        elif isinstance(plain, bool):
            text, tag = ("true" if plain else "false"), "bool"
        elif isinstance(plain, int):
            text, tag = str(plain), "int"
        elif isinstance(plain, float):
            text, tag = float_text(plain), "float"
        else:
            return None, None
        return text, (tag if mark is None else marks.mark("via", tag, mark))

    def _pairs(self, value: dict[Any, Any], depth: int) -> tuple[Any, Mark]:
        plains: list[Any] = []
        pair_marks: list[Mark] = []
        for key, item in value.items():
            key_plain, key_mark = self.at(key, key, depth, places.key)
            plain, mark = self.at(key, item, depth, places.key)
            plains.append([key_plain, plain])
            pair_marks.append(_if_any("list", marks.of_items([key_mark, mark])))
        return plains, marks.mark("pairs", marks.of_items(pair_marks))

    def _instance(self, value: Any, cls: type, depth: int) -> tuple[Any, Mark]:
        kind = kind_of(cls)
        if kind is not None:
            name = self._named().name_of(cls)
            if name is None:
                self.plain[type_name(cls)] = None
            return self._KINDS[kind](self, value, name, depth)
        for base in cls.__mro__:
            if base in _BASES or base in TEXTS or base in MOMENTS:
                self.plain[type_name(cls)] = None
                if base not in _BASES:
                    return self._scalar(value, base)
                return self.encode(_BASES[base](value), depth)
        raise UnstorableAnswerError(value)

    def _enum(self, value: Any, name: str | None, depth: int) -> tuple[Any, Mark]:
        # As the peer stores it: a member that is a text or a number as that, even where its `value` is something else.
        base = next((base for base in (str, int, float) if base in class_of(value).__mro__), None)
        content: Any = value._value_ if base is None else _BASES[base](value)
        if name is None:
            return self.at("value", content, depth, places.attribute)
        if type(value._value_) in (str, int) and value._value_ == content:
            plain, mark = self.encode(value._value_, depth)
            if mark is None:
                return plain, marks.mark("enum", name)
        # By its name, for a value that a copy of it would not be found by (nan), or that has no stored form.
        if class_of(value).__members__.get(value._name_) is not value:
            raise UnstorableAnswerError(value, "is a member without a name of its own")
        try:
            plain, _ = Encoder(self._named).encode(content, depth)
        except UnstorableAnswerError:
            plain = value._name_
        return plain, marks.mark("member", name, value._name_)

    def _namedtuple(self, value: Any, name: str | None, depth: int) -> tuple[Any, Mark]:
        if name is None:
            return self._tuple(tuple(value), depth)
        fields: dict[str, Any] = dict(zip(value._fields, value, strict=True))
        plains = [self.at(field, item, depth, places.attribute) for field, item in fields.items()]
        item_marks = marks.of_items([mark for _, mark in plains])
        rest = self.beside(state_beside(value, ()), depth)
        return [plain for plain, _ in plains], marks.mark("namedtuple", name, item_marks, rest)

    def _dataclass(self, value: Any, name: str | None, depth: int) -> tuple[Any, Mark]:
        cls = class_of(value)
        try:
            fields = dataclass_fields(value)
        except AttributeError as error:
            raise UnstorableAnswerError(value, "has a field that was never set") from error
        plains, item_marks = self._attributes(fields, depth)
        if name is None:
            return plains, _if_any("dict", item_marks)
        try:
            object.__new__(cls)
        except TypeError as error:
            raise UnstorableAnswerError(value, "is built on a class of Python's own and cannot be rebuilt") from error
        rest = self.beside(state_beside(value, fields), depth)
        return plains, marks.mark("dataclass", name, item_marks, rest)

    def beside(
        self, state: dict[str, Any], depth: int, can_lack: Callable[[str], bool] | None = None
    ) -> list[Any] | None:
        """Attributes that are no fields, for the mark to hold; `can_lack` tells those that need no stored form."""
        plains, item_marks = self._attributes(state, depth, can_lack)
        return [plains, _if_any("dict", item_marks)] if plains else None

    def _model(self, value: Any, name: str | None, depth: int) -> tuple[Any, Mark]:
        from retrysafe.exact.models import encode_model  # noqa: PLC0415  # imports pydantic

        return encode_model(self, value, name, depth)

    def same(self, value: Any, shown: Any, plain: Any, mark: Mark, depth: int) -> bool:
        """Whether the mark makes the same value of `shown` as of the plain form that it was made with."""
        if _text_of(shown) == _text_of(plain):
            return True
        if mark is None:
            return False
        try:
            back = Decoder(self._named).decode(shown, mark)
            # Without dumps, which would ask this again of all models inside, once more at each level.
            texts = [_text_of(Encoder(self._named, dumps=False).encode(each, depth)) for each in (value, back)]
        except Exception:  # noqa: BLE001  # whatever goes wrong says no
            return False
        return texts[0] == texts[1]

    _WRITERS: ClassVar[dict[type, Callable[[Encoder, Any, int], tuple[Any, Mark]]]] = {
        str: _str,
        int: _int,
        float: _float,
        list: _list,
        dict: _dict,
        tuple: _tuple,
        set: _set,
        frozenset: _set,
    }

    _KINDS: ClassVar[dict[str, Callable[[Encoder, Any, str | None, int], tuple[Any, Mark]]]] = {
        "enum": _enum,
        "namedtuple": _namedtuple,
        "dataclass": _dataclass,
        "model": _model,
    }


def _if_any(tag: str, *needs: Any) -> Mark:
    """The mark of a type that JSON has: only where something in it needs one."""
    return None if all(need is None for need in needs) else marks.mark(tag, *needs)


def _text_of(plain: Any) -> str:
    return json.dumps(plain, sort_keys=True)


_BASES: Final[dict[type, Callable[[Any], Any]]] = {
    # The base classes' own methods, which a subclass cannot turn into something else.
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    list: list,
    dict: dict,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
}
