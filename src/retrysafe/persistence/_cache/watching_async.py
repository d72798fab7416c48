"""Watches on a cache for asynchronous callers: one task per event loop, which reads what the server tells.

The twin of `watching`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from retrysafe.clock import monotonic
from retrysafe.persistence._cache.watched import LINGER, SILENCE, Outage, Rounds, Silence, Watched, news_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class AsyncChannelLike(Protocol):
    """`channels.AsyncChannel`, or what is like it."""

    async def subscribe(self, keys: Iterable[str]) -> None: ...
    async def unsubscribe(self, keys: Iterable[str]) -> None: ...
    async def ping(self) -> None: ...
    async def read(self, seconds: float) -> Mapping[str, Any] | None: ...
    async def close(self) -> None: ...


class AsyncCacheWatch:
    """One waiting call's eye on one record; see `retrysafe.persistence.watch.AsyncWatch`.

    Args:
        room: Who wakes it.
        key: The record's key.
    """

    __slots__ = ("__weakref__", "_delay", "_room", "_waiting", "key")

    def __init__(self, room: _Room, key: str) -> None:
        self.key = key
        self._room = room
        self._delay: float | None = None
        self._waiting: asyncio.Future[None] | None = None

    def wake(self, delay: float) -> None:
        """End the wait, or the next one, after so many seconds."""
        self._delay = delay if self._delay is None else min(delay, self._delay)
        _end(self._waiting)

    async def wait(self, seconds: float, at_most: float) -> None:
        """See `AsyncWatch.wait`."""
        limit = self._room.patience(self.key, seconds, at_most)
        if self._delay is None:
            loop = asyncio.get_running_loop()
            waiting = self._waiting = loop.create_future()
            timer = loop.call_later(limit, _end, waiting)
            try:
                await waiting
            finally:
                timer.cancel()
                self._waiting = None
        delay, self._delay = self._delay, None
        if delay:
            await asyncio.sleep(min(delay, limit))

    def close(self) -> None:
        """See `AsyncWatch.close`."""
        self._room.leave(self)


def _end(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


def _is_cancelled() -> bool:
    """Whether the task is, though something that it awaited has swallowed that: `asyncio.wait_for` before 3.12 may."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class AsyncWatching:
    """The watches of one layer, on any number of event loops.

    Args:
        open_channel: Opens a connection that is told. Called in the loop's task, and again after each loss.
    """

    def __init__(self, open_channel: Callable[[], AsyncChannelLike]) -> None:
        self._open_channel = open_channel
        self._rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Room] = WeakKeyDictionary()

    def watch(self, key: str) -> AsyncCacheWatch:
        """A watch on the record under the key, for the event loop that runs."""
        loop = asyncio.get_running_loop()
        room = self._rooms.get(loop)
        if room is None:
            room = self._rooms[loop] = _Room(self._open_channel)
        watch = AsyncCacheWatch(room, key)
        room.enter(watch)
        return watch

    async def close(self) -> None:
        """End the task of the event loop that runs, and its connection. Whoever watches still looks now and then."""
        room = self._rooms.pop(asyncio.get_running_loop(), None)
        if room is not None:
            await room.close()


class _Room:
    """The task, and those whom it wakes."""

    def __init__(self, open_channel: Callable[[], AsyncChannelLike]) -> None:
        self.watched: Watched[AsyncCacheWatch] = Watched()
        self._rounds = Rounds()
        self._open_channel = open_channel
        self._task: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None

    def enter(self, watch: AsyncCacheWatch) -> None:
        self.watched.add(watch)
        _end(self._changed)
        if self._task is None or self._task.done():  # cancelled before it began, it cannot say so
            self._task = asyncio.get_running_loop().create_task(self._serve(), name="retrysafe-watching")

    def leave(self, watch: AsyncCacheWatch) -> None:
        self.watched.remove(watch)
        _end(self._changed)

    def patience(self, key: str, seconds: float, at_most: float) -> float:
        """How long to wait for a wake."""
        return self._rounds.until(monotonic(), at_most) if self.watched.tells(key) else seconds

    async def close(self) -> None:
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _serve(self) -> None:
        outage = Outage()
        try:
            while self.watched and not _is_cancelled():
                try:
                    await self._connected(outage)
                except Exception as error:  # noqa: BLE001  # whatever it is, those who wait look for themselves
                    await asyncio.sleep(outage.pause_after(error))
        finally:
            self._task = self._changed = None  # they would keep the loop from ever being collected

    async def _connected(self, outage: Outage) -> None:
        channel = self._open_channel()
        try:
            await self._listen(channel, outage)
        finally:
            self.watched.lose()
            with contextlib.suppress(Exception):
                await channel.close()

    async def _listen(self, channel: AsyncChannelLike, outage: Outage) -> None:
        """Wake whom it concerns, until nobody has watched for a while."""
        loop = asyncio.get_running_loop()
        watched_at = loop.time()
        silence = Silence(watched_at)
        changed = self._changed = loop.create_future()
        changed.set_result(None)
        reading: asyncio.Task[Mapping[str, Any] | None] | None = None
        try:
            while not _is_cancelled():
                if changed.done():
                    changed = self._changed = loop.create_future()
                    await self._ask(channel)
                if reading is None:
                    reading = loop.create_task(channel.read(SILENCE))
                await asyncio.wait((reading, changed), return_when=asyncio.FIRST_COMPLETED)
                now = loop.time()
                if reading.done():
                    message, reading = reading.result(), None
                    if silence.is_suspicious(now, heard=message is not None):
                        await channel.ping()
                    news = None if message is None else news_of(message)
                    if news is not None:
                        outage.is_over()
                        self.watched.hear(*news)
                if self.watched:
                    watched_at = now
                elif now - watched_at > LINGER:
                    return
        finally:
            if reading is not None:
                reading.cancel()
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await reading

    async def _ask(self, channel: AsyncChannelLike) -> None:
        new, old = self.watched.to_ask()
        if new:
            await channel.subscribe(new)
        if old:
            await channel.unsubscribe(old)
