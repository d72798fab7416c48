"""The layer for PostgreSQL in examples/: the one suite, on a real server, and what it does beside the contract."""

from __future__ import annotations

import itertools
import time

import psycopg
import pytest
from postgres_layer import PostgresPersistenceLayer

from retrysafe import DataRecord, idempotent_function
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.testing import PersistenceLayerContract

_schemas = itertools.count(1)


@pytest.fixture
def conninfo(postgres):
    """A schema of one's own."""
    name = f"test_{next(_schemas)}"
    with psycopg.connect(postgres.url) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"{postgres.url}?options=-csearch_path%3D{name}"


class TestPostgres(PersistenceLayerContract):
    own_clock = True
    lease_seconds = 0.5
    window_seconds = 1

    @pytest.fixture(autouse=True)
    def _database(self, conninfo):
        self.conninfo = conninfo

    def make_layer(self, clock):
        return PostgresPersistenceLayer(self.conninfo)

    def second_layer(self, layer):
        return PostgresPersistenceLayer(self.conninfo)

    def advance(self, seconds):
        time.sleep(seconds)


def test_records_that_are_over_are_swept_and_others_stay(conninfo):
    with PostgresPersistenceLayer(conninfo) as layer:
        now_ms = time.time_ns() // 1_000_000
        for number in range(6):
            window_end = now_ms // 1000 + (3600 if number < 3 else -3600)
            record = DataRecord(f"key-{number}", "COMPLETED", window_end, response_data="1", owner="o")
            layer._put_record(record.replaced(made_at_ms=now_ms))
        assert [layer.sweep(limit=2), layer.sweep(), layer.sweep()] == [2, 1, 0]
        assert [layer._get_record(f"key-{number}").response_data for number in range(3)] == ["1"] * 3
        with pytest.raises(IdempotencyItemNotFoundError):
            layer._get_record("key-3")


def test_a_function_runs_once_also_across_layers(conninfo):
    def charge(order):
        ran.append(order)
        return {"receipt": order}

    ran = []
    for _ in range(2):
        with PostgresPersistenceLayer(conninfo) as layer:
            assert idempotent_function(charge, persistence_store=layer, key_prefix="shop")(7) == {"receipt": 7}
    assert ran == [7]
