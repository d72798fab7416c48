"""Checks of times: whose clock counts, and that a moment is the same one for every machine."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final
from unittest import SkipTest

from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from collections.abc import Generator

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._contract.store import Store

HOUR_SECONDS: Final = 3600
ZONES: Final = ("UTC", "AAA-5:45", "BBB3:30")
"""POSIX's names of zones that need no database: none ahead of UTC, 5:45 hours ahead, 3:30 hours behind."""


class TimeChecks(Suite):
    """What is over is so by one clock, and after the same time for everybody."""

    @check("keeps_every_field")
    async def test_a_callers_wrong_clock_changes_no_time(self, store: Store) -> None:
        """A store that judges by its own clock moves the times of a caller's by the difference to made_at_ms."""
        if not self.own_clock:
            raise SkipTest(f"{type(self).__name__} declares no own_clock = True")
        for name, seconds in (("behind", -HOUR_SECONDS), ("ahead", HOUR_SECONDS)):
            claim = store.claim(name)
            await store.wins(_by_a_clock_off_by(seconds, claim))
            await store.stands(claim)
            if self.renews:
                claim = store.renewal(claim, lease=2 * self.lease_seconds)
                await store.renews(_by_a_clock_off_by(seconds, claim))
                await store.stands(claim)
            outcome = store.outcome(claim)
            await store.completes(_by_a_clock_off_by(seconds, outcome))
            await store.stands(outcome)

    @check()
    async def test_a_moment_is_the_same_in_every_time_zone(self, store: Store) -> None:
        """Times are moments: one that a machine writes is the same for those in other time zones."""
        if not hasattr(time, "tzset"):
            raise SkipTest("this system has no time.tzset() to set a time zone by")
        other = await store.second()
        for zone in ZONES:
            claim = store.claim(zone)
            with _in_zone(zone):
                await store.wins(claim)
            for elsewhere in ZONES:
                with _in_zone(elsewhere):
                    await other.stands(claim)


def _by_a_clock_off_by(seconds: int, record: DataRecord) -> DataRecord:
    """The record as a caller makes it whose clock is so far ahead."""
    lease_end = record.in_progress_expiry_timestamp
    return record.replaced(
        made_at_ms=(record.made_at_ms or 0) + seconds * 1000,
        expiry_timestamp=(record.expiry_timestamp or 0) + seconds,
        in_progress_expiry_timestamp=None if lease_end is None else lease_end + seconds * 1000,
    )


@contextlib.contextmanager
def _in_zone(zone: str) -> Generator[None]:
    usual = os.environ.get("TZ")
    try:
        os.environ["TZ"] = zone
        time.tzset()
        yield
    finally:
        if usual is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = usual
        time.tzset()
