"""How a run ends, and what its caller and the duplicates get then."""

from __future__ import annotations

import asyncio
import sys

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.exceptions import (
    IdempotencyConfigError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, UNAVAILABLE
from support.bodies import counted, only_record, plant


class DeclinedError(Exception):
    def __init__(self, code, *, reason=None):
        super().__init__(f"declined: {code}")
        self.code = code
        self.reason = reason


@pytest.mark.parametrize("answer", [None, 0, "", [], {}, False, (), {"a": (1, {2})}, b"x"], ids=repr)
def test_the_answer_comes_back_equal_and_of_the_same_type(flavour, answer):
    runs = []

    def charge(order):
        runs.append(order)
        return answer

    call = flavour.function(charge, persistence_store=flavour.layer())
    first, second = call({"id": 1}), call({"id": 1})
    assert first == second == answer
    assert type(second) is type(answer)
    assert len(runs) == 1


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), StopIteration(1)],
    ids=repr,
)
def test_an_exception_reaches_the_caller_and_frees_the_key(flavour, error):
    if flavour.is_async and isinstance(error, KeyboardInterrupt | SystemExit | StopIteration):
        pytest.skip("asyncio itself ends its loop on these, or turns them into others")
    charge = counted(error=error)
    layer = flavour.layer()
    call = flavour.function(charge, persistence_store=layer)
    with pytest.raises(type(error)) as raised:
        call({"id": 1})
    assert raised.value is error or flavour.is_async
    assert len(flavour.inner(layer)) == 0
    charge.body.error = None
    assert call({"id": 1}) == 2


def test_an_exception_that_is_an_answer_is_raised_again_and_not_run_again(flavour):
    charge = counted(error=DeclinedError("51", reason={"limit": 100}))
    layer = flavour.layer()
    config = IdempotencyConfig(replay_exceptions=[LookupError, DeclinedError])
    call = flavour.function(charge, persistence_store=layer, config=config)
    with pytest.raises(DeclinedError) as first:
        call({"id": 1})
    with pytest.raises(DeclinedError) as second:
        call({"id": 1})
    assert charge.body.runs == 1
    assert second.value is not first.value
    assert str(second.value) == str(first.value) == "declined: 51"
    assert (second.value.code, second.value.reason) == ("51", {"limit": 100})
    assert only_record(flavour, layer).stored_status == FAILED


def test_so_is_one_of_a_class_derived_from_a_named_one(flavour):
    charge = counted(error=KeyError("card"))
    config = IdempotencyConfig(replay_exceptions=[LookupError])
    call = flavour.function(charge, persistence_store=flavour.layer(), config=config)
    for _ in range(2):
        with pytest.raises(LookupError, match="card"):
            call({"id": 1})
    assert charge.body.runs == 1


def test_an_error_of_our_own_inside_the_function_is_no_answer_unless_it_is_named(flavour):
    charge, layer = counted(error=IdempotencyPersistenceLayerError("inner store")), flavour.layer()
    config = IdempotencyConfig(replay_exceptions=[Exception])
    call = flavour.function(charge, persistence_store=layer, config=config)
    for runs in (1, 2):
        with pytest.raises(IdempotencyPersistenceLayerError):
            call({"id": 1})
        assert charge.body.runs == runs
    config = IdempotencyConfig(replay_exceptions=[IdempotencyPersistenceLayerError])
    call = flavour.function(charge, persistence_store=layer, config=config)
    for _ in range(2):
        with pytest.raises(IdempotencyPersistenceLayerError, match="inner store"):
            call({"id": 1})
        assert charge.body.runs == 3


def test_a_stored_failure_is_refused_where_its_class_is_not_named_any_more(flavour):
    charge, layer = counted(error=DeclinedError("51")), flavour.layer()
    call = flavour.function(
        charge, persistence_store=layer, config=IdempotencyConfig(replay_exceptions=[DeclinedError])
    )
    with pytest.raises(DeclinedError):
        call({"id": 1})
    call = flavour.function(charge, persistence_store=layer)
    with pytest.raises(IdempotencyResponseUnavailableError, match="its failure cannot be given again"):
        call({"id": 1})
    assert charge.body.runs == 1


def test_a_failure_that_is_an_answer_and_cannot_be_stored_is_seen_once_and_never_run_again(flavour, events):
    error = ValueError("no", object())
    charge, layer = counted(error=error), flavour.layer()
    config = IdempotencyConfig(replay_exceptions=[ValueError], event_hook=events.append)
    call = flavour.function(charge, persistence_store=layer, config=config)
    with pytest.raises(ValueError, match="no") as raised:
        call({"id": 1})
    assert raised.value is error
    with pytest.raises(IdempotencyResponseUnavailableError, match="its answer cannot be given again"):
        call({"id": 1})
    assert charge.body.runs == 1
    assert [event.name for event in events] == ["claimed", "answer unavailable"]
    assert events[1].reason == 'failure["args"][1]: object cannot be stored'


def test_an_answer_that_cannot_be_stored_is_given_once_and_never_run_again(flavour, events):
    thing = object()
    charge, layer = counted(answer=thing), flavour.layer()
    call = flavour.function(charge, persistence_store=layer, config=IdempotencyConfig(event_hook=events.append))
    assert call({"id": 1}) is thing
    with pytest.raises(IdempotencyResponseUnavailableError, match="its answer cannot be given again") as refused:
        call({"id": 1})
    assert charge.body.runs == 1
    assert refused.value.record.stored_status == UNAVAILABLE
    assert [event.name for event in events] == ["claimed", "answer unavailable"]
    assert events[1].reason == "answer: object cannot be stored"


def test_a_coroutine_or_generator_as_an_answer_is_refused_and_frees_the_key():
    async def later():
        return 1

    async def numbers():
        yield 1

    layer = MemoryPersistenceLayer()
    for body in (lambda order: later(), lambda order: (n for n in [1]), lambda order: numbers()):
        with pytest.raises(IdempotencyConfigError, match="has not run yet"):
            idempotent_function(body, persistence_store=layer, key_prefix="x")({"id": 1})
        assert len(layer) == 0


def test_an_answer_of_a_class_without_a_hash_is_given(flavour):
    class OfEqualClasses(type):  # noqa: PLW1641  # what is tested
        def __eq__(cls, other):
            return cls is other

    class Odd(metaclass=OfEqualClasses):
        pass

    thing = Odd()
    call = flavour.function(counted(answer=thing), persistence_store=flavour.layer())
    assert call({"id": 1}) is thing
    with pytest.raises(IdempotencyResponseUnavailableError):
        call({"id": 1})


def test_a_late_owner_gets_its_response_and_the_standing_record_and_overwrites_nothing(flavour, events):
    layer = flavour.layer()
    charge = counted(
        answer="mine",
        during=lambda: plant(flavour, layer, owner="other", attempt=2, status=COMPLETED, response_data='"theirs"'),
    )
    call = flavour.function(charge, persistence_store=layer, config=IdempotencyConfig(event_hook=events.append))
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        call({"id": 1})
    assert lost.value.response == "mine"
    assert lost.value.record.response_data == '"theirs"'
    assert events[-1].name == "lease lost"
    assert call({"id": 1}) == "theirs"


def test_a_late_owner_that_fails_leaves_the_new_owners_record_alone(flavour):
    layer = flavour.layer()
    charge = counted(error=ValueError("no"), during=lambda: plant(flavour, layer, owner="other", attempt=2))
    call = flavour.function(charge, persistence_store=layer)
    with pytest.raises(ValueError, match="no"):
        call({"id": 1})
    assert only_record(flavour, layer).owner == "other"


def test_a_late_owner_whose_failure_would_be_an_answer_is_told_with_it_as_the_cause(flavour):
    layer = flavour.layer()
    own = ValueError("no")
    charge = counted(error=own, during=lambda: plant(flavour, layer, owner="other", attempt=2))
    config = IdempotencyConfig(replay_exceptions=(ValueError,))
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        flavour.function(charge, persistence_store=layer, config=config)({"id": 1})
    assert lost.value.__cause__ is own
    assert lost.value.record.owner == only_record(flavour, layer).owner == "other"


def test_a_late_completion_does_not_bring_back_a_record_that_was_purged(flavour):
    layer = flavour.layer()
    charge = counted(answer="mine", during=flavour.inner(layer)._records.clear)
    call = flavour.function(charge, persistence_store=layer)
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        call({"id": 1})
    assert (lost.value.response, lost.value.record) == ("mine", None)
    assert len(flavour.inner(layer)) == 0


def test_the_payload_is_what_it_was_when_the_call_began(flavour):
    runs = []

    def charge(order):
        runs.append(dict(order))
        order.clear()

    call = flavour.function(charge, persistence_store=flavour.layer())
    call({"id": 1})
    call({"id": 1})
    assert runs == [{"id": 1}]


def test_an_answer_that_cannot_be_written_down_as_its_module_cannot_be_loaded_is_given_and_never_run_again(
    flavour, monkeypatch
):
    """As in a process at its limit of open files, or one whose program was replaced under it."""
    charge = counted(answer=("receipt", 1))
    layer = flavour.layer()
    call = flavour.function(charge, persistence_store=layer)
    monkeypatch.setitem(sys.modules, "retrysafe.exact.encode", None)
    assert call(1) == ("receipt", 1)
    monkeypatch.undo()
    assert only_record(flavour, layer).stored_status == UNAVAILABLE
    with pytest.raises(IdempotencyResponseUnavailableError):
        call(1)
    assert charge.body.runs == 1
