"""`crash_points` finds where effects double and get lost: known defects, at exactly their lines and nowhere else."""

# Each line of a function here is a point of its own.
# ruff: noqa: RET504

from __future__ import annotations

import itertools

import pytest

from retrysafe import current_execution
from retrysafe.testing import crash_points
from support.crashes import Provider, found, lines, protected

BEFORE_LINE = "before this line"
BEFORE_ANSWER = "before the answer was stored"
AFTER_ANSWER = "after the answer was stored; the reply is lost"


@pytest.fixture
def provider():
    return Provider()


# --- effects that double ------------------------------------------------------------------------------------------


def test_a_charge_without_a_key_doubles_from_the_next_line_on_until_the_answer_is_stored(provider):
    @protected
    def charge(order):
        wanted = order.upper()
        receipt = provider.charge(wanted)
        shown = f"paid, {receipt}"
        return shown

    report = crash_points(charge, "o1", effects=provider.charges)
    assert found(report, "doubled") == [
        ('shown = f"paid, {receipt}"', BEFORE_LINE),
        ("return shown", BEFORE_LINE),
        ("return shown", BEFORE_ANSWER),
    ]
    assert lines(report, "ok") == ["wanted = order.upper()", "receipt = provider.charge(wanted)"]
    worst = report.problems[0]
    assert (worst.expected, worst.when_killed, worst.seen) == ({"O1": 1}, {"O1": 1}, {"O1": 2})
    assert "the answer was not stored yet" in worst.why
    assert worst.difference == "'O1': 2 instead of 1"
    assert "key_for" in worst.advice


def test_a_charge_with_a_key_that_is_the_same_in_every_attempt_is_safe_everywhere(provider):
    @protected
    def charge(order):
        key = current_execution().key_for("charge")
        receipt = provider.charge(order, key)
        return receipt

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset)
    assert report.ok
    assert {point.verdict for point in report.points} == {"ok"}


def test_a_key_that_is_new_in_every_attempt_is_as_good_as_none(provider):
    @protected
    def charge(order):
        key = f"{order}, attempt {current_execution().attempt}"
        return provider.charge(order, key)

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset)
    assert found(report, "doubled") == [("return provider.charge(order, key)", BEFORE_ANSWER)]


def test_each_effect_is_compared_by_itself(provider):
    sent = []

    @protected
    def pay(order):
        provider.charge(order, current_execution().key_for("charge"))
        sent.append(f"mail about {order}")
        return "paid"

    report = crash_points(pay, "o1", effects=lambda: [*provider.charges, *sent], before_each=provider.reset)
    assert lines(report, "doubled") == ['return "paid"']
    assert report.problems[0].difference == "'mail about o1': 2 instead of 1"


def test_an_effect_before_the_claim_doubles_at_every_point_and_even_for_a_mere_duplicate():
    sent = []

    @protected
    def charge(order):
        return f"receipt for {order}"

    def worker(order):
        sent.append(order)
        return charge(order)

    report = crash_points(worker, "o1", effects=sent)
    assert lines(report, "doubled") == [
        "sent.append(order)",
        "return charge(order)",
        'return f"receipt for {order}"',
    ]
    assert [point.verdict for point in report.points if point.kind == "none"] == ["doubled"]
    assert {
        point.why.removeprefix("Nothing was killed, and yet the duplicate changed the effects. ")
        for point in report.problems
    } == {"The effect is made outside of an idempotent function, by every call."}
    assert "inside the idempotent function" in report.problems[-1].advice


def test_a_key_made_of_something_that_changes_is_named_as_the_cause():
    sent, times = [], itertools.count()

    @protected
    def send(order, asked_at):
        sent.append(order)
        return "sent"

    report = crash_points(lambda: send("o1", asked_at=next(times)), effects=sent)
    assert {point.verdict for point in report.problems} == {"doubled"}
    assert "another idempotency key: test#" in report.points[0].why
    assert "another idempotency key: test#" in report.problems[-1].why
    assert "what stays the same in a retry" in report.problems[-1].advice


def test_keys_of_records_that_a_killed_handler_had_not_come_to_are_no_other_keys(provider):
    @protected
    def charge(order):
        receipt = provider.charge(order)
        return receipt

    def handler(orders):
        return [charge(order) for order in orders]

    report = crash_points(handler, ["o1", "o2"], effects=provider.charges, before_each=provider.reset)
    assert [(point.source, point.what, point.seen) for point in report.problems] == [
        ("return receipt", BEFORE_LINE, {"o1": 2, "o2": 1}),
        ("return receipt", BEFORE_ANSWER, {"o1": 2, "o2": 1}),
        ("return receipt", BEFORE_LINE, {"o1": 1, "o2": 2}),
        ("return receipt", BEFORE_ANSWER, {"o1": 1, "o2": 2}),
    ]
    assert all("the answer was not stored yet" in point.why for point in report.problems)


# --- effects that get lost ----------------------------------------------------------------------------------------


def test_a_mark_set_before_the_effect_loses_it_between_the_two():
    marked, shipped = set(), []

    @protected
    def ship(order):
        if order not in marked:
            marked.add(order)
            shipped.append(order)
        return "shipped"

    report = crash_points(ship, "o1", effects=shipped, before_each=marked.clear)
    assert found(report, "lost") == [("shipped.append(order)", BEFORE_LINE)]
    assert report.problems[0].seen == {}
    assert "left behind made it pass the effect by" in report.problems[0].why


def test_an_effect_in_a_buffer_is_lost_between_the_answer_and_the_flush():
    buffer, booked = [], []

    @protected
    def book(order):
        buffer.append(order)
        return "booked"

    def worker(order):
        answer = book(order)
        booked.extend(buffer)
        buffer.clear()
        return answer

    report = crash_points(worker, "o1", effects=booked, on_kill=buffer.clear)
    assert found(report, "lost") == [
        ('return "booked"', AFTER_ANSWER),
        ("booked.extend(buffer)", BEFORE_LINE),
    ]
    assert "The answer was stored before the effect had happened" in report.problems[0].why
    assert "flush the buffer" in report.problems[0].advice


# --- answers ------------------------------------------------------------------------------------------------------


def test_a_retry_whose_answer_tells_of_another_attempt_is_found(provider):
    tickets = []

    @protected
    def charge(order):
        tickets.append(order)
        provider.charge(order, current_execution().key_for("charge"))
        return len(tickets)

    def reset():
        tickets.clear()
        provider.reset()

    report = crash_points(charge, "o1", effects=provider.charges, before_each=reset)
    assert lines(report, "other answer") == [
        'provider.charge(order, current_execution().key_for("charge"))',
        "return len(tickets)",
    ]
    assert "2 instead of 1" in report.problems[0].why


def test_duplicates_that_get_different_answers_are_found(provider):
    asked = itertools.count()

    @protected
    def charge(order):
        return provider.charge(order)

    def worker(order):
        return charge(order), next(asked)

    report = crash_points(worker, "o1", effects=provider.charges)
    assert report.points[0].verdict == "other answer"
    assert "two callers got different answers" in report.points[0].why
    assert report.notes == ("Two undisturbed runs gave different answers, so the answers of retries are not compared.",)


def test_a_function_that_cannot_run_again_leaves_its_client_without_an_answer():
    rows = []

    @protected
    def book(order):
        if order in rows:
            raise ValueError(f"{order} is booked already")
        rows.append(order)
        return "booked"

    report = crash_points(book, "o1", effects=rows, before_each=rows.clear, retries=3)
    assert found(report, "no answer") == [('return "booked"', BEFORE_LINE), ('return "booked"', BEFORE_ANSWER)]
    assert report.problems[0].why == "3 retries got no answer; the last one: ValueError: o1 is booked already"
    assert report.problems[0].retries == 3


def test_a_stored_failure_is_an_answer(provider):
    class DeclinedError(Exception):
        pass

    @protected(replay_exceptions=(DeclinedError,))
    def charge(order):
        provider.charge(order, current_execution().key_for("charge"))
        raise DeclinedError(order)

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset)
    assert report.ok
    assert AFTER_ANSWER in [point.what for point in report.points]


# --- stopping for a person ----------------------------------------------------------------------------------------


def test_where_a_person_is_to_decide_that_is_reported_as_such(provider):
    @protected(on_abandoned="raise")
    def charge(order):
        receipt = provider.charge(order)
        return receipt

    report = crash_points(charge, "o1", effects=provider.charges)
    assert report.ok, "nothing doubles, and nothing gets lost without a word"
    assert lines(report, "stopped") == ["receipt = provider.charge(order)", "return receipt"]
    before, after = (point for point in report.points if point.verdict == "stopped" and point.kind == "line")
    assert "It had not happened in full." in before.why
    assert before.difference == "'o1': 0 instead of 1"
    assert "The effect had happened." in after.why
    assert after.retries == 1, "nobody asks again"
    assert "IdempotencyAbandonedError" in str(report)
