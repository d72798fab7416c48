"""A signal handler that raises in the middle of a request leaves no lock held for which the next one would wait."""

from __future__ import annotations

import contextlib
import faulthandler
from queue import LifoQueue

import pytest

from retrysafe.persistence._dynamodb import pools
from support.dynamodb_batches import claim
from support.dynamodb_support import sync_layer
from support.instructions import before_each_instruction

NOW_MS = 1_900_000_000_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of connections lost on the way
@pytest.mark.parametrize("method", ["get", "put"])
def test_wherever_a_request_takes_or_keeps_a_connection_it_can_be_interrupted(dynoxide, table, method):
    """At each instruction there."""
    watched = {getattr(pools.Connections, method).__code__, getattr(LifoQueue, method).__code__}
    at, struck = 0, True

    def is_watched(frame):
        return frame.f_code in watched or frame.f_back.f_code in watched

    with sync_layer(dynoxide, table) as layer:
        layer._put_record(claim("before", NOW_MS))
        while struck:
            at, struck = at + 1, False
            left = at

            def strike():
                nonlocal left, struck
                left -= 1
                if not (left or struck):
                    struck = True
                    raise KeyboardInterrupt

            faulthandler.dump_traceback_later(30, exit=True)  # what waits for a lock waits for ever
            with contextlib.suppress(KeyboardInterrupt), before_each_instruction(is_watched, strike):
                layer._put_record(claim(f"{method} {at}", NOW_MS))
            layer._put_record(claim(f"after {method} {at}", NOW_MS))
            faulthandler.cancel_dump_traceback_later()
    assert at > 5
