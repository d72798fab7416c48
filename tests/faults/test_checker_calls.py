"""How a history is sorted into calls, and what is refused as none."""

from __future__ import annotations

import pytest

from faults.checker import check


def test_a_history_of_a_call_that_was_never_made_is_refused(history):
    history.call("a", 0).began(1)
    del history.events[0]
    with pytest.raises(ValueError, match="a was never called"):
        check(history.events)


def test_a_history_that_tells_an_end_twice_is_refused(history):
    history.call("a", 0).began(1).returned(2).returned(3)
    with pytest.raises(ValueError, match="told twice"):
        check(history.events)


def test_a_call_that_neither_ends_nor_dies_is_counted(history):
    history.call("a", 0)
    assert check(history.events).unfinished == 1
