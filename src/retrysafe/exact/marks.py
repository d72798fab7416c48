"""Marks: how the types of a value are written down compactly.

A mark is None for plain JSON, a tag for a type that needs nothing more, or `[tag, what it needs...]`. Marks
of the items of a container are an object by place, or a list of one mark that all items share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Mark: TypeAlias = str | list[Any] | None
ItemMarks: TypeAlias = dict[str, Any] | list[Any] | None

VERSION = 1
"""Version of the `types` text; a reader refuses any other. It changes where an old reader would misread."""


def mark(tag: str, *needs: Any) -> Mark:
    """A mark with what it needs; trailing Nones are left out."""
    count = len(needs)
    while count and needs[count - 1] is None:
        count -= 1
    return [tag, *needs[:count]] if count else tag


def of_items(marks: Sequence[Mark]) -> ItemMarks:
    """The marks of a list's items."""
    return of_entries({str(place): mark for place, mark in enumerate(marks)})


def of_entries(marks: Mapping[str, Mark]) -> ItemMarks:
    """The marks of a dict's entries, given for all of them."""
    found = {place: mark for place, mark in marks.items() if mark is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    if len(found) == len(marks) and all(mark == first for mark in found.values()):
        return [first]
    return found


def is_object(plain: Any) -> TypeGuard[dict[str, Any]]:
    """Whether this is a JSON object."""
    return isinstance(plain, dict)
