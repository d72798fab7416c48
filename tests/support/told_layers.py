"""Layers that tell waiting calls when a record changes, and count what they are asked."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import TYPE_CHECKING, Any

from support.flavours import LikeAnAsyncStore, LikeAStore

if TYPE_CHECKING:
    from collections.abc import Callable


class Watches:
    """Who watches what, and what was asked of the layer.

    Attributes:
        fetches: How often a record was read.
        opened: How many watches were ever opened.
        waits: The `(seconds, at_most)` of every wait.
        is_told: Whether the channel is up.
        before_opening, before_wait, after_fetch: What else happens at that moment.
    """

    def __init__(self) -> None:
        self.open: list[Any] = []
        self.fetches = 0
        self.opened = 0
        self.waits: list[tuple[float, float]] = []
        self.is_told = True
        self.before_opening: Callable[[], object] = lambda: None
        self.before_wait: Callable[[], object] = lambda: None
        self.after_fetch: Callable[[], object] = lambda: None

    def add(self, watch: Any) -> Any:
        self.before_opening()
        self.open.append(watch)
        self.opened += 1
        if self.is_told:
            watch.wake()
        return watch

    def tell(self) -> None:
        if self.is_told:
            self._wake()

    def _wake(self) -> None:
        for watch in tuple(self.open):
            watch.wake()

    def drop(self) -> None:
        """The channel goes down."""
        self.is_told = False
        self._wake()

    def limit(self, seconds: float, at_most: float) -> float:
        self.waits.append((seconds, at_most))
        limit = at_most if self.is_told else seconds
        self.before_wait()
        return limit


class ToldLayer(LikeAStore):
    """Memory that tells whoever waits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.watches = Watches()

    def _watch_record(self, idempotency_key):
        return self.watches.add(_Watch(self.watches))

    def _get_record(self, idempotency_key):
        self.watches.fetches += 1
        try:
            return super()._get_record(idempotency_key)
        finally:
            self.watches.after_fetch()

    def _update_record(self, data_record):
        super()._update_record(data_record)
        self.watches.tell()

    def _delete_record(self, data_record):
        super()._delete_record(data_record)
        self.watches.tell()


class AsyncToldLayer(LikeAnAsyncStore):
    """The same for asynchronous callers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._layer = ToldLayer(**options)
        self.watches = self._layer.watches

    def _watch_record(self, idempotency_key):
        return self.watches.add(_AsyncWatch(self.watches))

    async def _get_record(self, idempotency_key):
        return self._layer._get_record(idempotency_key)


class _Watch:
    def __init__(self, watches: Watches) -> None:
        self.watches = watches
        self.woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        self.woken.put(None)

    def wait(self, seconds: float, at_most: float) -> None:
        limit = self.watches.limit(seconds, at_most)
        with contextlib.suppress(queue.Empty):
            self.woken.get(timeout=limit)
            while True:
                self.woken.get_nowait()

    def close(self) -> None:
        self.watches.open.remove(self)


class _AsyncWatch:
    def __init__(self, watches: Watches) -> None:
        self.watches = watches
        self.woken = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def wake(self) -> None:
        self.loop.call_soon_threadsafe(self.woken.set)

    async def wait(self, seconds: float, at_most: float) -> None:
        limit = self.watches.limit(seconds, at_most)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.woken.wait(), limit)
        self.woken.clear()

    def close(self) -> None:
        self.watches.open.remove(self)
