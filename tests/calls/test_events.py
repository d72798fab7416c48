"""Every outcome is one event, for the log and for a hook; none shows a payload or an answer."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import defaultdict

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_block
from retrysafe.events import Completed, IdempotencyEvent
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError, IdempotencyResponseUnavailableError
from retrysafe.persistence.datarecord import INPROGRESS
from support.bodies import counted, plant

SECRET = "4111-1111-1111-1111"  # noqa: S105  # no password, but private all the same


@pytest.fixture
def charge():
    return counted(answer={"card": SECRET})


def test_a_first_call_is_claimed_and_completed_and_a_duplicate_is_replayed(flavour, charge, events):
    config = IdempotencyConfig(event_hook=events.append)
    call = flavour.function(charge, persistence_store=flavour.layer(), config=config)
    call({"card": SECRET})
    call({"card": SECRET})
    assert [event.name for event in events] == ["claimed", "completed", "replayed"]
    claimed, completed, replayed = events
    assert len({event.idempotency_key for event in events}) == 1
    assert {event.owner for event in events} == {claimed.owner}
    assert (claimed.attempt, completed.status, replayed.from_local_cache) == (1, "COMPLETED", False)
    assert claimed.function_name.endswith("counted.<locals>.charge")


def test_a_run_that_fails_is_released(flavour, events):
    config = IdempotencyConfig(event_hook=events.append)
    call = flavour.function(counted(error=ValueError(SECRET)), persistence_store=flavour.layer(), config=config)
    with pytest.raises(ValueError, match=SECRET):
        call(1)
    assert [event.name for event in events] == ["claimed", "released"]
    assert (events[1].error, events[1].stored) == ("ValueError", True)


def test_a_failure_that_is_an_answer_is_completed_and_replayed(flavour, events):
    config = IdempotencyConfig(event_hook=events.append, replay_exceptions=(ValueError,))
    call = flavour.function(counted(error=ValueError("declined")), persistence_store=flavour.layer(), config=config)
    for _ in range(2):
        with pytest.raises(ValueError, match="declined"):
            call(1)
    assert [event.name for event in events] == ["claimed", "completed", "replayed"]
    assert events[1].status == "FAILED"


@pytest.mark.parametrize("damaged", [False, True])
def test_a_duplicate_that_is_refused_a_stored_failure_is_not_told_of_as_one_that_got_it(flavour, events, damaged):
    layer, plain = flavour.layer(), IdempotencyConfig(event_hook=events.append)
    listed = IdempotencyConfig(event_hook=events.append, replay_exceptions=(ValueError,))
    fail = counted(error=ValueError("declined"))
    with pytest.raises(ValueError, match="declined"):
        flavour.function(fail, persistence_store=layer, config=listed)(1)
    if damaged:
        plant(flavour, layer, response_data="{")
    refused = IdempotencyPersistenceConsistencyError if damaged else IdempotencyResponseUnavailableError
    with pytest.raises(refused):
        flavour.function(fail, persistence_store=layer, config=listed if damaged else plain)(1)
    assert [event.name for event in events] == ["claimed", "completed"]


def test_a_class_that_duplicates_will_not_get_back_is_told_when_the_run_completes(flavour, events, caplog):
    @dataclasses.dataclass
    class Receipt:
        card: str

    config = IdempotencyConfig(event_hook=events.append)
    call = flavour.function(counted(answer=Receipt(SECRET)), persistence_store=flavour.layer(), config=config)
    call(1)
    assert call(1) == {"card": SECRET}
    (name,) = events[1].plain_classes
    assert name.endswith("Receipt")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_dict_of_another_class_is_none_in_the_answer_of_a_handler_which_becomes_json(flavour, events):
    """As `multiValueHeaders` in that of Powertools' `APIGatewayRestResolver`."""
    answer = {"statusCode": 200, "multiValueHeaders": defaultdict(list, {"Content-Type": ["text/plain"]})}
    options = {"persistence_store": flavour.layer(), "config": IdempotencyConfig(event_hook=events.append)}
    charge = counted(answer=answer)
    handler = flavour.handler(lambda event, context: charge(event), **options)
    assert handler("o1", None) == handler("o1", None) == answer
    flavour.function(charge, **options)("o1")
    told = [event.plain_classes for event in events if event.name == "completed"]
    assert told == [(), ("collections.defaultdict",)]


def test_and_the_log_has_it_though_nobody_else_listens(flavour, caplog):
    @dataclasses.dataclass
    class Receipt:
        card: str

    caplog.set_level(logging.WARNING, "retrysafe")
    flavour.function(counted(answer=Receipt(SECRET)), persistence_store=flavour.layer())(1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_an_event_has_the_level_that_the_log_has_it_at(flavour, charge, events, caplog):
    @dataclasses.dataclass
    class Receipt:
        card: str

    caplog.set_level(logging.DEBUG, "retrysafe")
    config = IdempotencyConfig(event_hook=events.append)
    for answer in (charge, counted(answer=Receipt(SECRET)), counted(answer=object())):
        call = flavour.function(answer, persistence_store=flavour.layer(), config=config)
        call(1)
    assert {event.name for event in events} == {"claimed", "completed", "answer unavailable"}
    assert [event.level for event in events] == [record.levelno for record in caplog.records]
    assert Completed.level == logging.DEBUG


def test_the_log_has_each_event_in_fields_and_nothing_private(flavour, charge, caplog):
    caplog.set_level(logging.DEBUG, "retrysafe")
    layer = flavour.layer()
    call = flavour.function(charge, persistence_store=layer)
    call({"card": SECRET})
    call({"card": SECRET})
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=0)
    call({"card": SECRET})
    logged = [record.idempotency for record in caplog.records if hasattr(record, "idempotency")]
    assert [fields["event"] for fields in logged] == ["claimed", "completed", "replayed", "taken over", "completed"]
    assert all(fields["idempotency_key"].count("#") == 1 for fields in logged)
    json.dumps(logged)
    assert SECRET not in caplog.text + json.dumps(logged)
    assert repr(layer).count(SECRET) == 0
    assert all(SECRET not in repr(record) for record in flavour.inner(layer)._records.values())


def test_only_what_needs_attention_is_a_warning(flavour, charge, caplog):
    caplog.set_level(logging.INFO, "retrysafe")
    layer = flavour.layer()
    call = flavour.function(charge, persistence_store=layer)
    call(1)
    call(1)
    assert caplog.records == []
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=0)
    call(1)
    assert [(record.levelname, record.idempotency["event"]) for record in caplog.records] == [("WARNING", "taken over")]


def test_the_log_does_not_show_the_keys_of_an_answer_that_cannot_be_stored(flavour, caplog):
    call = flavour.function(counted(answer={SECRET: object()}), persistence_store=flavour.layer())
    call(1)
    assert "answer unavailable" in caplog.text
    assert SECRET not in caplog.text + repr([record.__dict__ for record in caplog.records])


def test_a_hook_that_fails_changes_nothing_for_the_caller(flavour, charge, caplog):
    def hook(event):
        raise RuntimeError("listener")

    call = flavour.function(charge, persistence_store=flavour.layer(), config=IdempotencyConfig(event_hook=hook))
    assert call(1) == call(1) == {"card": SECRET}
    assert "event_hook failed" in caplog.text


def failing_hook(event):
    try:
        int("within the hook")
    except ValueError as error:
        raise RuntimeError("listener") from error


def test_the_log_of_a_hook_that_fails_shows_what_it_raised_and_no_place_in_the_answer(flavour, caplog):
    config = IdempotencyConfig(event_hook=failing_hook)
    flavour.function(counted(answer={SECRET: object()}), persistence_store=flavour.layer(), config=config)(1)
    assert "event_hook failed on the event 'answer unavailable'" in caplog.text
    assert caplog.text.count("ValueError: invalid literal") == caplog.text.count("RuntimeError: listener") == 2
    assert SECRET not in caplog.text


def test_a_hook_may_raise_errors_that_are_each_others_cause(flavour, caplog):
    def hook(event):
        first, second = RuntimeError("first"), RuntimeError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    config = IdempotencyConfig(event_hook=hook)
    assert flavour.function(counted(), persistence_store=flavour.layer(), config=config)(1) == 1
    assert "event_hook failed on the event 'completed'" in caplog.text


def test_nor_what_the_body_of_a_block_raised(caplog):
    layer, config = MemoryPersistenceLayer(), IdempotencyConfig(event_hook=failing_hook)
    with (
        pytest.raises(ValueError, match=SECRET),
        idempotent_block("order", persistence_store=layer, config=config, key_prefix="block"),
    ):
        raise ValueError(SECRET)
    assert "'released'" in caplog.text
    assert "within the hook" in caplog.text
    assert SECRET not in caplog.text


def test_every_event_is_a_frozen_object_of_one_family(flavour, charge, events):
    config = IdempotencyConfig(event_hook=events.append)
    flavour.function(charge, persistence_store=flavour.layer(), config=config)(1)
    assert all(isinstance(event, IdempotencyEvent) for event in events)
    with pytest.raises(AttributeError, match="read-only"):
        events[0].owner = "x"


def test_what_a_log_filter_raises_changes_nothing_for_the_call(flavour, events):
    def refuse(record):
        raise RuntimeError

    call = flavour.function(counted(), persistence_store=flavour.layer(), key_prefix="p")
    config = IdempotencyConfig(event_hook=lambda event: events.append(event) or 1 / 0)
    fails = flavour.function(counted(error=ValueError("mine")), persistence_store=flavour.layer(), config=config)
    logger = logging.getLogger("retrysafe")
    logger.addFilter(refuse)
    logger.setLevel(logging.DEBUG)
    try:
        assert call(1) == call(1) == 1
        with pytest.raises(ValueError, match="mine"):
            fails(1)
    finally:
        logger.removeFilter(refuse)
        logger.setLevel(logging.NOTSET)
    assert [event.name for event in events] == ["claimed", "released"]
