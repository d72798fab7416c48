"""Many records at once: what a layer may offer to those who hold many, so that they cost fewer round trips.

`_for_each(operation, arguments)` is one of the five methods for each of many records. It promises what that method
promises, for each by itself: one that is refused or fails says nothing about the others, and there is no all or
nothing. A layer need not offer it: the contract's own form calls the method for each.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyItemNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from retrysafe.persistence.datarecord import DataRecord

T = TypeVar("T")

Operation: TypeAlias = Literal["get", "put", "update", "delete", "renew"]
"""The five methods: `_get_record` and so on."""

Outcome: TypeAlias = "DataRecord | Exception | None"
"""What a method returned, or the exception that it raised."""

ForMany: TypeAlias = Callable[[Operation, Sequence[Any]], T]
"""A form for many, of one layer: gives the outcomes, or what is to be awaited for them."""

AT_ONCE = 32
"""How many calls of an asynchronous layer are under way at the same time, where it has no form for many."""


def one_by_one(layer: Any, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
    """What a synchronous layer's method gives for each, called one after the other."""
    method = _method(layer, operation)
    return [outcome(method, argument) for argument in arguments]


async def side_by_side(layer: Any, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
    """What an asynchronous layer's method gives for each, some of them under way at the same time."""
    return await at_once(_method(layer, operation), arguments)


async def at_once(method: Callable[[Any], Awaitable[Any]], arguments: Sequence[Any]) -> list[Any]:
    """What awaiting the call gives for each argument, or the exception that it raises; some of them at the same time.

    Where it is cancelled, it ends only when all that was under way has ended: what its caller does next, such as to
    release a claim, is not overtaken by it.
    """
    if len(arguments) == 1:
        return [await outcome_async(method, arguments[0])]
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

    outcomes: list[Any] = [None] * len(arguments)
    numbered = iter(enumerate(arguments))

    async def work() -> None:
        for number, argument in numbered:
            outcomes[number] = await outcome_async(method, argument)

    workers = (work() for _ in range(min(AT_ONCE, len(arguments))))
    # Without `return_exceptions` it would be over with the first that was cancelled.
    torn_out = [error for error in await asyncio.gather(*workers, return_exceptions=True) if error is not None]
    try:
        if torn_out:
            raise torn_out[0]
    finally:
        del torn_out  # else the error, its traceback and this frame would hold each other
    return outcomes


def form_for_many(
    layer: Any, operation: Operation, plainly: Callable[[Any, Operation, Sequence[Any]], T]
) -> ForMany[T]:
    """The layer's `_for_each`; but `plainly`, where a derived class has written the method itself anew.

    A subclass that changes what `_update_record` does has not said what it would do for many.
    """
    for cls in type(layer).__mro__:
        if "_for_each" in vars(cls):
            break
        if _name(operation) in vars(cls):
            return lambda operation, arguments: plainly(layer, operation, arguments)
    own: ForMany[T] = layer._for_each
    return own


def outcome(method: Callable[[Any], Any], argument: Any) -> Any:
    """What the call gives, or raises."""
    try:
        return method(argument)
    except Exception as error:  # noqa: BLE001  # for whoever gave the argument
        return as_outcome(error)


async def outcome_async(method: Callable[[Any], Awaitable[Any]], argument: Any) -> Any:
    """What awaiting the call gives, or raises."""
    try:
        return await method(argument)
    except Exception as error:  # noqa: BLE001  # for whoever gave the argument
        return as_outcome(error)


def as_outcome(error: Exception) -> Exception:
    """The exception as what a method came to.

    What stands, and that nothing does, is a reply that nobody raises again: without its traceback, since the frames in
    that hold the outcomes of all, which hold it, with the records that were found.
    """
    if isinstance(error, IdempotencyItemAlreadyExistsError | IdempotencyItemNotFoundError):
        return error.with_traceback(None)
    return error


def together(
    courses: Sequence[Generator[Any, Any, Any]], replies: Sequence[Any] | None = None
) -> Generator[list[Any], list[Any], list[Any]]:
    """Courses of commands, carried out side by side: yields the next command of each that goes on, is sent the replies.

    Args:
        courses: Generators that yield commands and are sent replies. A reply that is an exception is thrown into them.
        replies: Where they have begun: the replies to the commands that they wait for.

    Returns:
        What each came to: what it returned, or the exception that it raised.
    """
    outcomes: list[Any] = [None] * len(courses)
    numbers: Sequence[int] = range(len(courses))
    replies = replies or [None] * len(courses)
    while True:
        asked: list[int] = []
        commands: list[Any] = []
        for number, reply in zip(numbers, replies, strict=True):
            course = courses[number]
            try:
                commands.append(course.throw(reply) if isinstance(reply, Exception) else course.send(reply))
            except StopIteration as stop:
                outcomes[number] = stop.value
            except Exception as error:  # noqa: BLE001  # the outcome of this one
                outcomes[number] = as_outcome(error)
            else:
                asked.append(number)
        if not asked:
            return outcomes
        numbers, replies = asked, (yield commands)


def _name(operation: Operation) -> str:
    return f"_{operation}_record"


def _method(layer: Any, operation: Operation) -> Callable[[Any], Any]:
    return cast("Callable[[Any], Any]", getattr(layer, _name(operation)))
