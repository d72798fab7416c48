"""Layers, configs and handlers that were made after Powertools' own: what goes on, and what is refused, and when."""

from __future__ import annotations

import contextlib
import functools
import importlib

import pytest

from retrysafe import (
    BasePersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.exceptions import (
    IdempotencyConfigError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyPersistenceConfigError,
    IdempotencyValidationError,
)
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer

PEER = "aws_lambda_powertools.utilities.idempotency"


# --- layers written after the peer's own ------------------------------------------------------------------------------


class RefusingByItself(MemoryPersistenceLayer):
    """It does with a record that stands what the peer's DynamoDB layer does."""

    def _put_record(self, data_record):
        try:
            super()._put_record(data_record)
        except IdempotencyItemAlreadyExistsError as refused:
            self._validate_payload(data_payload=data_record, stored_data_record=refused.old_data_record)
            self._save_to_cache(data_record=refused.old_data_record)
            raise


def test_a_layer_that_compares_payloads_and_fills_the_cache_by_inherited_methods_replays():
    layer, ran = RefusingByItself(), []
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="cents", use_local_cache=True)

    @idempotent_function(data_keyword_argument="order", persistence_store=layer, config=config)
    def charge(order):
        ran.append(order)
        return len(ran)

    assert charge(order={"id": 1, "cents": 5}) == charge(order={"id": 1, "cents": 5}) == 1
    with pytest.raises(IdempotencyValidationError):
        charge(order={"id": 1, "cents": 6})
    assert len(ran) == 1


# --- what cannot go on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BasePersistenceLayer, DynamoDBPersistenceLayer, CachePersistenceLayer])
@pytest.mark.parametrize(
    "name", ["_generate_hash", "_get_hashed_idempotency_key", "_get_hashed_payload", "save_inprogress", "save_success"]
)
def test_a_layer_that_overrides_what_only_the_peer_calls_is_refused_when_it_is_defined(base, name):
    assert hasattr(importlib.import_module(PEER).BasePersistenceLayer, name)
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"OwnLayer overrides {name}"):
        type("OwnLayer", (base,), {name: lambda *_: None})


def test_a_mixin_that_overrides_it_is_no_less_refused():
    class OwnKeys:
        def _generate_hash(self, data):
            return str(data)

    class OwnSteps:
        def _handle_for_status(self, data_record):
            return data_record

    with pytest.raises(IdempotencyPersistenceConfigError, match="OwnLayer overrides _generate_hash"):
        type("OwnLayer", (OwnKeys, MemoryPersistenceLayer), {})
    with pytest.raises(IdempotencyConfigError, match="OwnHandler overrides _handle_for_status"):
        type("OwnHandler", (OwnSteps, IdempotencyHandler), {})
    type("Overridden", (MemoryPersistenceLayer, OwnKeys), {})  # there nobody would call it, not even the peer


@pytest.mark.parametrize("name", ["_get_record", "_put_record", "_update_record", "_delete_record"])
@pytest.mark.parametrize("method", [lambda self, *, data_record: None, lambda self, **given: None])
def test_a_layer_whose_method_takes_its_argument_by_name_only_is_refused_before_it_can_lose_an_answer(name, method):
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"OwnLayer takes the argument of {name} by name only"):
        type("OwnLayer", (MemoryPersistenceLayer,), {name: method})
    type("AnyWay", (MemoryPersistenceLayer,), {name: lambda *given, **named: None})


@pytest.mark.parametrize(
    "method",
    [
        lambda self, record, *, extra=None: None,
        lambda self, record, **extra: None,
        lambda self, *given, extra=None: None,
        functools.partialmethod(lambda self, extra, record: None, 1),
    ],
    ids=["option", "options", "any-place", "no-code"],
)
def test_one_that_takes_it_in_its_place_beside_names_is_a_layer(method):
    type("OwnLayer", (MemoryPersistenceLayer,), {"_get_record": method})


class Configured:
    def configure(self, config, function_name=None, key_prefix=None):
        self.tenant = config.event_key_jmespath


class ConfiguredByWhateverItIs:
    def configure(self, *args, **kwargs):
        super().configure(*args, **kwargs)
        self.function_name = f"tenant.{self.function_name}"


class KeepingFailures:
    def delete_record(self, data, exception):
        if not isinstance(exception, ValueError):
            super().delete_record(data=data, exception=exception)


class Looking:
    def get_record(self, data):
        return super().get_record(data)


class LenientInWhateverWay:
    def _validate_payload(self, *payloads):
        with contextlib.suppress(IdempotencyValidationError):
            super()._validate_payload(*payloads)


class Lenient:
    def _validate_payload(self, data_payload, stored_data_record):
        """Nothing is refused."""


THEIRS = [Configured, ConfiguredByWhateverItIs, KeepingFailures, Looking, Lenient, LenientInWhateverWay]


@pytest.mark.parametrize("theirs", THEIRS)
def test_nor_is_one_that_overrides_it_under_a_name_that_could_mean_something_else_left_without_a_word(theirs):
    ((name, method),) = ((name, each) for name, each in vars(theirs).items() if callable(each))
    assert hasattr(importlib.import_module(PEER).BasePersistenceLayer, name)
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"OwnLayer overrides {name}"):
        type("OwnLayer", (BasePersistenceLayer,), {name: method})


def test_methods_that_only_have_such_a_name_are_a_layer_s_own():
    class Own(BasePersistenceLayer):
        def configure(self, url):
            return url

        def get_record(self, key):
            return key

        def delete_record(self, key):
            return key

    class Further(Own):
        def get_record(self, key):
            return super().get_record(key)

    assert Further.configure is Own.configure


@pytest.mark.parametrize(
    ("module", "kind", "names"),
    [
        ("dynamodb", "DynamoDBPersistenceLayer", ["_get_key", "_item_to_data_record"]),
        (
            "cache",
            "CachePersistenceLayer",
            ["_acquire_lock", "_get_expiry_second", "_item_to_data_record", "_put_in_progress_record"],
        ),
    ],
)
def test_a_shipped_layer_whose_inner_methods_are_overridden_is_refused_when_it_is_defined(module, kind, names):
    theirs, ours = (
        getattr(importlib.import_module(f"{each}.persistence.{module}"), kind) for each in (PEER, "retrysafe")
    )
    for name in names:
        assert hasattr(theirs, name)
        with pytest.raises(IdempotencyPersistenceConfigError, match=f"OwnLayer overrides {name}"):
            type("OwnLayer", (ours,), {name: lambda *_: None})
        type("OfFourMethods", (BasePersistenceLayer,), {name: lambda *_: None})  # there it is the layer's own


def test_a_handler_whose_steps_are_overridden_is_refused_when_it_is_defined():
    theirs, ours = (importlib.import_module(f"{each}.base").IdempotencyHandler for each in (PEER, "retrysafe"))
    steps = [name for name in vars(theirs) if name.startswith("_") and not name.startswith("__")]
    assert len(steps) == 5
    for name in steps:
        with pytest.raises(IdempotencyConfigError, match=f"OwnHandler overrides {name}"):
            type("OwnHandler", (ours,), {name: lambda *_: None})


def test_a_config_says_that_it_is_fixed_instead_of_taking_a_hook_that_others_would_get():
    with pytest.raises(ValueError, match="fixed once made; response_hook="):
        IdempotencyConfig().response_hook = print
