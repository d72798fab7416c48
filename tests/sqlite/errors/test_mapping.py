"""Whatever SQLite or its module refuses comes out as an error of ours, and the layer works on."""

from __future__ import annotations

import pickle
import sqlite3

import pytest

from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._sqlite.errors import explained
from support.sqlite_failures import SECRET, writes
from support.sqlite_support import claim, completed


class TestMapping:
    CODES = sorted(
        value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(value, int) and name.count("_") == 1
    )

    @pytest.mark.parametrize("opening", [False, True])
    def test_every_code_of_sqlite_becomes_an_error_of_ours(self, opening):
        for code in (*self.CODES, *range(1, 101), 266, 778, 1032, 5 | 99 << 8):
            error = sqlite3.DatabaseError("words of SQLite")
            error.sqlite_errorcode, error.sqlite_errorname = code, f"SQLITE_{code}"
            ours = explained(error, "/path/records.db", 5.0, opening=opening)
            assert isinstance(ours, IdempotencyPersistenceLayerError | IdempotencyPersistenceConfigError)
            assert str(ours).startswith("the SQLite database /path/records.db ")
            assert str(ours).endswith(f" - (SQLITE_{code}: words of SQLite)")
            assert "{" not in str(ours)

    @pytest.mark.parametrize(
        "error",
        [
            kind("words")
            for kind in (
                sqlite3.Error,
                *sqlite3.Error.__subclasses__(),
                *sqlite3.DatabaseError.__subclasses__(),
            )
        ]
        + [OverflowError("words"), UnicodeEncodeError("utf-8", SECRET, 0, 1, "words")],
        ids=lambda error: type(error).__name__,
    )
    def test_what_the_sqlite3_module_raises_by_itself_becomes_an_error_of_ours(self, error):
        ours = explained(error, "/path/records.db", 5.0)
        assert isinstance(ours, IdempotencyPersistenceLayerError)
        assert SECRET not in str(ours)

    @pytest.mark.parametrize("fault", ["denied", "interrupted", "closed behind its back"])
    def test_whatever_sqlite_refuses_comes_out_as_an_error_of_ours(self, layer, fault):
        for connection in (layer._connections._writer, *layer._connections._readers):
            if fault == "denied":
                connection.set_authorizer(lambda *action: sqlite3.SQLITE_DENY)
            elif fault == "interrupted":
                connection.set_progress_handler(lambda: 1, 1)
            else:
                connection.close()
        for method, argument in (*writes(layer), (layer._get_record, "key")):
            with pytest.raises(IdempotencyPersistenceLayerError) as caught:
                method(argument)
            assert isinstance(caught.value.__cause__, sqlite3.Error)

    @pytest.mark.parametrize("record", [claim("\ud800"), claim(window_s=2**70)], ids=["key", "window"])
    def test_a_value_that_sqlite_has_no_room_for_comes_out_as_an_error_of_ours(self, layer, record):
        with pytest.raises(IdempotencyPersistenceLayerError, match="cannot store a value"):
            layer._put_record(record.replaced(idempotency_key=record.idempotency_key + "new"))

    def test_a_value_of_another_type_comes_out_as_an_error_of_ours(self, layer):
        with pytest.raises(IdempotencyPersistenceLayerError):
            layer._put_record(claim("new").replaced(payload_hash=object()))

    def test_the_layer_works_on_after_an_error(self, layer):
        (reader,) = layer._connections._readers
        for connection in (layer._connections._writer, reader):
            connection.set_progress_handler(lambda: 1, 1)
        for method, argument in (*writes(layer), (layer._get_record, "key")):
            with pytest.raises(IdempotencyPersistenceLayerError):
                method(argument)
        for connection in (layer._connections._writer, reader):
            connection.set_progress_handler(None, 1)
        assert not layer._connections._writer.in_transaction
        for method, argument in writes(layer):
            method(argument)
        assert layer._get_record("key") == completed()


def test_a_layer_is_made_in_each_process_not_sent_there(layer):
    with pytest.raises(TypeError):
        pickle.dumps(layer)


def test_a_layer_that_a_signal_handler_closes_in_the_middle_of_a_write_says_that_it_is_closed(layer, monkeypatch):
    current_writer = layer._connections._current_writer

    def closed_behind(since):
        writer = current_writer(since)
        layer.close()
        return writer

    monkeypatch.setattr(layer._connections, "_current_writer", closed_behind)
    with pytest.raises(IdempotencyPersistenceConnectionError, match="was closed with its layer"):
        layer._put_record(claim("new"))
