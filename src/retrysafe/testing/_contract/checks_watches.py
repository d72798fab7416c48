"""Checks of `_watch_record`, where a layer offers it: who waits is told, and misses nothing between two looks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from unittest import SkipTest

from retrysafe.testing._contract.driving import settled
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._contract.store import Store

WAIT_SECONDS = 10.0


class WatchChecks(Suite):
    """A watch wakes when the record changes."""

    @check()
    async def test_a_watch_wakes_when_the_record_completes(self, store: Store) -> None:
        """Who watches a running record is told when it completes, also if nobody waited at that moment."""

        async def complete(claim: DataRecord) -> None:
            await store.completes(store.outcome(claim))

        await _wakes(store, complete)

    @check()
    async def test_a_watch_wakes_when_the_record_is_released(self, store: Store) -> None:
        """Who watches a running record is told when it is released, also if nobody waited at that moment."""
        await _wakes(store, store.release)


async def _wakes(store: Store, change: Callable[[DataRecord], Coroutine[Any, Any, None]]) -> None:
    claim = store.claim()
    await store.wins(claim)
    watch = store.layer._watch_record(claim.idempotency_key)
    if watch is None:
        raise SkipTest(f"{type(store.layer).__name__} has no _watch_record()")
    try:
        for what in ("it began to be told", "the record changed"):
            started = time.monotonic()
            await settled(watch.wait(WAIT_SECONDS, WAIT_SECONDS))
            waited = time.monotonic() - started
            store.check(waited < WAIT_SECONDS, f"a watch slept for {waited:.1f} s, though {what}")
            if what != "the record changed":
                await change(claim)
        store.check(
            (await store.get(claim)) != claim, "a watch woke, and the record read then was the one before the change"
        )
    finally:
        watch.close()
