"""Which lines are points of `crash_points`: in loops, methods and functions inside; and where each says that it is."""

# Each line of a function here is a point of its own.
# ruff: noqa: RET504

from __future__ import annotations

import pytest

from retrysafe.testing import crash_points
from support.crashes import Provider, lines, protected


@pytest.fixture
def provider():
    return Provider()


def total(order):
    cents = len(order)
    return cents


def test_with_steps_of_the_file_the_lines_of_other_functions_in_it_are_points_too(provider):
    @protected
    def charge(order):
        cents = total(order)
        return provider.charge(cents)

    of_function = crash_points(charge, "o1", effects=provider.charges)
    of_file = crash_points(charge, "o1", effects=provider.charges, steps="file")
    assert lines(of_function, "ok") == ["cents = total(order)", "return provider.charge(cents)"]
    assert lines(of_file, "ok") == [
        "cents = total(order)",
        "cents = len(order)",
        "return cents",
        "return provider.charge(cents)",
    ]
    assert {point.function for point in of_file.points if point.source == "return cents"} == {"total"}


def test_lines_in_loops_and_in_functions_inside_are_points_each_time_they_run():
    sent = []

    @protected
    def send(orders):
        def one(order):
            sent.append(order)

        for order in orders:
            one(order)
        return len(orders)

    report = crash_points(send, ["o1", "o2", "o3"], effects=sent)
    passed = [point.source for point in report.points if point.kind == "line"]
    assert passed.count("sent.append(order)") == passed.count("one(order)") == 3
    first, second, third = (point for point in report.points if point.source == "sent.append(order)")
    assert (first.verdict, second.verdict, third.verdict) == ("ok", "doubled", "doubled")
    assert third.seen == {"o1": 2, "o2": 2, "o3": 1}


def test_methods_are_traced_like_functions():
    class Shop:
        def __init__(self):
            self.sent = []

        @protected
        def send(self, order):
            self.sent.append(order)
            return "sent"

    shop = Shop()
    report = crash_points(shop.send, "o1", effects=shop.sent)
    assert lines(report, "doubled") == ['return "sent"']
    assert report.name.endswith("Shop.send")


def test_points_tell_the_file_the_line_and_the_function():
    sent = []

    @protected
    def send(order):
        sent.append(order)

    point = next(point for point in crash_points(send, "o1", effects=sent).points if point.kind == "line")
    assert point.file == __file__
    assert point.line == send.__wrapped__.__code__.co_firstlineno + 2
    assert point.function.endswith("send")
    assert point.number == 3, "before and after the claim come first"
