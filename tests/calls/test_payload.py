"""What is the payload of a call: which of its arguments, and what is refused as one."""

from __future__ import annotations

import functools
import pathlib
import re

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.exceptions import IdempotencyKeyError
from support.bodies import counted, keys, only_record


@pytest.fixture
def layer():
    return MemoryPersistenceLayer()


def test_the_payload_is_the_named_argument_however_the_caller_passes_it(flavour):
    runs = []

    def charge(customer, order={"id": 1}, *, note=None):  # noqa: B006  # a default that is a payload
        runs.append(order)
        return len(runs)

    layer = flavour.layer()
    call = flavour.function(charge, data_keyword_argument="order", persistence_store=layer)
    assert [call("a", {"id": 1}), call("b", order={"id": 1}), call(customer="c"), call("d", note="x")] == [1, 1, 1, 1]
    assert call("a", {"id": 2}) == 2


def test_without_a_named_argument_all_of_them_are_the_payload_by_name(flavour):
    runs = []

    def charge(order, amount=5, *more, **options):
        runs.append(order)
        return len(runs)

    call = flavour.function(charge, persistence_store=flavour.layer())
    assert [call(1), call(1, 5), call(order=1, amount=5)] == [1, 1, 1]
    assert [call(1, 6), call(1, 5, 7), call(1, flag=True)] == [2, 3, 4]


def test_self_and_cls_are_no_part_of_the_payload(layer):
    class Shop:
        runs = 0

        @idempotent_function(persistence_store=layer)
        def charge(self, order):
            Shop.runs += 1
            return Shop.runs

        @classmethod
        @idempotent_function(persistence_store=layer)
        def refund(cls, order):
            Shop.runs += 1
            return Shop.runs

    assert [Shop().charge(1), Shop().charge(1), Shop().charge(2)] == [1, 1, 2]
    assert [Shop.refund(1), Shop().refund(1)] == [3, 3]


def test_a_keyword_of_the_same_name_is_not_a_positional_only_payload(layer):
    @idempotent_function(data_keyword_argument="order", persistence_store=layer)
    def charge(order, /, **options):
        return order

    assert [charge("pay1", order="x"), charge("pay2", order="x")] == ["pay1", "pay2"]


def test_a_plain_functions_own_argument_called_self_is_payload(layer):
    @idempotent_function(persistence_store=layer)
    def charge(self):
        return self

    assert [charge(1), charge(2)] == [1, 2]


def test_an_argument_out_of_the_functions_own_keywords_can_be_the_payload(layer):
    @idempotent_function(data_keyword_argument="order", persistence_store=layer)
    def charge(**options):
        return options

    assert charge(order=1, n=1) == charge(order=1, n=2) == {"order": 1, "n": 1}
    with pytest.raises(TypeError, match="'order'"):
        charge(n=1)


def test_a_call_that_python_would_refuse_is_refused_before_anything_is_stored(layer):
    @idempotent_function(data_keyword_argument="order", persistence_store=layer)
    def charge(order):
        return order

    with pytest.raises(TypeError, match="order"):
        charge()
    assert not keys(layer)


def handing_on(function):
    """A decorator that calls the function with an argument of its own before those of the caller."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function("a client", *args, **kwargs)

    return wrapper


def test_a_position_that_a_decorator_below_shifts_is_not_taken_for_the_payload(layer):
    def charge(client, order, currency):
        raise AssertionError

    call = idempotent_function(handing_on(charge), data_keyword_argument="order", persistence_store=layer)
    with pytest.raises(TypeError, match="currency"):  # what stands second is the currency, the same for many orders
        call("order 1", "EUR")
    assert keys(layer) == set()


def test_the_payload_behind_such_a_decorator_can_be_passed_by_name(layer):
    call = idempotent_function(
        handing_on(lambda client, order: order), data_keyword_argument="order", persistence_store=layer, key_prefix="p"
    )
    assert [call(order=1), call(order=2)] == [1, 2]


@pytest.mark.parametrize("named", ["order", None])
def test_a_decorator_below_that_has_arguments_of_its_own_says_what_they_are(layer, named):
    runs = []

    def charge(client, item):
        runs.append(item)
        return len(runs)

    @functools.wraps(charge)
    def wrapper(order, note=None):
        return charge("a client", order)

    call = idempotent_function(wrapper, data_keyword_argument=named, persistence_store=layer)
    assert [call(1), call(order=1), call(2)] == [1, 1, 2]


@pytest.mark.parametrize("named", ["order", None])
def test_a_decorator_below_that_is_written_in_c_takes_what_its_function_takes(layer, named):
    runs = []

    @functools.cache
    def charge(order, note=None):
        runs.append(order)
        return len(runs)

    call = idempotent_function(charge, data_keyword_argument=named, persistence_store=layer)
    answers = [call(1), call(order=1), call(2)]
    charge.cache_clear()
    assert [*answers, call(1)] == [1, 1, 2, 1]
    assert runs == [1, 2]


def test_key_takes_the_key_from_all_arguments_by_name(flavour):
    layer = flavour.layer()
    charge = counted()
    call = flavour.function(charge, persistence_store=layer, key=lambda arguments: arguments["order"]["key"])
    assert [call({"key": "k1", "n": 1}), call({"key": "k1", "n": 2}), call({"key": "k2"})] == [1, 1, 2]
    by_expression = flavour.function(
        charge,
        data_keyword_argument="order",
        persistence_store=layer,
        config=IdempotencyConfig(event_key_jmespath="key"),
    )
    assert by_expression({"key": "k1"}) == 1, "a key of one's own and a selected one are the same key"


def test_a_key_that_is_none_is_told_apart_from_an_empty_payload(flavour):
    config = IdempotencyConfig(raise_on_no_idempotency_key=True)
    charge = counted()
    call = flavour.function(charge, persistence_store=flavour.layer(), config=config, key=lambda _: None)
    with pytest.raises(IdempotencyKeyError, match="what was given as its key is empty"):
        call({"n": 1})


@pytest.mark.parametrize(("lambda_name", "program"), [(None, "test-func"), ("orders", "orders")])
def test_without_a_prefix_of_its_own_it_is_made_of_lambdas_name_the_module_and_the_function(
    flavour, monkeypatch, lambda_name, program
):
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    if lambda_name is not None:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", lambda_name)

    def charge(order):
        return order

    layer = flavour.layer()
    flavour.function(charge, persistence_store=layer)(1)
    prefix, _, _ = only_record(flavour, layer).idempotency_key.partition("#")
    assert prefix == f"{program}.{__name__}.{charge.__qualname__}"


def test_the_same_payload_of_two_functions_has_two_keys_and_a_prefix_joins_them(layer):
    for prefix, count in [(None, 2), ("shop", 3)]:
        for name in ("charge", "refund"):
            body = counted()
            body.__qualname__ = name
            idempotent_function(body, persistence_store=layer, key_prefix=prefix)({"id": 1})
        assert len(keys(layer)) == count


def test_a_payload_without_a_key_runs_unprotected_with_a_warning_or_is_refused(flavour):
    charge = counted()
    layer = flavour.layer()
    config = IdempotencyConfig(event_key_jmespath="id")
    call = flavour.function(charge, data_keyword_argument="order", persistence_store=layer, config=config)
    for _ in range(2):
        with pytest.warns(UserWarning, match="event_key_jmespath='id' selects nothing") as warned:
            call({"other": 1})
        assert "retrysafe" not in pathlib.Path(warned[0].filename).parts[-2:], "it points at the user's line"
    assert charge.body.runs == 2
    config = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    call = flavour.function(charge, data_keyword_argument="order", persistence_store=layer, config=config)
    with pytest.raises(IdempotencyKeyError, match="event_key_jmespath='id'"):
        call({"other": 1})
    assert charge.body.runs == 2


def test_a_payload_that_cannot_be_hashed_is_refused_with_its_place_before_anything_runs(flavour):
    charge = counted()
    call = flavour.function(charge, data_keyword_argument="order", persistence_store=flavour.layer())
    with pytest.raises(IdempotencyKeyError, match=re.escape('payload["items"][1]["tags"]') + ".*set"):
        call({"items": [{}, {"tags": {"a"}}]})
    assert charge.body.runs == 0
