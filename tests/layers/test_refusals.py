"""What a layer is given and cannot use is refused when it is made, by an error that names the option."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer, layer_from_url
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from retrysafe.testing import ManualClock

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
