"""Watches on a cache for synchronous callers: one thread, which reads what the server tells, wakes all who wait.

The thread is started by the first who watches, and ends when nobody has watched for some seconds. While its connection
is down, those who wait look now and then, and are woken once when it is up again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from retrysafe.clock import monotonic
from retrysafe.locks import new_lock
from retrysafe.persistence._cache.watched import LINGER, Outage, Rounds, Silence, Watched, news_of
from retrysafe.queues import Empty, new_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# Seconds. The thread alone uses its connection, so what is newly watched is asked for between two reads.
READ = 0.02
CLOSING = 1.0


class ChannelLike(Protocol):
    """`channels.Channel`, or what is like it."""

    def subscribe(self, keys: Iterable[str]) -> None: ...
    def unsubscribe(self, keys: Iterable[str]) -> None: ...
    def ping(self) -> None: ...
    def read(self, seconds: float) -> Mapping[str, Any] | None: ...
    def close(self) -> None: ...


class CacheWatch:
    """One waiting call's eye on one record; see `retrysafe.persistence.watch.Watch`.

    Args:
        room: Who wakes it.
        key: The record's key.
    """

    __slots__ = ("__weakref__", "_room", "_woken", "key")

    def __init__(self, room: _Room, key: str) -> None:
        self.key = key
        self._room = room
        self._woken = new_queue()

    def wake(self, delay: float) -> None:
        """End the wait, or the next one, after so many seconds."""
        self._woken.put(delay)

    def wait(self, seconds: float, at_most: float) -> None:
        """See `Watch.wait`."""
        limit = self._room.patience(self.key, seconds, at_most)
        with contextlib.suppress(Empty):
            delay = self._woken.get(timeout=limit)
            with contextlib.suppress(Empty):
                while True:
                    delay = min(delay, self._woken.get_nowait())
            if delay:
                time.sleep(min(delay, limit))

    def close(self) -> None:
        """See `Watch.close`."""
        self._room.leave(self)


class Watching:
    """The watches of one layer.

    Args:
        open_channel: Opens a connection that is told. Called by the thread, and again after each loss.
    """

    def __init__(self, open_channel: Callable[[], ChannelLike]) -> None:
        self._open_channel = open_channel
        self._room = _Room(open_channel)

    def watch(self, key: str) -> CacheWatch:
        """A watch on the record under the key."""
        room = self._room
        if room.is_closed or room.pid != os.getpid():  # a forked child has none of its parent's threads
            room = self._room = _Room(self._open_channel)
        watch = CacheWatch(room, key)
        room.enter(watch)
        return watch

    def close(self) -> None:
        """End the thread and its connection. Whoever watches still looks now and then; a later watch begins anew."""
        self._room.close()


class _Room:
    """The thread, and those whom it wakes."""

    def __init__(self, open_channel: Callable[[], ChannelLike]) -> None:
        self.pid = os.getpid()
        self.is_closed = False
        self.watched: Watched[CacheWatch] = Watched()
        self._rounds = Rounds()
        self._open_channel = open_channel
        self._lock = new_lock()
        self._thread: threading.Thread | None = None
        self._watched_at = 0.0

    def enter(self, watch: CacheWatch) -> None:
        with self._lock:
            self.watched.add(watch)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="retrysafe-watching", daemon=True)
                thread.start()
                self._thread = thread

    def leave(self, watch: CacheWatch) -> None:
        if self.pid == os.getpid():  # a lock that was forked while it was held is never free again
            with self._lock:
                self.watched.remove(watch)

    def patience(self, key: str, seconds: float, at_most: float) -> float:
        """How long to wait for a wake."""
        return self._rounds.until(monotonic(), at_most) if self.watched.tells(key) else seconds

    def close(self) -> None:
        self.is_closed = True
        thread = self._thread
        if thread is not None and self.pid == os.getpid():
            thread.join(CLOSING)

    def _serve(self) -> None:
        outage = Outage()
        while True:
            try:
                self._connected(outage)
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, those who wait look for themselves
                pause = outage.pause_after(error)
            time.sleep(pause)
            if not self._is_needed():
                return

    def _connected(self, outage: Outage) -> None:
        channel = self._open_channel()
        try:
            self._listen(channel, outage)
        except BaseException:
            with self._lock:
                self.watched.lose()
            raise
        finally:
            with contextlib.suppress(Exception):
                channel.close()

    def _listen(self, channel: ChannelLike, outage: Outage) -> None:
        """Wake whom it concerns, until nobody watches any more."""
        silence = Silence(monotonic())
        while self._is_needed():
            with self._lock:
                new, old = self.watched.to_ask()
            if new:
                channel.subscribe(new)
            if old:
                channel.unsubscribe(old)
            message = channel.read(READ)
            if silence.is_suspicious(monotonic(), heard=message is not None):
                channel.ping()
            while message is not None:
                news = news_of(message)
                if news is not None:
                    outage.is_over()
                    with self._lock:
                        self.watched.hear(*news)
                message = channel.read(0)

    def _is_needed(self) -> bool:
        """Whether somebody watches, or did until a moment ago. If not, the thread counts as ended."""
        now = monotonic()
        with self._lock:
            if self.watched:
                self._watched_at = now
            if not self.is_closed and now - self._watched_at <= LINGER:
                return True
            self.watched.lose()
            self._thread = None
            return False
