"""Bugs in whose times are kept: a caller's whose clock is wrong, or those of the machine's time zone."""

from __future__ import annotations

import time

from support.broken_layers.planted import caught_by
from support.honest_layers import HonestLayer
from support.own_clock import OwnClockLayer


@caught_by("a_callers_wrong_clock_changes_no_time")
class TimesAreStoredAsTheCallerTellsThem(OwnClockLayer):
    own_clock = True

    def __init__(self, *, clock):
        super().__init__(clock=clock, store_clock=clock)

    def _moved(self, record):
        return record


@caught_by("a_moment_is_the_same_in_every_time_zone")
class TimesAreLocal(HonestLayer):
    """As in columns without a time zone."""

    def stored(self, record):
        return record.replaced(expiry_timestamp=record.expiry_timestamp + time.localtime().tm_gmtoff)

    def read(self, record):
        found = super().read(record)
        return found.replaced(expiry_timestamp=found.expiry_timestamp - time.localtime().tm_gmtoff)
