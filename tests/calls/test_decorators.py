"""The decorators: what stays as it was, what a URL opens, and many functions on one layer."""

from __future__ import annotations

import functools
import inspect
import multiprocessing
import pathlib
import subprocess
import sys
import textwrap
import threading

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent, idempotent_function
from support.bodies import counted, keys


@pytest.fixture
def layer():
    return MemoryPersistenceLayer()


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


def test_a_decorator_below_says_what_a_handler_takes_where_it_takes_no_more(layer):
    def without_event():
        return {"status": 200}

    @functools.wraps(without_event)
    def wrapper(event, context):
        return without_event() | {"event": event}

    handler = idempotent(wrapper, persistence_store=layer)
    assert handler({"id": 1}, None) == handler(event={"id": 1}, context=None) == {"status": 200, "event": {"id": 1}}
    assert len(keys(layer)) == 1


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


# --- stores by URL -------------------------------------------------------------------------------------------------


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
    assert "where this module is imported, it would have others" in str(warned[0].message)
    idempotent_function(charge, persistence_store=store, key_prefix="shop")
    idempotent_function(charge, persistence_store="memory://")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
    idempotent_function(charge, persistence_store=store)


def test_functions_whose_name_is_that_of_many_are_warned_about_their_prefix():
    def _(order):
        return order

    for function in (lambda order: order, _):
        with pytest.warns(
            UserWarning, match="no key_prefix: all functions that are called so there would share"
        ) as warned:
            idempotent_function(function, persistence_store=MemoryPersistenceLayer())
        assert warned[0].filename == __file__
        idempotent_function(function, persistence_store=MemoryPersistenceLayer(), key_prefix="shop")


def test_what_a_decorator_makes_without_the_name_of_its_function_is_warned_about_its_prefix():
    def logged(function):
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    def named(function):
        return functools.wraps(function)(logged(function))

    def any_of(*args, **kwargs):
        return args, kwargs

    layer = MemoryPersistenceLayer()
    with pytest.warns(UserWarning, match="no key_prefix: all functions that are called so there would share"):
        idempotent_function(logged(any_of), persistence_store=layer)
    idempotent_function(logged(any_of), persistence_store=layer, key_prefix="shop")
    idempotent_function(named(any_of), persistence_store=layer)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_function_of_the_main_module_has_one_key_in_all_processes_that_a_program_starts(tmp_path, method):
    program = """
        import multiprocessing, os, sys
        from retrysafe import idempotent_function

        @idempotent_function(persistence_store="sqlite:///records.db")
        def charge(order):
            return os.getpid()

        if __name__ == "__main__":
            with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
                sys.exit({charge(1), pool.apply(charge, [1])} != {os.getpid()})
    """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(program))
    subprocess.run([sys.executable, "-W", "ignore", script, method], cwd=tmp_path, timeout=60, check=True)
