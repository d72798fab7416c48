"""The frame of the suite: how a check, written as a coroutine over a `Store`, becomes a plain `test_*` method."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import SkipTest

from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.testing._contract.driving import plainly, settled
from retrysafe.testing._contract.hooks import Hooks
from retrysafe.testing._contract.store import Store, checked_layer
from retrysafe.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

S = TypeVar("S", bound="Suite")


class Suite(Hooks):
    """Runs checks, each over a layer of its own."""

    @classmethod
    def broken_promises(cls) -> dict[str, Exception]:
        """Run every check, and give the failures of those that fail, by the name of the check.

        For running the suite by hand. Checks of promises that the layer does not make are left out.
        """
        broken: dict[str, Exception] = {}
        for name in cls.checks():
            try:
                getattr(cls(), name)()
            except SkipTest:
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
                broken[name] = error
        return broken

    @classmethod
    def checks(cls) -> list[str]:
        """The names of all checks."""
        return [name for name in dir(cls) if name.startswith("test_") and callable(getattr(cls, name))]

    def _run(
        self, body: Callable[[Any, Store], Coroutine[Any, Any, None]], flags: tuple[str, ...], exact: bool
    ) -> None:
        for flag in flags:
            if not getattr(self, flag):
                raise SkipTest(f"{type(self).__name__} declares {flag} = False")
        if exact and self.own_clock:
            raise SkipTest(f"{type(self).__name__} declares own_clock = True: moments cannot be met exactly")
        self.clock = ManualClock()
        self.clock.advance(0.4)  # within a second, as windows are kept in whole ones
        made = self.make_layer(self.clock)
        if inspect.isawaitable(made) or isinstance(made, AsyncBasePersistenceLayer):
            asyncio.run(self._carry_out(body, made))
        else:
            plainly(self._carry_out(body, made))

    async def _carry_out(self, body: Callable[[Any, Store], Coroutine[Any, Any, None]], made: Any) -> None:
        layer = checked_layer("make_layer", await settled(made))
        if not self.own_clock and type(self).advance is Hooks.advance and layer.clock is not self.clock:
            raise TypeError(
                "make_layer() must hand the clock that it gets on to the layer, as its `clock`; or write advance(), "
                "which lets time pass"
            )
        store = Store(self, layer, _promise(body))
        try:
            await body(self, store)
        except (AssertionError, SkipTest):
            raise
        except Exception as error:
            raise store.broken(f"it ended with {error!r}") from error
        finally:
            await store.close()


def check(
    *flags: str, exact: bool = False
) -> Callable[[Callable[[S, Store], Coroutine[Any, Any, None]]], Callable[[S], None]]:
    """Make a check a plain test method, without parameters for a test runner to wonder about.

    Args:
        *flags: The capability flags without which the check is skipped.
        exact: Whether the check needs a clock that stands still.
    """

    def decorate(body: Callable[[S, Store], Coroutine[Any, Any, None]]) -> Callable[[S], None]:
        def test(self: S) -> None:
            self._run(body, flags, exact)

        # Not functools.wraps: pytest would look through it and take `store` for a fixture.
        test.__name__, test.__qualname__ = body.__name__, body.__qualname__
        test.__module__, test.__doc__ = body.__module__, body.__doc__
        return test

    return decorate


def _promise(body: Callable[..., Any]) -> str:
    """What the check promises: its docstring, or its name where Python runs without docstrings."""
    text = body.__doc__ or f"{body.__name__.removeprefix('test_').replace('_', ' ').capitalize()}."
    return " ".join(text.split())
