"""What a caller gets wrong is refused where it is written, by one error that names it."""

from __future__ import annotations

import functools
import operator
from unittest.mock import MagicMock

import pytest

from retrysafe import (
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.serialization.custom_dict import CustomDictSerializer
from retrysafe.serialization.no_op import NoOpSerializer
from support.refusals import awaited, coroutine_function, function, store


@pytest.mark.parametrize("config", [{"expires_after_seconds": 60}, IdempotencyConfig, "", 0, False], ids=repr)
@pytest.mark.parametrize("key", [None, lambda given: given["order"]], ids=["", "with a key"])
def test_what_is_no_config_is_refused_when_decorating(config, key):
    with pytest.raises(IdempotencyConfigError, match="config must be an IdempotencyConfig"):
        idempotent_function(function, persistence_store=store, config=config, key=key)


def test_what_has_no_signature_is_refused_when_decorating():
    for decorate in (idempotent, idempotent_function):
        with pytest.raises(IdempotencyConfigError, match="no signature"):
            decorate(max, persistence_store=store, key_prefix="max")


def test_a_method_written_in_c_can_be_decorated():
    get = idempotent_function(dict.get, persistence_store=MemoryPersistenceLayer(), key_prefix="get")
    assert get({"a": 1}, "a") == get({}, "a") == 1


@pytest.mark.parametrize(("option", "functions"), [("to_dict", (None, dict)), ("from_dict", (dict, "dict"))])
def test_a_serializer_that_could_not_store_the_answer_is_refused_before_there_is_one(option, functions):
    with pytest.raises(IdempotencyConfigError, match=f"{option} of CustomDictSerializer"):
        CustomDictSerializer(*functions)


class Awaited:
    async def __call__(self, *given):
        raise AssertionError


each_function_that_is_handed_over = pytest.mark.parametrize(
    ("option", "make"),
    [
        ("response_hook", lambda given: IdempotencyConfig(response_hook=given)),
        ("event_hook", lambda given: IdempotencyConfig(event_hook=given)),
        ("key", lambda given: idempotent_function(function, persistence_store=store, key=given)),
        ("key", lambda given: idempotent_function(coroutine_function, persistence_store=store, key=given)),
        ("key", lambda given: idempotent_batch(function, persistence_store=store, key=given)),
        ("item_identifier", lambda given: idempotent_batch(function, persistence_store=store, item_identifier=given)),
        ("to_dict of CustomDictSerializer", lambda given: CustomDictSerializer(given, dict)),
        ("from_dict of CustomDictSerializer", lambda given: CustomDictSerializer(dict, given)),
    ],
)


@pytest.mark.parametrize("given", [awaited, Awaited()], ids=["function", "object"])
@each_function_that_is_handed_over
def test_a_coroutine_function_where_nothing_would_await_it_is_refused(option, make, given):
    with pytest.raises(IdempotencyConfigError, match=f"{option} must be a plain function"):
        make(given)


@pytest.mark.parametrize("given", [lambda: None, lambda one, two, three: None], ids=["none", "three"])
@each_function_that_is_handed_over
def test_a_function_that_could_not_be_called_as_it_will_be_is_refused(option, make, given):
    with pytest.raises(IdempotencyConfigError, match=rf"{option} is called with \("):
        make(given)


def test_any_callable_that_can_be_called_so_is_taken():
    for hook in (print, dict, MagicMock(), functools.partial(print, 1), lambda answer, record=None: answer):
        assert IdempotencyConfig(event_hook=hook).event_hook is hook
    IdempotencyConfig(response_hook=lambda *given: given)
    idempotent_function(function, persistence_store=store, key=operator.itemgetter("order"))


@pytest.mark.parametrize("method", ["to_dict", "from_dict"])
@pytest.mark.parametrize("taker", ["function", "batch", "block", "handler"])
def test_a_serializer_that_nothing_would_await_is_refused_before_there_is_an_answer(taker, method):
    serializer = type("Own", (NoOpSerializer,), {method: awaited})()
    takers = {
        "function": lambda: idempotent_function(function, persistence_store=store, output_serializer=serializer),
        "batch": lambda: idempotent_batch(function, persistence_store=store, output_serializer=serializer),
        "block": lambda: idempotent_block(1, key_prefix="p", persistence_store=store, output_serializer=serializer),
        "handler": lambda: IdempotencyHandler(function, 1, IdempotencyConfig(), store, output_serializer=serializer),
    }
    with pytest.raises(IdempotencyConfigError, match=f"{method} of output_serializer=Own must be a plain function"):
        takers[taker]()


class WithHandlers:
    def none(self):
        raise AssertionError

    def all(self, *given):
        return given


def test_a_handler_that_takes_no_event_is_refused_when_decorating():
    for handler in (lambda: 1, WithHandlers.none, WithHandlers().none):
        with pytest.raises(IdempotencyConfigError, match="must take the event"):
            idempotent(handler, persistence_store=store, key_prefix="handler")
    assert idempotent(WithHandlers().all, persistence_store=MemoryPersistenceLayer(), key_prefix="all")(1) == (1,)


@pytest.mark.parametrize("name", [None, 5, b"charge", object()], ids=lambda name: type(name).__name__)
def test_a_downstream_key_is_not_derived_from_what_may_be_shown_otherwise_in_the_next_attempt(name):
    @idempotent_function(persistence_store=MemoryPersistenceLayer(), key_prefix="pay")
    def pay(order):
        return current_execution().key_for(name)

    with pytest.raises(IdempotencyConfigError, match=f"a string.*{type(name).__name__}"):
        pay(1)


@pytest.mark.parametrize(
    "seconds", [-1, float("nan"), float("inf"), 10**400, True, None, "1"], ids=lambda value: str(value)[:9]
)
def test_outcomes_are_kept_back_for_a_number_of_seconds(seconds):
    with pytest.raises(IdempotencyConfigError, match="record_after_seconds"):
        idempotent_batch(function, persistence_store=store, record_after_seconds=seconds)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"function_args": given} for given in (5, 0, False, "order-1", b"order-1", {"order": 1})),
        *({"function_kwargs": given} for given in ("no", 0, "", [("order", 1)], {1: 2})),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("handler", "called"), [(IdempotencyHandler, function), (AsyncIdempotencyHandler, coroutine_function)]
)
def test_what_are_no_arguments_is_refused_when_the_handler_is_made(handler, called, arguments):
    with pytest.raises(IdempotencyConfigError, match=next(iter(arguments))):
        handler(called, 1, IdempotencyConfig(), store, **arguments)


class Timeless:
    def __init__(self, left):
        self.left = left

    def get_remaining_time_in_millis(self):
        return self.left


@pytest.mark.parametrize("context", [Timeless, Timeless(None), Timeless(float("nan"))], ids=["class", "None", "nan"])
def test_a_lambda_context_that_tells_no_time_is_refused_before_anything_runs(context):
    ran = []

    @idempotent(persistence_store=MemoryPersistenceLayer(), key_prefix="handler")
    def handler(event, context):
        ran.append((event, context))

    with pytest.raises(IdempotencyConfigError, match="get_remaining_time_in_millis"):
        handler({"id": 1}, context)
    assert ran == []
