"""What a layer keeps for each event loop goes with the loop, also where `close()` was forgotten at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from weakref import WeakKeyDictionary


def forget_ended(by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what was kept for loops that are closed: a client refers to its loop, so both would stay for ever."""
    for each in by_loop.keyrefs():
        loop = each()
        if loop is not None and loop.is_closed():
            by_loop.pop(loop, None)
