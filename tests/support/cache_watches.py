"""Watches on a cache, for tests: whether a wait is woken before its time, and news as a writer publishes them."""

from __future__ import annotations

import time

LONG = 30.0  # seconds; a wait that takes as long was not woken


def woken(watch):
    """Whether the wait ends before its time."""
    started = time.monotonic()
    watch.wait(LONG, LONG)
    return time.monotonic() - started < LONG


async def is_woken(watch):
    started = time.monotonic()
    await watch.wait(LONG, LONG)
    return time.monotonic() - started < LONG


def tell(client, key, news="COMPLETED"):
    return client.publish(f"retrysafe:{key}", news)
