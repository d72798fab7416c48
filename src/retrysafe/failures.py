"""Failures: how an exception named in `replay_exceptions` becomes stored text and is raised again.

The class is found by its place in `replay_exceptions`, never by importing what a record names. An instance of
a subclass of a listed class is replayed as the listed class, since nothing names the subclass. Arguments and
attributes come back as they would in an answer, and the text of the failure is the same. Attributes without a
stored form are left out, and so are the traceback, the cause and the context.
"""

from __future__ import annotations

import json
from types import BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from retrysafe.answers import AnswerCodec
from retrysafe.exact.errors import UnstorableAnswerError
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError

if TYPE_CHECKING:
    from retrysafe.answers import StoredAnswer

_ROOT = "failure"
"""What the places that an error names lie in."""


def encode_failure(error: BaseException, replay_exceptions: tuple[type[BaseException], ...]) -> StoredAnswer:
    """The failure as it is stored; `data` is a JSON object with class, index, message, args and state.

    Args:
        error: What the function raised.
        replay_exceptions: The classes whose failures are stored. The error's own class counts first, then the
            first of its bases.

    Raises:
        UnstorableAnswerError: The error is an instance of none of them, its arguments have no stored form, or
            what would come back does not read the same. Nothing else is ever raised.
    """
    exact = (index for index, cls in enumerate(replay_exceptions) if cls is type(error))
    bases = (index for index, cls in enumerate(replay_exceptions) if isinstance(error, cls))
    index = next(exact, next(bases, None))
    if index is None:
        raise UnstorableAnswerError(error, "is not named in replay_exceptions", root=_ROOT)
    try:
        return _encode_as(replay_exceptions[index], index, error, replay_exceptions)
    except UnstorableAnswerError as unstorable:
        unstorable.root = _ROOT
        raise
    except Exception as raised:  # a property or a method of the user's class
        raise UnstorableAnswerError(
            error, f"cannot be looked through ({type(raised).__name__})", root=_ROOT
        ) from raised


def _encode_as(
    cls: type[BaseException],
    index: int,
    error: BaseException,
    replay_exceptions: tuple[type[BaseException], ...],
) -> StoredAnswer:
    codec = AnswerCodec(return_type=cls)
    message = str(error)
    args, state = _take_apart(error)
    told = {
        "args": args,
        "class": cls.__qualname__,
        "index": index,
        "message": message,
        "state": {name: item for name, item in state.items() if _is_storable(codec, item)},
    }
    # A subclass may word its arguments in its own way, or have arguments of its own: the listed class then
    # gets the words alone.
    for wording in [args] if cls is type(error) else [args, [message]]:
        try:
            stored = codec.encode({**told, "args": wording})
        except UnstorableAnswerError:
            if wording is args and cls is not type(error):
                continue
            raise
        back = decode_failure(stored.data, stored.types, replay_exceptions)
        if back is not None and str(back) == message:
            return stored
    raise UnstorableAnswerError(error, "would not come back with the same text")


def decode_failure(data: str, types: str, replay_exceptions: tuple[type[BaseException], ...]) -> BaseException | None:
    """The failure that was stored as these two texts; None where it cannot be rebuilt.

    That is so where none of `replay_exceptions`, or more than one, has the stored class's qualified name.

    Raises:
        IdempotencyPersistenceConsistencyError: The texts cannot be read.
    """
    cls = _class_of(data, replay_exceptions)
    if cls is None:
        return None
    told = AnswerCodec(return_type=cls).decode(data, types)
    try:
        args, state = list(told["args"]), dict(told["state"])
    except (TypeError, KeyError, ValueError) as error:
        raise IdempotencyPersistenceConsistencyError("the stored failure cannot be read") from error
    try:
        return _rebuild(cls, args, state)
    except Exception:  # noqa: BLE001  # the class is another than it was, in whatever way
        return None


def _class_of(data: str, replay_exceptions: tuple[type[BaseException], ...]) -> type[BaseException] | None:
    try:
        told = json.loads(data)
        name, index = told["class"], told["index"]
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise IdempotencyPersistenceConsistencyError("the stored failure cannot be read") from error
    named = [place for place, cls in enumerate(replay_exceptions) if cls.__qualname__ == name]
    if isinstance(index, int) and index in named:
        return replay_exceptions[index]
    return replay_exceptions[named[0]] if len(named) == 1 else None


def _is_storable(codec: AnswerCodec, item: Any) -> bool:
    try:
        codec.encode(item)
    except UnstorableAnswerError:
        return False
    return True


def _take_apart(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """Arguments and attributes.

    Not plainly `error.args`: an OSError keeps its file names elsewhere, and Python's own part of the class
    knows.
    """
    _, args, *more = _own_of_python(type(error), "__reduce__", MethodDescriptorType)(error)
    from retrysafe.exact.classes import instance_state  # noqa: PLC0415  # imports dataclasses; rarely needed

    attributes: Any = more[0] if more else None
    return [*args], {**instance_state(error), **(attributes or {})}


def _rebuild(cls: type[BaseException], args: list[Any], state: dict[str, Any]) -> BaseException:
    """An instance made by Python's own part of the class alone.

    The arguments are what the class's `__init__` handed on. Called with them again it would word its message
    twice, or ask for keywords that are no longer known.
    """
    made: BaseException = _own_of_python(cls, "__new__", BuiltinFunctionType)(cls, *args)
    _own_of_python(cls, "__init__", WrapperDescriptorType)(made, *args)
    for name, item in state.items():
        try:
            object.__setattr__(made, name, item)
        except AttributeError:  # hidden by a property
            made.__dict__[name] = item
    return made


def _own_of_python(cls: type, method: str, kind: type) -> Any:
    """A method as the nearest base class that is not written in Python has it."""
    found: list[Any] = [vars(base).get(method) for base in cls.__mro__]
    return next(each for each in found if isinstance(each, kind))
