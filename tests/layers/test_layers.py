"""The one suite, over every layer of this package, and over one that was written for the peer."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from retrysafe.persistence.memory import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from retrysafe.testing import ManualClock, PersistenceLayerContract
from support.four_methods import FourMethodLayer
from support.own_clock import OwnClockLayer


class TestMemory(PersistenceLayerContract):
    def make_layer(self, clock):
        return MemoryPersistenceLayer(clock=clock)


class TestAsyncMemory(PersistenceLayerContract):
    def make_layer(self, clock):
        return AsyncMemoryPersistenceLayer(clock=clock)


class TestMemoryInThreads(PersistenceLayerContract):
    def make_layer(self, clock):
        layer = MemoryPersistenceLayer(clock=clock)
        layer.blocking = True  # as a layer with a disk or a network says; else it is called without a thread
        return ThreadedPersistenceLayer(layer)


class TestSQLite(PersistenceLayerContract):
    layer_class = SQLitePersistenceLayer

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path):
        self.path = tmp_path / "records.db"

    def make_layer(self, clock):
        return self.layer_class(self.path, synchronous="off", clock=clock)

    def second_layer(self, layer):
        return self.make_layer(self.clock)

    def plant_unreadable(self, layer, idempotency_key):
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "INSERT INTO retrysafe (id, status, expiration, owner, attempt, validation, types, data) "
                "VALUES (?, x'00', 1, 'owner-9', 1, '', '', '')",
                (idempotency_key,),
            )
        return True


class TestAsyncSQLite(TestSQLite):
    layer_class = AsyncSQLitePersistenceLayer


class TestSQLiteInThreads(TestSQLite):
    def make_layer(self, clock):
        return ThreadedPersistenceLayer(super().make_layer(clock))


class TestFourMethods(PersistenceLayerContract):
    """What was promised there is kept here: unfenced, without a heartbeat, lapsed leases overwritten unasked."""

    fenced = False
    renews = False
    compares_takeovers = False
    keeps_every_field = False
    window_spares_leases = False

    def make_layer(self, clock):
        layer = FourMethodLayer(now=lambda: clock.now_ms() / 1000)
        layer.clock = clock
        return layer

    def plant(self, layer, data_record):
        layer.items[data_record.idempotency_key] = {
            "status": data_record.stored_status,
            "expiration": data_record.expiry_timestamp,
            "in_progress_expiration": data_record.in_progress_expiry_timestamp,
        }


class TestStoreWithItsOwnClock(PersistenceLayerContract):
    """As over a server: the store's clock is seven seconds ahead of the caller's."""

    own_clock = True

    def make_layer(self, clock):
        self.store_clock = ManualClock(clock.now_ms() + 7_100)
        return OwnClockLayer(clock=clock, store_clock=self.store_clock)

    def advance(self, seconds):
        self.clock.advance(seconds)
        self.store_clock.advance(seconds)
