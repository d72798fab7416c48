"""`crash_points` kills batches too: each of their claims and outcomes is a point, and each item has its own effects."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import IdempotencyConfig, current_execution, idempotent_batch
from retrysafe.testing import crash_points
from support.crashes import Provider, found, untouchable

BEFORE_LINE = "before this line"
BEFORE_CLAIM = "before the claim was stored"
AFTER_CLAIM = "after the claim was stored; the reply is lost"
BEFORE_ANSWER = "before the answer was stored"
AFTER_ANSWER = "after the answer was stored; the reply is lost"
WAITS = "while this line waited"
WAITED = "when what this line waited for was done"


@pytest.fixture
def provider():
    return Provider()


def batched(function=None, *, config=None, **options):
    """A batch whose own layer must not be asked."""
    decorate = idempotent_batch(persistence_store=untouchable(), config=config, key_prefix="test", **options)
    return decorate if function is None else decorate(function)


def course(report):
    """How each point came out, in their order, without the first one, which nothing kills."""
    return [(point.source, point.what, point.verdict) for point in report.points[1:]]


def test_each_claim_line_and_outcome_is_a_point_and_an_effect_doubles_until_its_outcome_is_recorded(provider):
    @batched
    def charge(order):
        return provider.charge(order)

    report = crash_points(charge, ["o1", "o2"], effects=provider.charges)
    define, work = "def charge(order):", "return provider.charge(order)"
    assert course(report) == [
        (define, BEFORE_CLAIM, "ok"),
        (define, AFTER_CLAIM, "ok"),
        (define, BEFORE_CLAIM, "ok"),
        (define, AFTER_CLAIM, "ok"),
        (work, BEFORE_LINE, "ok"),
        (work, BEFORE_LINE, "doubled"),
        (work, BEFORE_ANSWER, "doubled"),
        (work, AFTER_ANSWER, "doubled"),
        (work, BEFORE_ANSWER, "doubled"),
        (work, AFTER_ANSWER, "ok"),
    ]
    assert [point.seen for point in report.problems] == [
        {"o1": 2, "o2": 1},
        {"o1": 2, "o2": 2},
        {"o1": 1, "o2": 2},
        {"o1": 1, "o2": 2},
    ]
    assert all("the answer was not stored yet" in point.why for point in report.problems)


def test_with_a_key_of_its_own_each_charge_is_safe_everywhere(provider):
    @batched
    def charge(order):
        return provider.charge(order, current_execution().key_for("charge"))

    report = crash_points(charge, ["o1", "o2", "o1"], effects=provider.charges, before_each=provider.reset)
    assert report.ok
    assert {point.verdict for point in report.points} == {"ok"}


def test_where_outcomes_don_t_wait_only_the_item_under_way_doubles(provider):
    @batched(record_after_seconds=0)
    def charge(order):
        receipt = provider.charge(order)
        return receipt  # noqa: RET504  # a line of its own

    report = crash_points(charge, ["o1", "o2"], effects=provider.charges)
    assert [(point.source.partition("  #")[0], point.what, point.seen) for point in report.problems] == [
        ("return receipt", BEFORE_LINE, {"o1": 2, "o2": 1}),
        ("return receipt", BEFORE_ANSWER, {"o1": 2, "o2": 1}),
        ("return receipt", BEFORE_LINE, {"o1": 1, "o2": 2}),
        ("return receipt", BEFORE_ANSWER, {"o1": 1, "o2": 2}),
    ]


def test_keys_that_are_claimed_later_have_no_part_in_an_earlier_death(provider):
    @batched(claimed_at_once=1)
    def charge(order):
        return provider.charge(order)

    report = crash_points(charge, ["o1", "o2"], effects=provider.charges)
    work = "return provider.charge(order)"
    assert [point.what for point in report.points[1:6]] == [
        BEFORE_CLAIM,
        AFTER_CLAIM,
        BEFORE_LINE,
        BEFORE_ANSWER,
        AFTER_ANSWER,
    ]
    assert found(report, "doubled") == [(work, BEFORE_ANSWER)] * 2


def test_an_item_that_fails_every_time_is_an_answer_like_any_other(provider):
    @batched(config=IdempotencyConfig(replay_exceptions=(ValueError,)))
    def charge(order):
        if order == "o2":
            raise ValueError("no such order")
        return provider.charge(order, current_execution().key_for("charge"))

    report = crash_points(charge, ["o1", "o2", "o3"], effects=provider.charges, before_each=provider.reset)
    assert report.ok
    assert not report.notes


def test_a_handler_of_messages_reports_the_same_failures_to_each_delivery(provider):
    @batched(config=IdempotencyConfig(event_key_jmespath="messageId"), stop_at_failure=True)
    def charge(record):
        if record["body"] == "bad":
            raise ValueError(record["body"])
        return provider.charge(record["body"], current_execution().key_for("charge"))

    def handler(event):
        return charge(event["Records"]).batch_item_failures()

    event = {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(["o1", "bad", "o3"])]}
    report = crash_points(handler, event, effects=provider.charges, before_each=provider.reset)
    assert report.ok
    assert report.points[0].expected == {"o1": 1}


def test_the_waits_of_each_item_are_points_wherever_its_task_stands(provider):
    @batched(concurrency=2)
    async def charge(order):
        await asyncio.sleep(0)
        return provider.charge(order, current_execution().key_for("charge"))

    report = crash_points(charge, ["o1", "o2"], effects=provider.charges, before_each=provider.reset)
    assert report.ok
    waits = [(point.source, point.what) for point in report.points if point.kind == "await"]
    line = "await asyncio.sleep(0)"
    assert waits == [(line, WAITS), (line, WAITS), (line, WAITED), (line, WAITED)]


def test_items_beside_the_one_that_died_die_with_it(provider):
    @batched(concurrency=2)
    async def charge(order):
        await asyncio.sleep(0)
        provider.charge(order)

    report = crash_points(charge, ["o1", "o2"], effects=provider.charges)
    killed_first = next(point for point in report.points if point.what == WAITED)
    assert killed_first.when_killed == {}
    assert killed_first.seen == {"o1": 1, "o2": 1}


def test_a_batch_dies_in_a_process_of_its_own_as_it_does_in_this_one(tmp_path):
    ledger = tmp_path / "charges.txt"
    ledger.touch()

    @batched
    def charge(order):
        with ledger.open("a") as file:
            file.write(f"{order}\n")
        return order

    def verdicts(**options):
        report = crash_points(charge, ["o1", "o2"], effects=lambda: ledger.read_text().split(), **options)
        return [(point.what, point.source, point.verdict) for point in report.points if point.kind == "store"]

    really_dead = verdicts(processes=True)
    assert really_dead == verdicts()
    assert [verdict for _, _, verdict in really_dead] == ["ok"] * 4 + ["doubled"] * 3 + ["ok"]


def test_batches_made_outside_go_back_to_their_own_layer_afterwards(provider):
    @batched
    def charge(order):
        return provider.charge(order)

    crash_points(charge, ["o1"], effects=provider.charges)
    (result,) = charge(["o1"])
    assert "own layer was asked to put" in str(result.error)


@pytest.mark.parametrize("answer", ["its result", "a report of failures"])
def test_a_batch_that_leaves_what_was_abandoned_to_a_person_is_stopped_and_no_problem(provider, answer):
    @batched(config=IdempotencyConfig(on_abandoned="raise"), item_identifier=str)
    def charge(order):
        return provider.charge(order)

    def handler(orders):
        return charge(orders).batch_item_failures()

    report = crash_points(charge if answer == "its result" else handler, ["o1", "o2"], effects=provider.charges)
    assert report.ok
    assert {point.verdict for point in report.points} == {"ok", "stopped"}
    assert all("until a person" in point.why for point in report.points if point.verdict == "stopped")


def test_an_effect_that_a_stopped_batch_makes_outside_is_found_all_the_same(provider):
    @batched(config=IdempotencyConfig(on_abandoned="raise"), item_identifier=str)
    def charge(order):
        return order

    def handler(orders):
        for order in orders:
            provider.charge(order)
        return charge(orders).batch_item_failures()

    report = crash_points(handler, ["o1", "o2"], effects=provider.charges)
    assert {point.verdict for point in report.problems} == {"doubled"}
