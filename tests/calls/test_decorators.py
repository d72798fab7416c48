"""The decorators: what is the payload, what is refused when decorating, and what stays as it was."""

from __future__ import annotations

import functools
import inspect
import pathlib
import re
import threading

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyKeyError
from support.bodies import counted


@pytest.fixture
def layer():
    return MemoryPersistenceLayer()


def keys(layer):
    return set(layer._records)


# --- the payload ---------------------------------------------------------------------------------------------------


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


# --- one layer, many functions -------------------------------------------------------------------------------------


def test_each_function_keeps_its_own_config_on_a_shared_layer(flavour, clock):
    layer = flavour.layer(clock=clock)
    charges = counted(), counted()
    short, long = (
        flavour.function(
            charge,
            persistence_store=layer,
            key_prefix=f"f{seconds}",
            config=IdempotencyConfig(expires_after_seconds=seconds),
        )
        for charge, seconds in zip(charges, (10, 1000), strict=True)
    )
    short({"id": 1})
    long({"id": 1})
    clock.advance(100)
    assert (short({"id": 1}), long({"id": 1})) == (2, 1)


def test_nested_idempotent_calls_on_one_layer_keep_their_keys_and_answers(layer):
    @idempotent_function(persistence_store=layer)
    def inner(n):
        return f"inner {n}"

    @idempotent_function(persistence_store=layer)
    def outer(n):
        return [inner(n), inner(n + 1), f"outer {n}"]

    assert outer(1) == outer(1) == ["inner 1", "inner 2", "outer 1"]
    assert len(keys(layer)) == 3


def test_many_threads_on_one_layer_never_get_each_others_answers(layer):
    @idempotent_function(
        data_keyword_argument="n", persistence_store=layer, config=IdempotencyConfig(on_in_progress="wait")
    )
    def double(n):
        return 2 * n

    wrong = []

    def work(start):
        wrong.extend(n for n in range(start, start + 200) if double(n) != 2 * n)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 50, 100, 150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- the decorated function ----------------------------------------------------------------------------------------


def test_a_decorated_function_keeps_its_name_its_signature_and_its_kind(flavour):
    def charge(order: dict, *, note: str = "") -> int:
        """Charges."""
        return 1

    for decorate in (idempotent_function, idempotent):
        decorated = decorate(flavour.body(charge), persistence_store=flavour.layer())
        assert (decorated.__name__, decorated.__doc__) == ("charge", "Charges.")
        assert inspect.signature(decorated) == inspect.signature(charge)
        assert inspect.iscoroutinefunction(decorated) is flavour.is_async


def test_the_decorators_work_with_and_without_brackets_of_their_own(layer):
    @idempotent(persistence_store=layer)
    def handler(event, context):
        return event

    assert handler({"id": 1}, None) == {"id": 1}
    assert idempotent(lambda event, context: 5, persistence_store=layer)({"id": 2}, None) == 5
    assert idempotent_function(lambda n: 6, persistence_store=layer)(3) == 6


def test_a_handler_takes_event_and_context_by_position_or_name_and_further_keywords(flavour):
    def handler(event, context=None, **more):
        return more

    call = flavour.handler(handler, persistence_store=flavour.layer())
    assert call({"id": 1}, None, extra=1) == {"extra": 1}
    assert call(event={"id": 1}, context=object()) == {"extra": 1}
    assert call({"id": 1}) == {"extra": 1}


def test_the_handler_class_does_what_the_decorators_do(flavour):
    charge, layer = counted(), flavour.layer()
    for _ in range(2):
        answer = flavour.handle(charge, {"id": 1}, IdempotencyConfig(), layer, function_args=[{"id": 1}])
        assert answer == 1
    keyed = flavour.handle(
        charge, {"id": 1}, IdempotencyConfig(), layer, key_prefix="p", function_kwargs={"order": {"id": 1}}
    )
    assert keyed == 2
    assert [key.split("#")[0] for key in flavour.inner(layer)._records][1] == "p"


@pytest.mark.parametrize("variable", ["RETRYSAFE_DISABLED", "POWERTOOLS_IDEMPOTENCY_DISABLED"])
def test_an_environment_variable_switches_idempotency_off_with_a_warning(flavour, monkeypatch, variable):
    charge, layer = counted(), flavour.layer()
    call = flavour.function(charge, persistence_store=layer)
    monkeypatch.setenv(variable, "true")
    with pytest.warns(UserWarning, match=variable) as warned:
        assert [call(1), call(1)] == [1, 2]
    assert "retrysafe" not in pathlib.Path(warned[0].filename).parts[-2:], "it points at the user's line"
    monkeypatch.setenv(variable, "false")
    assert [call(1), call(1)] == [3, 3]


def test_the_response_hook_sees_replays_only_and_has_the_last_word(flavour):
    seen = []

    def hook(response, idempotent_data):
        seen.append((response, idempotent_data.stored_status))
        return {**response, "replayed": True}

    config = IdempotencyConfig(response_hook=hook)
    call = flavour.function(lambda order: {"id": order}, persistence_store=flavour.layer(), config=config)
    assert call(7) == {"id": 7}
    assert call(7) == {"id": 7, "replayed": True}
    assert seen == [({"id": 7}, "COMPLETED")]


# --- what is refused when decorating -------------------------------------------------------------------------------


def generator(order):
    yield order


class CallableGenerator:
    def __call__(self, order):
        yield order


async def async_generator(order):
    yield order


def plain(order):
    return order


@pytest.mark.parametrize(
    ("decorate", "message"),
    [
        (lambda: idempotent_function(plain, persistence_store=AsyncMemoryPersistenceLayer()), "AsyncMemory.*plain"),
        (lambda: idempotent(plain, persistence_store=AsyncMemoryPersistenceLayer()), "AsyncMemory.*plain"),
        (lambda: idempotent_function(generator, persistence_store="memory://"), "generator.*generator function"),
        (
            lambda: idempotent_function(functools.partial(generator, 1), key_prefix="a", persistence_store="memory://"),
            r"functools\.partial is a generator function",
        ),
        (
            lambda: idempotent_function(CallableGenerator(), key_prefix="a", persistence_store="memory://"),
            r"CallableGenerator is a generator function",
        ),
        (lambda: idempotent_function(async_generator, persistence_store="memory://"), "async_generator.*generator"),
        (
            lambda: idempotent_function(plain, data_keyword_argument="oder", persistence_store="memory://"),
            r"data_keyword_argument='oder'.*plain\(order\)",
        ),
        (lambda: idempotent_function(plain, data_keyword_argument=3, persistence_store="memory://"), "it is 3"),
        (
            lambda: idempotent_function(
                lambda *orders: 1, data_keyword_argument="orders", persistence_store="memory://"
            ),
            "'orders' must name one argument",
        ),
        (lambda: idempotent_function(plain, persistence_store=None), "persistence_store.*None"),
        (lambda: idempotent_function(plain, persistence_store=MemoryPersistenceLayer), "persistence_store.*class"),
        (lambda: idempotent_function(plain, persistence_store="memory://", config={}), r"config.*\{\}"),
        (lambda: idempotent_function(plain, persistence_store="memory://", key="k"), "key must be callable.*'k'"),
        (
            lambda: idempotent_function(
                plain,
                persistence_store="memory://",
                key=str,
                config=IdempotencyConfig(event_key_jmespath="id"),
            ),
            "event_key_jmespath='id'",
        ),
        (lambda: idempotent_function(plain, persistence_store="memory://", key_prefix=3), "key_prefix.*3"),
        (lambda: idempotent_function(plain, persistence_store="memory://", key_prefix="\ud800"), "key_prefix.*UTF-8"),
        (lambda: idempotent_function(functools.partial(plain), persistence_store="memory://"), "key_prefix is needed"),
        (lambda: idempotent_function(classmethod(plain), persistence_store="memory://"), "@classmethod above"),
        (lambda: idempotent_function(3, persistence_store="memory://"), "callable.*3"),
        (lambda: idempotent_function(dict, persistence_store="memory://"), "dict.*is a class"),
        (lambda: idempotent_function(plain, persistence_store="memory://", output_serializer=3), "output_serializer"),
        (lambda: idempotent_block(1, key_prefix="", persistence_store=MemoryPersistenceLayer()), "key_prefix"),
        (lambda: idempotent_block(1, key_prefix="p", persistence_store="x"), "persistence_store.*'x'"),
        (lambda: IdempotencyHandler(plain, 1, None, AsyncMemoryPersistenceLayer()), "synchronous layer"),
    ],
)
def test_wrong_use_is_one_clear_error_when_decorating(decorate, message):
    with pytest.raises(IdempotencyConfigError, match=message):
        decorate()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x", "none of memory://, sqlite://"),
        ("", "none of memory://"),
        ("sqlite://[x", "names a host"),
        ("redsi://user:secret@host/0", r"//\.\.\.@host"),
        ("memory://host", "names a host.*write memory:// alone"),
        ("memory:///path", "neither a path"),
        ("sqlite://", "names no file"),
        ("sqlite://host/x.db", "host"),
        ("sqlite:///%ff.db", "no UTF-8"),
        ("sqlite:///x.db?synchron=off", "unknown option 'synchron'"),
        ("sqlite:///x.db?synchronous=maybe", "synchronous.*'maybe'"),
        ("sqlite:///x.db?busy_timeout_seconds=soon", "busy_timeout_seconds='soon'"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder/x.db"),
    ],
)
def test_a_url_that_names_no_layer_is_one_clear_error_when_decorating(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdempotencyConfigError, match=message):
        idempotent_function(plain, persistence_store=url)
    assert list(tmp_path.iterdir()) == []


def test_a_url_opens_the_layer_of_the_functions_kind(flavour, tmp_path):
    charge = counted()
    call = flavour.function(charge, persistence_store=f"sqlite:///{tmp_path}/x.db?synchronous=off", key_prefix="x")
    assert [call(1), call(1)] == [1, 1]
    assert (tmp_path / "x.db").exists()


def test_a_function_of_the_main_module_on_a_shared_store_is_warned_about_its_prefix(tmp_path, monkeypatch):
    charge = counted()
    charge.__module__ = "__main__"
    store = f"sqlite:///{tmp_path}/x.db"
    with pytest.warns(UserWarning, match="key_prefix") as warned:
        idempotent_function(charge, persistence_store=store)
    assert warned[0].filename == __file__
    idempotent_function(charge, persistence_store=store, key_prefix="shop")
    idempotent_function(charge, persistence_store="memory://")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    idempotent_function(charge, persistence_store=store)
