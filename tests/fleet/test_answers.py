"""Each worker replays what the others completed, as far as it can read it; none of them runs it again."""

from __future__ import annotations

import json
import math

import pytest

OURS = ["ours", "ours_async"]

ANSWERS = [
    None,
    0,
    "",
    [],
    {},
    False,
    0.0,
    True,
    1,
    -5,
    2**53 + 1,
    10**30,
    1.5,
    0.1,
    1e300,
    1.0,
    "text",
    "é ☃ 😀 \u2028 \x00",
    [1, [2.5, None]],
    {"payment": "p1", "lines": [{"n": 1}, {}], "é": None, "": False},
]
# Answers that are text of JSON themselves.
TEXTS_OF_JSON = ["5", "null", "true", '"text"', '{"a": 1}', "[]"]


@pytest.fixture
def completed_and_replayed(fleet, store, key):
    """What the writer's callers got for each answer, and what the reader's callers got after them."""

    def both(writer, reader, answers, **options):
        firsts, seconds = [], []
        for number, answer in enumerate(answers):
            one = f"{key}-{number}"
            firsts.append(fleet.worker(writer).call(store.spec, one, answer, **options))
            seconds.append(fleet.worker(reader).call(store.spec, one, "it ran again", **options))
            assert fleet.ledger.of(one) == [writer]
        return firsts, seconds

    return both


def exact(values):
    """As JSON text, in which 1, 1.0 and true differ."""
    return [json.dumps(value, sort_keys=True) for value in values]


@pytest.mark.parametrize("reader", OURS)
def test_we_replay_what_a_python_worker_completed(completed_and_replayed, reader):
    answers = [*ANSWERS, *TEXTS_OF_JSON, math.nan, -math.inf]
    _, replays = completed_and_replayed("python", reader, answers)
    assert exact(replays) == exact(answers)


@pytest.mark.parametrize("writer", OURS)
def test_a_python_worker_replays_what_we_completed_and_falsy_answers_as_none(completed_and_replayed, writer):
    answers = [*ANSWERS, *TEXTS_OF_JSON]
    _, replays = completed_and_replayed(writer, "python", answers)
    assert exact(replays) == exact(answer or None for answer in answers)  # as it replays its own


@pytest.mark.parametrize("reader", OURS)
def test_we_replay_what_a_typescript_worker_completed(completed_and_replayed, reader, store):
    answers = ANSWERS if store.spec["kind"] == "cache" else [answer for answer in ANSWERS if not is_beyond(answer)]
    answers, replays = completed_and_replayed("typescript", reader, answers)
    assert exact(replays) == exact(answers)


def is_beyond(answer):
    """Whether the answer is a number that a TypeScript worker cannot store in DynamoDB: its client refuses them."""
    return isinstance(answer, int | float) and abs(answer) >= 2**53


@pytest.mark.parametrize("reader", OURS)
def test_we_replay_none_for_a_typescript_worker_that_returned_nothing(completed_and_replayed, reader):
    assert completed_and_replayed("typescript", reader, [None], do="nothing") == ([None], [None])


@pytest.mark.parametrize("writer", [*OURS, "python"])
def test_a_typescript_worker_replays_what_we_completed_as_its_json_text(completed_and_replayed, writer):
    answers = [*ANSWERS, *TEXTS_OF_JSON]
    _, replays = completed_and_replayed(writer, "typescript", answers)
    assert exact(map(json.loads, replays)) == exact(answers)


def test_text_of_json_from_a_typescript_worker_is_read_as_a_python_workers_answer(completed_and_replayed):
    # The one answer that two workers write alike: a Python worker for 5, a TypeScript worker for "5".
    answers, replays = completed_and_replayed("typescript", "ours", TEXTS_OF_JSON)
    assert exact(answers) == exact(TEXTS_OF_JSON)
    assert exact(replays) == exact(map(json.loads, TEXTS_OF_JSON))


@pytest.mark.parametrize(("writer", "reader"), [OURS, OURS[::-1]])
def test_we_replay_each_other(completed_and_replayed, writer, reader):
    _, replays = completed_and_replayed(writer, reader, [*ANSWERS, *TEXTS_OF_JSON])
    assert exact(replays) == exact([*ANSWERS, *TEXTS_OF_JSON])


@pytest.mark.parametrize("writer", OURS)
def test_workers_that_know_no_types_replay_the_plain_answer(fleet, store, key, writer):
    typed = fleet.worker(writer).call(store.spec, key, "typed")
    assert typed == "{'lines': (1, 2), 'on': datetime.date(2026, 1, 2), 'total': Decimal('1.10')}"
    assert "types" in store.record(key)
    plain = {"total": "1.10", "lines": [1, 2], "on": "2026-01-02"}
    assert fleet.worker("python").call(store.spec, key) == plain
    assert json.loads(fleet.worker("typescript").call(store.spec, key)) == plain
    assert fleet.worker("ours").call(store.spec, key) == typed
    assert fleet.ledger.of(key) == [writer]
