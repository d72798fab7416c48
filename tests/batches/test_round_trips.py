"""What a batch costs on SQLite, on DynamoDB, and on layers with and without a form for many records."""

from __future__ import annotations

import asyncio
import threading

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer
from retrysafe.persistence._threads import Threads
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.many import AT_ONCE, form_for_many, one_by_one
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from support.batch_shops import Shop, orders
from support.dynamodb_support import client_at, new_table

# --- SQLite -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_a_look_and_two_transactions_on_sqlite_and_a_replayed_one_a_look(tmp_path, monkeypatch):
    with SQLitePersistenceLayer(tmp_path / "records.db") as layer:
        reads, writes = [], []
        read, write = layer._connections.read, layer._connections.write
        monkeypatch.setattr(layer._connections, "read", lambda command: reads.append(command) or read(command))
        monkeypatch.setattr(layer._connections, "write", lambda command: writes.append(command) or write(command))
        monkeypatch.setattr(layer._connections, "write_unless_locked", lambda command: None)
        shop = Shop(layer)
        for expected in (2, 0):
            reads.clear()
            writes.clear()
            shop.charge(orders("order"))
            assert (len(reads), len(writes)) == (1, expected)


def test_claims_that_a_rival_wins_between_look_and_write_are_told_apart(tmp_path, monkeypatch):
    with (
        SQLitePersistenceLayer(tmp_path / "records.db") as layer,
        SQLitePersistenceLayer(tmp_path / "records.db") as other,
    ):
        rival, shop = Shop(other), Shop(layer)
        write = layer._connections.write

        def late(command):
            if not rival.runs:
                rival.charge(orders("order", 6)[::2])
            return write(command)

        monkeypatch.setattr(layer._connections, "write", late)
        result = shop.charge(orders("order", 6))
    assert [each.status for each in result] == ["replayed", "returned"] * 3
    assert len(rival.runs) == len(shop.runs) == 3


# --- DynamoDB ---------------------------------------------------------------------------------------------------------


class Waiting:
    """A client of DynamoDB whose requests wait for each other, so many at a time."""

    def __init__(self, client, together):
        self._client = client
        self.meta = client.meta
        self._barrier = threading.Barrier(together)
        self.put_item = self._together(client.put_item)
        self.get_item, self.update_item, self.delete_item = client.get_item, client.update_item, client.delete_item

    def _together(self, method):
        def request(**parameters):
            self._barrier.wait(30)
            return method(**parameters)

        return request


def test_dynamodb_is_asked_for_many_records_at_the_same_time(dynoxide):
    table = new_table(dynoxide)
    layer = DynamoDBPersistenceLayer(table, boto3_client=Waiting(client_at(dynoxide.url), together=8))
    shop = Shop(layer)
    assert {each.status for each in shop.charge(orders("order", 16))} == {"returned"}
    layer.close()


def test_an_interruption_waits_for_the_requests_under_way_and_sends_no_further_ones():
    threads, begun, done = Threads(2), threading.Semaphore(0), []
    go_on = threading.Event()

    def request(number):
        begun.release()
        go_on.wait(30)
        done.append(number)

    class Interrupted:
        """A list of arguments, the end of which is an interruption."""

        def __len__(self):
            return 20

        def __iter__(self):
            yield from range(10)
            begun.acquire()
            begun.acquire()
            threading.Timer(0.01, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        threads.outcomes(request, Interrupted())
    assert len(done) == 2
    threads.close()


# --- layers with and without a form for many --------------------------------------------------------------------------


def test_a_class_that_writes_a_method_anew_is_asked_by_that_method(tmp_path):
    stored = []

    class Counting(SQLitePersistenceLayer):
        def _update_record(self, data_record):
            stored.append(data_record.idempotency_key)
            super()._update_record(data_record)

    with Counting(tmp_path / "records.db") as layer:
        assert form_for_many(layer, "put", one_by_one) == layer._for_each
        Shop(layer).charge(orders("order", 5))
        asyncio.run(ThreadedPersistenceLayer(layer)._for_each("get", ["a", "b"]))
    assert len(stored) == 5


def test_an_async_layer_without_a_form_for_many_is_asked_for_some_at_the_same_time():
    async def main():
        under_way, most = 0, 0
        inner = MemoryPersistenceLayer()

        class Plain(AsyncBasePersistenceLayer):
            async def _put_record(self, data_record):
                nonlocal under_way, most
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(0)
                under_way -= 1
                inner._put_record(data_record)

            async def _get_record(self, idempotency_key):
                return inner._get_record(idempotency_key)

            async def _update_record(self, data_record):
                inner._update_record(data_record)

            async def _delete_record(self, data_record):
                inner._delete_record(data_record)

        config = IdempotencyConfig(in_progress_expires_after_seconds=3600)
        shop = Shop(Plain(), config=config, concurrency=2 * AT_ONCE)
        assert {each.status for each in await shop.charge(orders("order", 100))} == {"returned"}
        return most

    assert asyncio.run(main()) == AT_ONCE
