"""The `Date` of a reply, which tells the service's time: understood on every day."""

from __future__ import annotations

import datetime as dt
from email.utils import format_datetime

from hypothesis import example, given
from hypothesis import strategies as st

from retrysafe.clock import SystemClock
from retrysafe.persistence._dynamodb.service_time import ServiceTime


class Stopped(SystemClock):
    """A machine's clock that was never set."""

    def now_ms(self):
        return 0


@given(st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2199, 12, 31), timezones=st.just(dt.UTC)))  # noqa: DTZ001 - UTC is added
@example(dt.datetime(2027, 1, 31, 23, 59, 59, tzinfo=dt.UTC))
@example(dt.datetime(2027, 2, 28, tzinfo=dt.UTC))
@example(dt.datetime(2027, 3, 1, tzinfo=dt.UTC))
@example(dt.datetime(2028, 2, 29, tzinfo=dt.UTC))
@example(dt.datetime(2028, 12, 31, tzinfo=dt.UTC))
@example(dt.datetime(2100, 2, 28, tzinfo=dt.UTC))
@example(dt.datetime(2100, 3, 1, tzinfo=dt.UTC))
@example(dt.datetime(2000, 2, 29, tzinfo=dt.UTC))
def test_the_time_that_a_reply_tells_is_understood_on_every_day(moment):
    moment = moment.replace(microsecond=0)
    time = ServiceTime(Stopped(), 5.0, monotonic=lambda: 0.0)
    headers = {"date": format_datetime(moment, usegmt=True)}
    time.note({"ResponseMetadata": {"HTTPHeaders": headers}}, 0.0)
    # A reply may have been made before the last millisecond of the clock began.
    assert time.now_ms() == round(moment.timestamp() * 1000) - 1
