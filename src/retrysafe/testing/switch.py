"""Switching idempotency off, for tests of what a function does rather than of how often."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from retrysafe import switch

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")


class idempotency_disabled:  # noqa: N801  # reads as a statement: `with idempotency_disabled():`
    """Call decorated functions straight through: each call runs, and no store is asked.

    ```python
    with idempotency_disabled():
        charge(order)
        charge(order)  # runs again


    @idempotency_disabled()
    def test_a_charge_is_booked(): ...
    ```

    It decorates functions of both kinds, `def` and `async def`, and holds for the thread or task that is in the block,
    and for the tasks and `asyncio.to_thread` calls started there. A `threading.Thread` begins anew and is not
    reached; to switch a whole process off, set the environment variable `RETRYSAFE_DISABLED`. Blocks can be nested;
    with the end of the outermost one, everything is as it was.

    It is for `@idempotent`, `@idempotent_function`, `@idempotent_batch` and `idempotent_block`. An `IdempotencyHandler`
    is not switched off.

    Raises:
        TypeError: When it decorates what cannot be called, or a class or a generator function: the block would be over
            before they run.
    """

    def __enter__(self) -> None:
        switch.blocks.set(switch.blocks.get() + 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Counted, not reset by token: a fixture may be left in another context than the one it was entered in.
        switch.blocks.set(max(0, switch.blocks.get() - 1))

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: the block is around each of its calls."""
        if isinstance(function, type) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"idempotency_disabled() decorates functions; in {function!r} write `with idempotency_disabled():`"
            )
        given: object = function
        if not callable(given):
            raise TypeError(f"idempotency_disabled() decorates functions; {given!r} cannot be called")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited_in_block(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return awaited_in_block  # type: ignore[return-value]  # a coroutine function, as the one given is

        @functools.wraps(function)
        def called_in_block(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return called_in_block
