"""What a function is and where in a call's arguments the payload is, read from the function when decorating.

Loaded by the first decoration, since it needs `inspect`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.inspecting import signature_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Arguments:
    """The arguments of one function.

    Args:
        function: The function.
        data_keyword_argument: The argument that is the payload. Default: all arguments are, without `self` and `cls`.

    Attributes:
        keyword: The keyword by which a caller may pass the payload; None where there is none.

    Raises:
        IdempotencyConfigError: The function has no such argument.
    """

    __slots__ = ("_default", "_index", "_is_shown", "_name", "_signature", "_skipped", "keyword")

    def __init__(self, function: Callable[..., Any], data_keyword_argument: str | None = None) -> None:
        self._signature = _signature_in_calls(function)
        parameters = self._signature.parameters
        self._is_shown = hasattr(function, "__wrapped__")
        self._name = data_keyword_argument
        self._index: int | None = None
        self.keyword = data_keyword_argument
        self._default: Any = inspect.Parameter.empty
        first = next(iter(parameters), None)
        self._skipped = first if first in ("self", "cls") and _is_method(function) else None
        if data_keyword_argument is None:
            return
        if not isinstance(data_keyword_argument, str):
            raise IdempotencyConfigError(
                f"data_keyword_argument must be an argument's name; it is {data_keyword_argument!r}"
            )
        parameter = parameters.get(data_keyword_argument)
        if parameter is None:
            if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
                raise IdempotencyConfigError(
                    f"data_keyword_argument={data_keyword_argument!r} is no argument of "
                    f"{getattr(function, '__qualname__', function)}{self._signature}"
                )
            return
        self._default = parameter.default
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            self.keyword = None
        if parameter.kind in _POSITIONAL:
            self._index = list(parameters).index(data_keyword_argument)
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise IdempotencyConfigError(
                f"data_keyword_argument={data_keyword_argument!r} must name one argument, not all of {parameter}"
            )

    def payload(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The payload of a call with these arguments, which does not pass it by `keyword`.

        Raises:
            TypeError: The function cannot be called so.
        """
        name = self._name
        if name is None:
            return self.bound(args, kwargs)
        if self._index is not None and len(args) > self._index:
            if self._is_shown:
                # A decorator below may put arguments of its own before these. Where one is missing then, it shows.
                self._signature.bind(*args, **kwargs)
            return args[self._index]
        if self._default is not inspect.Parameter.empty:
            return self._default
        self._signature.bind(*args, **kwargs)  # raises what the call itself would
        raise TypeError(f"missing the keyword argument {name!r}, which makes the idempotency key")

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by name, defaults filled in, without `self` and `cls`.

        Raises:
            TypeError: The function cannot be called so.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if self._skipped is not None:
            arguments.pop(self._skipped, None)
        return arguments


class HandlerArguments:
    """The event and the context of a Lambda handler, by position or by name.

    Args:
        handler: The handler, `(event, context, ...)`; a method may have `self` or `cls` before them.

    Raises:
        IdempotencyConfigError: It takes no event.
    """

    __slots__ = ("_first", "_handler", "_names")

    def __init__(self, handler: Callable[..., Any]) -> None:
        names = list(_signature_in_calls(handler).parameters)
        self._first = 1 if names[:1] in (["self"], ["cls"]) and _is_method(handler) else 0
        if len(names) == self._first:
            raise IdempotencyConfigError(
                f"{getattr(handler, '__qualname__', handler)} must take the event, which makes the key, as its first "
                "argument"
            )
        self._names = (*names[self._first : self._first + 2], "event", "context")[:2]
        self._handler = handler

    def event(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The event of a call with these arguments.

        Raises:
            TypeError: There is none.
        """
        if len(args) > self._first:
            return args[self._first]
        if self._names[0] in kwargs:
            return kwargs[self._names[0]]
        _signature_in_calls(self._handler).bind(*args, **kwargs)  # raises what the call itself would
        raise TypeError(f"missing the argument {self._names[0]!r}, the event that makes the idempotency key")

    def context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The context, or None."""
        if len(args) > self._first + 1:
            return args[self._first + 1]
        return kwargs.get(self._names[1])


def check_takes_item(function: Callable[..., Any]) -> None:
    """See that the function takes an item as its first argument.

    Raises:
        IdempotencyConfigError: It does not.
    """
    try:
        first = next(iter(signature_of(function).parameters.values()), None)
    except (ValueError, TypeError):
        return  # written in C, say; it is called with the item
    name = getattr(function, "__qualname__", function)
    if (
        first is not None
        and first.name in ("self", "cls")
        and _is_method(function)
        and not hasattr(function, "__self__")
    ):
        raise IdempotencyConfigError(f"{name} is a method: pass the bound one, idempotent_batch(object.method, ...)")
    if first is None or first.kind not in (*_POSITIONAL, inspect.Parameter.VAR_POSITIONAL):
        raise IdempotencyConfigError(f"{name} must take the item as its first argument")


def show_batch(over_many: Any, result: type) -> None:
    """Let a function over a batch show what it takes and gives itself, and not what the one over an item does.

    Args:
        over_many: The function, wrapped around the one over an item.
        result: What it gives.
    """
    try:
        signature = signature_of(over_many)
    except (ValueError, TypeError):
        return  # written in C, say
    first, *others = signature.parameters.values()
    if first.kind is inspect.Parameter.VAR_POSITIONAL:
        others = [first, *others]
    name = "items"
    while any(each.name == name for each in others):
        name += "_"
    # What an annotation in quotes names need not be known here.
    known = first.annotation is not inspect.Parameter.empty and not isinstance(first.annotation, str)
    of_any: Any = Iterable
    taken = of_any[first.annotation] if known else of_any
    items = inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY, annotation=taken)
    shown = signature.replace(parameters=[items, *others], return_annotation=result)
    over_many.__signature__ = shown
    annotations = {each.name: each.annotation for each in shown.parameters.values()} | {"return": result}
    over_many.__annotations__ = {
        name: annotation for name, annotation in annotations.items() if annotation is not inspect.Parameter.empty
    }


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return signature_of(function)
    except (ValueError, TypeError):
        raise IdempotencyConfigError(f"{function!r} has no signature to find its arguments by") from None


def _signature_in_calls(function: Callable[..., Any]) -> inspect.Signature:
    """What the function is called with. One wrapped around another shows that one's arguments in place of its own."""
    shown = _signature(function)
    if not hasattr(function, "__wrapped__"):
        return shown
    try:
        own = signature_of(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return shown  # written in C, as what `functools.cache` makes: it does not say what it takes
    takes_any = any(each.kind in _VARIABLE for each in own.parameters.values())
    return shown if takes_any else own


def _is_method(function: Any) -> bool:
    """Whether a function was written in a class body: its qualname then goes through the class."""
    qualname: str = getattr(function, "__qualname__", "")
    owner = qualname.rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling the function gives a coroutine; also for an object whose `__call__` is `async def`."""
    return any(map(inspect.iscoroutinefunction, _what_runs(function)))


def checked_function(option: str, function: Any, *given: str) -> Any:
    """The function, which is called where nobody awaits what it gives.

    Args:
        option: What it was given as.
        function: The function.
        *given: What it is called with, for errors.

    Raises:
        IdempotencyConfigError: It cannot be called, or not so, or is `async def`; names the option.
    """
    if not callable(function):
        raise IdempotencyConfigError(f"{option} must be callable; it is {function!r}")
    # Of a class it is the instance that a call gives, whatever that may be called with.
    if not isinstance(function, type) and is_async(function):
        raise IdempotencyConfigError(f"{option} must be a plain function; it is `async def`: {function!r}")
    try:
        signature = signature_of(function)
    except (ValueError, TypeError):
        return function  # written in C, say
    try:
        signature.bind(*given)
    except TypeError as error:
        raise IdempotencyConfigError(
            f"{option} is called with ({', '.join(given)}), which {function!r} does not take", error
        ) from error
    return function


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether calling the function or object gives a generator, so that its answer is not known when it returns."""
    return any(inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each) for each in _what_runs(function))


def _what_runs(function: Callable[..., Any]) -> tuple[Any, Any]:
    return function, getattr(function, "__call__", None)  # noqa: B004  # the method itself is looked at, not whether it is there
