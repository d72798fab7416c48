"""The report of `crash_points`: its text, its choice of points by seed, what it refuses, and the fixture for pytest."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import textwrap
from collections import Counter, deque
from pathlib import Path

import pytest

from retrysafe.testing import CrashPointsError, crash_points
from support.crashes import lines, protected


@pytest.fixture
def sent():
    return []


@pytest.fixture
def send(sent):
    @protected
    def send(orders):
        for order in orders:
            sent.append(order)
        return "sent"

    return send


# --- the text -----------------------------------------------------------------------------------------------------


def test_the_report_reads_as_a_table_then_reasons_and_what_to_do(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    sent = []

    @protected
    def send(order):
        sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent)
    first = send.__wrapped__.__code__.co_firstlineno + 1
    where = f"{Path(__file__).name}:{{}} in {report.name}"
    assert str(report) == textwrap.dedent(f"""\
        {report.name}: 2 problems. It has 6 points to be killed at; tried: all of them.

        #  verdict  effects then  in the end  killed
        0  ok       1             1           nowhere; a duplicate follows
        1  ok       0             1           {where.format(first)}, before the claim was stored:  def send(order):
        2  ok       0             1           {where.format(first)}, after the claim was stored; the reply is lost:  def send(order):
        3  ok       0             1           {where.format(first + 1)}, before this line:  sent.append(order)
        4  doubled  1             2           {where.format(first + 2)}, before this line:  return "sent"
        5  doubled  1             2           {where.format(first + 2)}, before the answer was stored:  return "sent"
        6  ok       1             1           {where.format(first + 2)}, after the answer was stored; the reply is lost:  return "sent"

        doubled at #4, #5:
          The effect had happened, and the answer was not stored yet. A retry cannot know that, so it ran the function
          again when the lease was over.
          Effects: 'o1': 2 instead of 1.
          What to do: hand current_execution().key_for("...") on as the idempotency key of the downstream call, which
          is the same in every attempt; or store it with the effect, in one transaction and a column that takes each
          key once. Where neither can be had, on_abandoned="raise" lets a person decide.""")  # noqa: E501  # the report's lines are as long as this


def test_problems_can_be_raised_as_an_assertion_that_reads_as_the_report(send, sent):
    report = crash_points(send, ["o1"], effects=sent)
    with pytest.raises(CrashPointsError) as raised:
        report.raise_for_problems()
    assert isinstance(raised.value, AssertionError)
    assert str(raised.value) == str(report)
    assert raised.value.report is report
    assert [point.verdict for point in report.problems] == ["doubled"] * 3


def test_without_problems_nothing_is_raised():
    ledger = {}
    report = crash_points(
        protected(lambda order: ledger.setdefault(order, 1)), "o1", effects=ledger, before_each=ledger.clear
    )
    report.raise_for_problems()
    assert report.ok
    assert "no problem" in str(report)


# --- which points -------------------------------------------------------------------------------------------------


def test_of_many_points_a_seed_chooses_and_the_store_s_are_always_among_them(send, sent):
    def tried(seed):
        report = crash_points(send, list(range(40)), effects=sent, max_points=20, seed=seed)
        assert report.total == 4 + 2 * 40 + 2
        assert f"tried: 20 of them, chosen by seed {seed}." in str(report)
        assert [point.kind for point in report.points].count("store") == 4
        return [point.number for point in report.points]

    assert tried(seed=1) == tried(seed=1) == sorted(tried(seed=1))
    assert tried(seed=1) != tried(seed=2)
    assert len(tried(seed=1)) == 21, "and the one of a mere duplicate"


def test_where_the_store_has_most_of_the_points_the_lines_get_half_of_the_choice(sent):
    @protected
    def send(order):
        sent.append(order)

    def batch(orders):
        for order in orders:
            send(order)

    report = crash_points(batch, list(range(30)), effects=sent, max_points=10)
    kinds = Counter(point.kind for point in report.points)
    assert kinds == {"none": 1, "store": 5, "line": 5}
    chosen = [point.number for point in report.points if point.kind == "store"]
    assert max(chosen) > report.total / 2, "from the whole course, not its beginning"


def test_a_point_that_another_run_does_not_come_to_is_no_success():
    sent, runs = [], itertools.count()

    @protected
    def send(order):
        sent.append(order)
        if next(runs) < 3:
            order.upper()
        return "sent"

    report = crash_points(send, "o1", effects=sent)
    assert [point.verdict for point in report.points[-2:]] == ["not reached", "not reached"]
    assert report.points[-2].what == "before the answer was stored"
    assert "came to others in place of this point" in report.problems[-2].why
    assert "ended before this point" in report.problems[-1].why
    assert not report.ok


def test_a_point_is_tried_again_where_a_call_takes_another_course():
    sent, chance = [], random.Random(1)  # noqa: S311  # to be repeated, not to be secret

    @protected
    def send(order):
        if chance.random() < 0.5:
            order.upper()
        if order not in sent:
            sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent, before_each=sent.clear)
    assert report.ok
    places = [(point.what, point.line) for point in report.points]
    assert len(set(places)) == report.total + 1, "each point, and none twice in place of another"


# --- effects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ledger_of",
    [
        list,
        tuple,
        deque,
        Counter,
        len,
        lambda entries: [[entry] for entry in entries],
        lambda entries: [random.random() for _ in entries],  # noqa: S311  # names that differ each time
    ],
)
def test_effects_are_numbers_collections_or_mappings_to_numbers(ledger_of, send, sent):
    report = crash_points(send, ["o1"], effects=lambda: ledger_of(sent))
    assert lines(report, "doubled")[-1] == 'return "sent"'
    assert len(report.problems) == 3


def test_effects_with_another_name_each_time_are_counted_and_that_is_told():
    sent, numbers = [], itertools.count()

    @protected
    def send(order):
        sent.append(f"mail {next(numbers)}")
        return "sent"

    report = crash_points(send, "o1", effects=sent)
    assert lines(report, "doubled") == ['return "sent"']
    assert report.problems[0].difference == "2 instead of 1"
    assert report.notes == ("The effects have other names in each run, so they are compared by their number alone.",)


@pytest.mark.parametrize("ledger", [{"o1"}, "o1", b"o1", None, 1.5])
def test_what_hides_repetitions_is_refused(ledger, send):
    with pytest.raises(TypeError, match="as often as it happened"):
        crash_points(send, ["o1"], effects=lambda: ledger)


# --- tests that would mean nothing ---------------------------------------------------------------------------------


def test_a_call_without_an_effect_is_refused(send):
    with pytest.raises(ValueError, match="made no effect"):
        crash_points(send, [], effects=[])


def test_a_function_that_is_not_idempotent_is_refused(sent):
    with pytest.raises(ValueError, match="no call of an idempotent function"):
        crash_points(sent.append, "o1", effects=sent)


def test_a_world_that_remembers_is_refused_with_a_hint(sent):
    @protected
    def send(order):
        if order not in sent:
            sent.append(order)

    with pytest.raises(ValueError, match="Put the world back with before_each="):
        crash_points(send, "o1", effects=sent)


def test_a_call_that_fails_undisturbed_is_refused_with_its_error(sent):
    @protected
    def send(order):
        sent.append(order)
        raise ZeroDivisionError(order)

    with pytest.raises(ValueError, match="the undisturbed call raised ZeroDivisionError: o1") as refused:
        crash_points(send, "o1", effects=sent)
    assert isinstance(refused.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("wrong", [{"steps": "lines"}, {"max_points": 0}, {"retries": 0}])
def test_a_wrong_option_is_refused(wrong, send, sent):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        crash_points(send, ["o1"], effects=sent, **wrong)


# --- pytest -------------------------------------------------------------------------------------------------------

SUITE = """
import pytest
from retrysafe import current_execution, idempotent_function

sent, keys = [], set()

@idempotent_function(persistence_store="memory://", key_prefix="send")
def send(order):
    key = current_execution().key_for("mail")
    if key not in keys:
        keys.add(key); sent.append(order)
    return "sent"

@idempotent_function(persistence_store="memory://", key_prefix="careless")
def careless(order):
    sent.append(order)
    return "sent"

def test_safe(crash_points):
    assert crash_points(send, "o1", effects=sent, before_each=keys.clear).ok

def test_careless(crash_points):
    crash_points(careless, "o1", effects=sent)

def test_unchecked(crash_points):
    assert len(crash_points(careless, "o1", effects=sent, check=False).problems) == 2
"""


def test_the_fixture_fails_a_test_with_the_report_as_its_text(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["retrysafe.testing.pytest_plugin"]\n')
    (tmp_path / "test_shop.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-q", "test_shop.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "careless: 2 problems." in ran.stdout
    assert 'before this line:  return "sent"' in ran.stdout
    assert "pytest_plugin.py" not in ran.stdout, "no traceback of ours"
