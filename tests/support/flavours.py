"""Sync and async from one source: a test writes a plain function, and it runs in each flavour."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler

if TYPE_CHECKING:
    from collections.abc import Callable


class LikeAStore(MemoryPersistenceLayer):
    """Memory that tells nothing without being asked, as a disk or a network does."""

    can_peek = False  # type: ignore[assignment]  # a constant in the place of a property


class LikeAnAsyncStore(AsyncMemoryPersistenceLayer):
    """The same for asynchronous callers."""

    can_peek = False  # type: ignore[assignment]  # a constant in the place of a property


class Flavour:
    """Synchronous functions on a synchronous layer."""

    name = "sync"
    is_async = False

    def layer(self, **options: Any) -> Any:
        return LikeAStore(**options)

    def inner(self, layer: Any) -> MemoryPersistenceLayer:
        """The synchronous layer that holds the records."""
        return layer

    def body(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function in this flavour."""
        return function

    def caller(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The decorated function as something to call plainly."""
        return function

    def function(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """`@idempotent_function` in this flavour, to call plainly."""
        return self.caller(idempotent_function(self.body(function), **options))

    def handler(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """`@idempotent` in this flavour, to call plainly."""
        return self.caller(idempotent(self.body(function), **options))

    def handle(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """One call through the handler class."""
        return IdempotencyHandler(self.body(function), *args, **options).handle()

    def block(self, payload: Any, work: Callable[[], Any], **options: Any) -> Any:
        """One `with` block whose body does `work` where it is the first."""
        with idempotent_block(payload, **options) as block:
            if block.is_first:
                block.answer = work()
        return block.answer

    def together(self, count: int, call: Callable[[], Any]) -> list[Any]:
        """So many calls at the same time; their answers, or their errors."""
        results: list[Any] = []
        barrier = threading.Barrier(count)

        def one() -> None:
            barrier.wait()
            try:
                results.append(call())
            except Exception as error:  # noqa: BLE001  # the test looks at it
                results.append(error)

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class AsyncFlavour(Flavour):
    """Asynchronous functions on an asynchronous layer."""

    name = "async"
    is_async = True

    def layer(self, **options: Any) -> Any:
        return LikeAnAsyncStore(**options)

    def inner(self, layer: Any) -> MemoryPersistenceLayer:
        return layer._layer

    def body(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return function(*args, **kwargs)

        return asynchronous

    def caller(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args, **kwargs: asyncio.run(function(*args, **kwargs)))

    def handle(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        async def call() -> Any:
            return await AsyncIdempotencyHandler(self.body(function), *args, **options).handle()

        return asyncio.run(call())

    def block(self, payload: Any, work: Callable[[], Any], **options: Any) -> Any:
        async def call() -> Any:
            async with idempotent_block(payload, **options) as block:
                if block.is_first:
                    block.answer = work()
            return block.answer

        return asyncio.run(call())

    def together(self, count: int, call: Callable[[], Any]) -> list[Any]:
        function = call.__wrapped__  # type: ignore[attr-defined]  # made by `caller`

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(*(function() for _ in range(count)), return_exceptions=True)

        return asyncio.run(all_of_them())


class MixedFlavour(AsyncFlavour):
    """Asynchronous functions on a synchronous layer, through worker threads."""

    name = "async-on-sync-layer"

    def layer(self, **options: Any) -> Any:
        layer = LikeAStore(**options)
        layer.blocking = True  # type: ignore[misc]  # as a layer with a disk or a network would say
        return layer

    def inner(self, layer: Any) -> MemoryPersistenceLayer:
        return layer


class PeekingFlavour(Flavour):
    """Synchronous functions on memory, which tells duplicates their answer without a claim."""

    name = "sync-in-memory"

    def layer(self, **options: Any) -> Any:
        return MemoryPersistenceLayer(**options)


FLAVOURS = [Flavour(), AsyncFlavour(), MixedFlavour(), PeekingFlavour()]
