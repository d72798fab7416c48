"""Who watches which key, and which of them the server tells of: the part of watching that does no I/O.

The server tells on the channel `retrysafe:{key}`, once for each completion and release. It counts as telling from when
it has confirmed a subscription until the connection is lost; each end of that wakes whoever watches, as it may have
missed something.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakSet

from retrysafe.persistence._cache.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANNEL = "retrysafe:"

# Seconds. Where a run has failed, one of those who watch looks at once, to run instead; the others follow when it has
# claimed the key.
FIRST_AFTER_RELEASE = 0.01
LAST_AFTER_RELEASE = 0.05

# Seconds: between the moments at which all who wait look together, though they are told.
STEP = 2.5

# Seconds: how long a connection outlives the last who watched; when one that is silent is asked for a sign of life; and
# between tries to connect.
LINGER = 5.0
SILENCE = 5.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0

SUBSCRIBED = "subscribed"
_RELEASED = "RELEASED"


class Wakeable(Protocol):
    """A watch, as it is seen from here.

    Attributes:
        key: What it watches.
    """

    key: str

    def wake(self, delay: float) -> None:
        """End its wait after so many seconds, or the next one."""
        ...


W = TypeVar("W", bound=Wakeable)


def channel_of(key: str) -> str:
    """Where the server tells of this key."""
    return CHANNEL + key


def news_of(message: Mapping[str, Any]) -> tuple[str, str] | None:
    """The key that a message is about, and `SUBSCRIBED` or the record's new status; None for any other message.

    Args:
        message: As redis-py and valkey-py give it: `type`, `channel` and `data`, which may be bytes or text.
    """
    channel = _text(message.get("channel"))
    if not channel.startswith(CHANNEL):
        return None
    key = channel.removeprefix(CHANNEL)
    kind = _text(message.get("type"))
    if kind == "subscribe":
        return key, SUBSCRIBED
    return (key, _text(message.get("data"))) if kind == "message" else None


class Watched(Generic[W]):
    """The watches, by key. They are held weakly: one that an interruption tore out of its call is not kept for ever.

    Not for several threads at once, but for `tells`.
    """

    def __init__(self) -> None:
        self._watches: dict[str, WeakSet[W]] = {}
        self._asked: set[str] = set()
        self._told: set[str] = set()

    def __bool__(self) -> bool:
        return any(self._watches.values())

    def tells(self, key: str) -> bool:
        """Whether the server is sure to tell of this key."""
        return key in self._told

    def add(self, watch: W) -> None:
        """Watch from now on."""
        self._watches.setdefault(watch.key, WeakSet()).add(watch)
        if watch.key in self._told:
            watch.wake(0.0)

    def remove(self, watch: W) -> None:
        """Watch no longer."""
        watches = self._watches.get(watch.key)
        if watches is not None:
            watches.discard(watch)

    def to_ask(self) -> tuple[list[str], list[str]]:
        """The keys to subscribe to and those to unsubscribe from, for what is watched now; they count as asked for."""
        for key in [key for key, watches in self._watches.items() if not watches]:
            del self._watches[key]
        new = [key for key in self._watches if key not in self._asked]
        old = [key for key in self._asked if key not in self._watches]
        self._asked.update(new)
        self._asked.difference_update(old)
        self._told.difference_update(old)
        return new, old

    def hear(self, key: str, news: str) -> None:
        """What `news_of` made of a message."""
        if news == SUBSCRIBED and key in self._asked:
            self._told.add(key)
        delay = 0.0
        for watch in tuple(self._watches.get(key, ())):
            watch.wake(delay)
            if news == _RELEASED:
                delay = _delay()

    def lose(self) -> None:
        """The connection is gone, and all subscriptions with it."""
        told = tuple(self._told)
        self._asked.clear()
        self._told.clear()
        for key in told:
            for watch in tuple(self._watches.get(key, ())):
                watch.wake(0.0)


class Rounds:
    """When those of one process look who are told and look all the same: together, so that one read serves them all."""

    def __init__(self) -> None:
        self._phase = STEP * os.urandom(1)[0] / 256  # processes that were started together keep apart

    def until(self, now: float, at_most: float) -> float:
        """Until the last round within `at_most` seconds; as long as that where there is none."""
        beyond = (now + at_most - self._phase) % STEP
        return at_most - beyond if beyond < at_most else at_most


class Silence:
    """Whether a connection is still alive that has nothing to tell.

    Args:
        now: The time, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._heard_at = now
        self._asked = False

    def is_suspicious(self, now: float, *, heard: bool) -> bool:
        """Whether to ask it for a sign of life, which is done once.

        Raises:
            ConnectionError: It was asked, and is still silent.
        """
        if heard:
            self._heard_at, self._asked = now, False
        elif now - self._heard_at >= SILENCE:
            if self._asked:
                raise ConnectionError("the server tells nothing any more")
            self._heard_at, self._asked = now, True
            return True
        return False


class Outage:
    """The time from when a connection is lost until the server tells again."""

    def __init__(self) -> None:
        self._pause = 0.0

    def pause_after(self, error: Exception) -> float:
        """How long to wait, in seconds, before trying to connect once more; each time longer, and jittered."""
        if not self._pause:
            import logging  # noqa: PLC0415  # rarely needed

            logging.getLogger("retrysafe").warning(
                "waiting calls are not told of changes, and look now and then: %s", shown(error)
            )
        self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        return self._pause * (0.5 + os.urandom(1)[0] / 512)

    def is_over(self) -> None:
        """The server tells."""
        self._pause = 0.0


def _delay() -> float:
    return FIRST_AFTER_RELEASE + (LAST_AFTER_RELEASE - FIRST_AFTER_RELEASE) * os.urandom(1)[0] / 255


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else ""
