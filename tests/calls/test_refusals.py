"""What a caller gets wrong is refused where it is written, by one error that names it; and none shows a password."""

from __future__ import annotations

import functools
import operator
import traceback
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import redis

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
    layer_from_url,
)
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from retrysafe.serialization.custom_dict import CustomDictSerializer
from retrysafe.serialization.no_op import NoOpSerializer
from retrysafe.testing import AsyncFailingLayer, FailingLayer, ManualClock, crash_points, idempotency_disabled

SECRET = "hunter2"  # noqa: S105  # of nobody
URL = f"redis://user:{SECRET}@host:6379/0"

store = MemoryPersistenceLayer()


def function(order):
    return order


async def coroutine_function(order):
    return order


class Client:
    """redis-py 6.4 shows a client's password in its repr."""

    def __repr__(self) -> str:
        return f"<Client(password={SECRET})>"


def decorated(decorate):
    return lambda given: decorate(function, persistence_store=given, key_prefix="p")


TAKERS = {
    "idempotent": decorated(idempotent),
    "idempotent_function": decorated(idempotent_function),
    "idempotent_batch": decorated(idempotent_batch),
    "idempotent_block": lambda given: idempotent_block({"id": 1}, key_prefix="p", persistence_store=given),
    "IdempotencyHandler": lambda given: IdempotencyHandler(function, 1, IdempotencyConfig(), given),
    "AsyncIdempotencyHandler": lambda given: AsyncIdempotencyHandler(coroutine_function, 1, IdempotencyConfig(), given),
}
TAKE_URLS = ("idempotent", "idempotent_function", "idempotent_batch")

# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [URL.encode(), Client(), {"url": URL}, [URL]], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_no_layer_is_refused_without_the_password_it_holds(taker, given):
    with pytest.raises(IdempotencyConfigError, match="persistence_store must be") as refused:
        TAKERS[taker](given)
    assert type(given).__name__ in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("taker", [name for name in TAKERS if name not in TAKE_URLS])
def test_a_url_where_none_is_opened_is_refused_with_what_opens_it_and_without_its_password(taker):
    with pytest.raises(IdempotencyConfigError, match=r"persistence_store must be a .*layer") as refused:
        TAKERS[taker](URL)
    assert "layer_from_url()" in str(refused.value)
    assert "a URL;" not in str(refused.value), "as if one were taken"
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: SQLitePersistenceLayer(URL), "path="),
        (lambda: SQLitePersistenceLayer(URL.encode()), "path="),  # type: ignore[arg-type]  # that is the test
        (lambda: DynamoDBPersistenceLayer(URL), "table_name="),
        (lambda: DynamoDBPersistenceLayer("table", endpoint_url=f"https://user:{SECRET}@host"), "endpoint_url="),
        (lambda: CachePersistenceLayer(host=URL.encode()), "host="),  # type: ignore[arg-type]  # that is the test
    ],
)
def test_a_url_in_the_wrong_place_is_refused_without_its_password(make, option):
    with pytest.raises(IdempotencyPersistenceConfigError, match=option) as refused:
        make()
    assert SECRET not in str(refused.value)


def test_a_clients_error_shows_no_password_where_its_traceback_stands_before_ours():
    """redis-py 6.4 shows the options of its connections to Sentinels, with their password."""
    first = redis.ConnectionError(f"refused (password={SECRET})")
    error = RuntimeError(f"No master found for 'm' : <Connection(db=0,password={SECRET},host=h)>")
    error.__cause__ = first
    ours = explained(error, "host:6379")
    ours.__cause__ = error
    shown = "".join(traceback.format_exception(ours))
    assert "No master found" in shown
    assert "refused (" in shown
    assert SECRET not in shown


# --- the wrong kind of thing ------------------------------------------------------------------------------------------

LAYERS = {
    "memory": MemoryPersistenceLayer,
    "async memory": AsyncMemoryPersistenceLayer,
    "sqlite": lambda clock: SQLitePersistenceLayer("records.db", clock=clock),
    "async sqlite": lambda clock: AsyncSQLitePersistenceLayer("records.db", clock=clock),
    "cache": lambda clock: CachePersistenceLayer("redis://host", clock=clock),
    "async cache": lambda clock: AsyncCachePersistenceLayer("redis://host", clock=clock),
    "dynamodb": lambda clock: DynamoDBPersistenceLayer("table", clock=clock),
    "async dynamodb": lambda clock: AsyncDynamoDBPersistenceLayer("table", clock=clock),
}


@pytest.mark.parametrize("clock", [ManualClock, 1_893_456_000_000, lambda: 0], ids=["class", "number", "function"])
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_no_clock_is_refused_when_the_layer_is_made(layer, clock, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdempotencyPersistenceConfigError, match="clock="):
        LAYERS[layer](clock=clock)


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


async def awaited(*given):
    raise AssertionError


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
        IdempotencyConfig(event_hook=hook)
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
    ("make", "option"),
    [
        (lambda given: DynamoDBPersistenceLayer("table", boto3_client=given), "boto3_client=dict"),
        (lambda given: DynamoDBPersistenceLayer("table", boto3_session=given), "boto3_session=dict"),
        (lambda given: AsyncDynamoDBPersistenceLayer("table", client=given), "client=dict"),
        (lambda given: AsyncDynamoDBPersistenceLayer("table", session=given), "session=dict"),
    ],
)
def test_what_is_no_client_and_no_session_is_refused_by_its_option(make, option):
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"^{option} "):
        make({})


def test_a_class_of_client_in_place_of_a_client_is_refused():
    class Redis:
        async def execute_command(self):
            raise AssertionError

        evalsha = execute_command

    for make in (CachePersistenceLayer, AsyncCachePersistenceLayer):
        with pytest.raises(IdempotencyPersistenceConfigError, match="client=Redis is a class"):
            make(client=Redis)


def test_a_path_that_is_a_url_is_refused_with_what_takes_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"path='sqlite:///jobs\.db'.*layer_from_url"):
        SQLitePersistenceLayer("sqlite:///jobs.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["\ud800", Path("\udcff.db"), b"jobs.db", "a\0b", 5, None], ids=ascii)
def test_a_path_that_cannot_be_one_is_refused(path):
    with pytest.raises(IdempotencyPersistenceConfigError, match="path="):
        SQLitePersistenceLayer(path)


NAMES = ["in_progress_expiry_attr", "expiry_attr", "status_attr", "data_attr", "validation_key_attr"]


@pytest.mark.parametrize(
    ("layer", "option"),
    [
        *((CachePersistenceLayer, name) for name in NAMES),
        *((DynamoDBPersistenceLayer, name) for name in [*NAMES, "key_attr", "sort_key_attr", "static_pk_value"]),
    ],
)
@pytest.mark.parametrize("given", ["\ud800", "", b"name", 5, True], ids=ascii)
def test_a_name_that_no_store_takes_is_refused_when_the_layer_is_made(layer, option, given):
    """Redis would forget the attribute, and DynamoDB refuse the answer, both with the work done."""
    place = {"host": "host"} if layer is CachePersistenceLayer else {"table_name": "table"}
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"{option}="):
        layer(**place, **{option: given})


def test_an_option_that_a_url_gives_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdempotencyPersistenceConfigError, match="'table' is given twice"):
        layer_from_url("sqlite:///jobs.db?table=a&table=b")


@pytest.mark.parametrize("limit", [0, None, True, 1.5, float("nan"), "all", 2**63], ids=repr)
def test_a_sweep_of_no_number_of_records_is_refused(limit, tmp_path):
    with (
        SQLitePersistenceLayer(tmp_path / "jobs.db") as layer,
        pytest.raises(IdempotencyPersistenceConfigError, match="limit="),
    ):
        layer.sweep(limit)


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


# --- the kit for tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [None, MemoryPersistenceLayer, AsyncMemoryPersistenceLayer()], ids=["None", "class", "async"]
)
def test_a_failing_layer_takes_a_synchronous_layer_alone(layer):
    with pytest.raises(IdempotencyConfigError, match="layer must be an object of a BasePersistenceLayer"):
        FailingLayer(layer)


@pytest.mark.parametrize(
    "layer", [None, AsyncMemoryPersistenceLayer, MemoryPersistenceLayer()], ids=["None", "class", "sync"]
)
def test_an_asynchronous_failing_layer_takes_an_asynchronous_layer_alone(layer):
    with pytest.raises(IdempotencyConfigError, match="layer must be an object of a AsyncBasePersistenceLayer"):
        AsyncFailingLayer(layer)


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("operation=", {"operation": []}),
        ("call=", {"operation": "put", "call": "first"}),
        ("call=", {"operation": "put", "call": True}),
        ("error=", {"operation": "put", "error": 5}),
        ("error=", {"operation": "put", "error": int}),
    ],
)
def test_a_failure_that_cannot_be_is_refused_when_it_is_asked_for(told, arguments):
    with pytest.raises(ValueError, match=told):
        FailingLayer(store).fail(**arguments)


@pytest.mark.parametrize("start", ["2030-01-01", None, 1.5, float("nan"), True], ids=repr)
def test_a_clock_that_shows_no_time_is_refused(start):
    with pytest.raises(IdempotencyConfigError, match="start_ms="):
        ManualClock(start)


def test_effects_that_nothing_would_await_are_refused():
    with pytest.raises(ValueError, match=r"effects=.*plain function"):
        crash_points(function, 1, effects=awaited)


@pytest.mark.parametrize("given", [None, 5, "function", []], ids=repr)
def test_idempotency_is_switched_off_for_functions(given):
    with pytest.raises(TypeError, match=r"idempotency_disabled\(\) decorates functions"):
        idempotency_disabled()(given)


@pytest.mark.parametrize(
    "seconds", ["1", None, True, float("nan"), float("inf"), 10**400], ids=lambda value: repr(value)[:9]
)
def test_a_clock_is_moved_by_a_number_of_seconds(seconds):
    clock = ManualClock()
    with pytest.raises(IdempotencyConfigError, match="seconds="):
        clock.advance(seconds)
    assert clock.now_ms() == ManualClock().now_ms()


@pytest.mark.parametrize(
    "option",
    [
        {"max_points": "all"},
        {"max_points": float("nan")},
        {"retries": None},
        {"before_each": 5},
        {"on_kill": []},
        {"make_layer": MemoryPersistenceLayer()},
        {"advance": 3.0},
        {"seed": "x"},
        {"seed": None},
        {"before_each": awaited},
        {"on_kill": awaited},
        {"advance": awaited},
        {"make_layer": awaited},
    ],
    ids=lambda option: next(iter(option)),
)
def test_a_wrong_option_of_crash_points_is_refused_before_a_call_is_made(option):
    called = []
    with pytest.raises(ValueError, match=f"{next(iter(option))}="):
        crash_points(called.append, 1, effects=called, **option)
    assert called == []
