"""From plain JSON and its marks to the value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from retrysafe.exact.classes import rebuild_dataclass, rebuild_namedtuple
from retrysafe.exact.marks import is_object
from retrysafe.exact.scalars import MOMENT_READERS, READERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.exact.annotations import NamedClasses
    from retrysafe.exact.marks import ItemMarks, Mark


class Decoder:
    """Reads values back.

    Args:
        named: Gives the classes that may be restored; asked only where a mark names one.
    """

    def __init__(self, named: Callable[[], NamedClasses]) -> None:
        self._named = named

    def decode(self, plain: Any, mark: Mark) -> Any:
        """The value that was written as this JSON value and this mark.

        A class that no annotation names any longer gives what a peer would give: a dataclass or model a dict,
        an enum its value, a NamedTuple a tuple.

        Raises:
            Exception: The two do not go together, or the mark is none that is known.
        """
        if mark is None:
            return plain
        tag, needs = (mark, []) if isinstance(mark, str) else (mark[0], mark[1:])
        if tag in READERS:
            return READERS[tag](_text(plain))
        if tag in MOMENT_READERS:
            return MOMENT_READERS[tag](_text(plain), *(needs or [{}]))
        if tag not in self._CONTAINERS:
            raise ValueError(f"unknown type {tag!r}")
        return self._CONTAINERS[tag](self, plain, *needs)

    def _items(self, plain: Any, marks: ItemMarks) -> list[Any]:
        if not isinstance(plain, list):
            raise TypeError("not a list")
        items: list[Any] = [*plain]
        if isinstance(marks, list):
            [each] = marks
            for place, item in enumerate(items):
                items[place] = self.decode(item, each)
        elif marks is not None:
            for name, mark in marks.items():
                items[int(name)] = self.decode(items[int(name)], mark)
        return items

    def _entries(self, plain: Any, marks: ItemMarks) -> dict[str, Any]:
        if not is_object(plain):
            raise TypeError("not an object")
        entries = dict(plain)
        if isinstance(marks, list):
            [each] = marks
            for name, item in plain.items():
                entries[name] = self.decode(item, each)
        elif marks is not None:
            for name, mark in marks.items():
                entries[name] = self.decode(entries[name], mark)
        return entries

    def _list(self, plain: Any, marks: ItemMarks = None) -> list[Any]:
        return self._items(plain, marks)

    def _tuple(self, plain: Any, marks: ItemMarks = None) -> tuple[Any, ...]:
        return tuple(self._items(plain, marks))

    def _set(self, plain: Any, marks: ItemMarks = None) -> Any:
        return _hashed(set, self._items(plain, marks))

    def _frozenset(self, plain: Any, marks: ItemMarks = None) -> Any:
        return _hashed(frozenset, self._items(plain, marks))

    def _dict(self, plain: Any, marks: ItemMarks = None, key_marks: ItemMarks = None) -> dict[Any, Any]:
        entries = self._entries(plain, marks)
        if key_marks is None:
            return entries
        if isinstance(key_marks, list):
            [each] = key_marks
            return {self.decode(name, each): item for name, item in entries.items()}
        return {self.decode(name, key_marks.get(name)): item for name, item in entries.items()}

    def _pairs(self, plain: Any, marks: ItemMarks = None) -> Any:
        return _hashed(dict, [(key, item) for key, item in self._items(plain, marks)])

    def _str(self, plain: Any, pieces: list[str]) -> str:
        _text(plain)
        return "".join(pieces)

    def _via(self, plain: Any, first: Mark, then: Mark) -> Any:
        return self.decode(self.decode(plain, first), then)

    def _instead(self, _: Any, plain: Any, mark: Mark = None) -> Any:
        return self.decode(plain, mark)

    def _enum(self, plain: Any, name: str) -> Any:
        cls = self._named().get(name, "enum")
        return plain if cls is None else cls(plain)

    def _member(self, plain: Any, name: str, member: str) -> Any:
        cls = self._named().get(name, "enum")
        return plain if cls is None else cls[member]

    def beside(self, rest: Any) -> dict[str, Any] | None:
        """Attributes that are no fields, which the mark holds."""
        return None if rest is None else self.decode(*rest)

    def _namedtuple(self, plain: Any, name: str, marks: ItemMarks = None, rest: Any = None) -> Any:
        values = self._items(plain, marks)
        cls = self._named().get(name, "namedtuple")
        return tuple(values) if cls is None else rebuild_namedtuple(cls, values, self.beside(rest))

    def _dataclass(self, plain: Any, name: str, marks: ItemMarks = None, rest: Any = None) -> Any:
        values = self._entries(plain, marks)
        cls = self._named().get(name, "dataclass")
        return values if cls is None else rebuild_dataclass(cls, values, self.beside(rest))

    def _model(
        self, plain: Any, name: str, marks: dict[str, Any] | None = None, rest: dict[str, Any] | None = None
    ) -> Any:
        cls = self._named().get(name, "model")
        if cls is None:
            return plain
        from retrysafe.exact.models import decode_model  # noqa: PLC0415  # imports pydantic

        return decode_model(self, plain, cls, marks or {}, rest or {})

    _CONTAINERS: ClassVar[dict[str, Callable[..., Any]]] = {
        "list": _list,
        "tuple": _tuple,
        "set": _set,
        "frozenset": _frozenset,
        "dict": _dict,
        "pairs": _pairs,
        "str": _str,
        "via": _via,
        "instead": _instead,
        "enum": _enum,
        "member": _member,
        "namedtuple": _namedtuple,
        "dataclass": _dataclass,
        "model": _model,
    }


def _hashed(make: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """The set or dict of these items, or the items, where one of them came back as a dict and has no hash."""
    try:
        return make(items)
    except TypeError:
        return items


def _text(plain: Any) -> str:
    if not isinstance(plain, str):
        raise TypeError("not a text")
    return plain
