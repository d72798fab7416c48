"""A signal handler that raises in the middle of a request leaves no lock held for which the next one would wait."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
from queue import LifoQueue

import pytest

from retrysafe.persistence._dynamodb import pools
from support.dynamodb_batches import claim
from support.dynamodb_support import sync_layer

NOW_MS = 1_900_000_000_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of connections lost on the way
@pytest.mark.parametrize("method", ["get", "put"])
def test_wherever_a_request_takes_or_keeps_a_connection_it_can_be_interrupted(dynoxide, table, method):
    """At each instruction there."""
    watched = {getattr(pools.Connections, method).__code__, getattr(LifoQueue, method).__code__}
    at, struck = 0, True
    with sync_layer(dynoxide, table) as layer:
        layer._put_record(claim("before", NOW_MS))
        while struck:
            at, struck = at + 1, False
            left = at

            def each_instruction(frame, event, arg):
                nonlocal left, struck
                if frame.f_code not in watched and frame.f_back.f_code not in watched:
                    return None
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
                left -= event == "opcode"
                if not (left or struck):
                    struck = True
                    raise KeyboardInterrupt
                return each_instruction

            faulthandler.dump_traceback_later(30, exit=True)  # what waits for a lock waits for ever
            # Python 3.12 heeds that of other frames only where one has it before.
            sys._getframe().f_trace_opcodes = True
            sys.settrace(each_instruction)
            with contextlib.suppress(KeyboardInterrupt):
                layer._put_record(claim(f"{method} {at}", NOW_MS))
            sys.settrace(None)
            layer._put_record(claim(f"after {method} {at}", NOW_MS))
            faulthandler.cancel_dump_traceback_later()
    assert at > 5
