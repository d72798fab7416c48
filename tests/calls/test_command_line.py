"""The command line: it shows what stands under a key, and resolves the run that was looked at and no other."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import sqlite3
import subprocess
import sys
import time

import pytest

from retrysafe import IdempotencyConfig, idempotent_function, layer_from_url
from retrysafe.__main__ import STORE_VARIABLE, main
from retrysafe.exceptions import IdempotencyAbandonedError, IdempotencyPersistenceConnectionError
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.dynamodb_support import new_table

KEY = "shop.charge#dead"


def running(layer, *, lease_s, owner="first", **fields):
    """Leave the record of a run whose lease ends so many seconds from now."""
    now_ms = time.time_ns() // 1_000_000
    claim = DataRecord(KEY, INPROGRESS, now_ms // 1000 + 3600, now_ms + 50, owner=owner, made_at_ms=now_ms, **fields)
    layer._put_record(claim)
    layer._renew_record(claim.replaced(in_progress_expiry_timestamp=now_ms + round(lease_s * 1000)))


@pytest.fixture(params=["sqlite", "cache", "dynamodb"])
def store(request, tmp_path, monkeypatch):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    if request.param == "dynamodb":
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        server = request.getfixturevalue("dynoxide")
        return f"dynamodb://{new_table(server)}?region=eu-central-1&endpoint_url={server.url}"
    server = request.getfixturevalue("redis_62")
    server.command("FLUSHALL")
    return server.url


@pytest.fixture
def layer(store):
    with layer_from_url(store) as layer:
        yield layer


@pytest.fixture
def said(store, capsys):
    """What a command prints, and how it exits."""

    def say(*arguments, store=store):
        code = main([*arguments, "--store", store] if store else arguments)
        printed = capsys.readouterr()
        return code, printed.out or printed.err

    return say


def test_a_run_that_never_ended_is_shown(layer, said):
    running(layer, lease_s=-40)
    code, shown = said("show", KEY)
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert (code, lines["key"], lines["owner"], lines["attempt"]) == (0, KEY, "first", "1")
    assert lines["status"] == "INPROGRESS: its lease is over"
    assert lines["lease"].endswith("s ago")
    assert " in " in lines["window"]


def test_a_moment_is_told_as_a_date_and_from_now(layer, said):
    for lease_s, pattern in ((1000, "until (.+), in (.+) s"), (-40, "until (.+), (.+) s ago")):
        running(layer, lease_s=lease_s)
        standing, now = layer._get_record(KEY), time.time()
        lines = dict(line.split(maxsplit=1) for line in said("show", KEY)[1].splitlines())
        for line, end in (
            (lines["lease"], standing.in_progress_expiry_timestamp / 1000),
            (lines["window"], standing.expiry_timestamp),
        ):
            told = re.fullmatch(pattern if line is lines["lease"] else "until (.+), in (.+) s", line)
            assert dt.datetime.fromisoformat(told[1]).timestamp() == end // 1
            assert abs(int(told[2]) - abs(end - now)) < 30  # however slow the machine
        layer._delete_record(standing)


def test_a_run_is_resolved_under_its_owners_name_alone(said, capsys):
    for command in (["release", KEY], ["complete", KEY, "--answer", "1"], ["complete", KEY, "--owner", "first"]):
        with pytest.raises(SystemExit):
            said(*command)
        assert "the following arguments are required: --" in capsys.readouterr().err


def test_a_run_that_lives_is_shown_and_not_resolved(layer, said):
    running(layer, lease_s=60)
    assert "INPROGRESS: running" in said("show", KEY)[1]
    for command in (("release",), ("complete", "--answer", "1")):
        code, told = said(*command, KEY, "--owner", "first")
        assert (code, "nothing was changed" in told) == (1, True)
    assert layer._get_record(KEY).owner == "first"


def test_an_answer_is_shown_on_request_alone(store, said, events):
    config = IdempotencyConfig(event_hook=events.append)
    idempotent_function(lambda _: "receipt 17", persistence_store=store, key_prefix="shop.charge", config=config)(1)
    key = events[-1].idempotency_key
    code, shown = said("show", key)
    assert (code, "COMPLETED: duplicates get the answer" in shown, "receipt" in shown) == (0, True, False)
    assert "receipt 17" in said("show", key, "--answer")[1]


def test_a_run_that_did_nothing_is_released(layer, said):
    running(layer, lease_s=-1)
    assert said("release", KEY, "--owner", "first") == (0, f"{KEY}: free; the next call runs\n")
    assert said("show", KEY) == (1, f"{KEY}: no record; the next call runs\n")
    assert said("release", KEY, "--owner", "first")[0] == 1


def test_a_run_that_did_its_work_is_completed_and_duplicates_get_the_answer(store, said, events):
    config = IdempotencyConfig(on_abandoned="raise", event_hook=events.append)

    def charge(order):
        raise AssertionError(order)

    call = idempotent_function(charge, persistence_store=store, key_prefix="shop.charge", config=config)
    with pytest.raises(AssertionError):
        call(1)
    with layer_from_url(store) as layer:
        key = events[-1].idempotency_key
        now_ms = time.time_ns() // 1_000_000
        layer._put_record(DataRecord(key, INPROGRESS, now_ms // 1000 + 60, now_ms - 1, owner="dead", made_at_ms=now_ms))
        with pytest.raises(IdempotencyAbandonedError):
            call(1)
        code, shown = said(
            "complete", key, "--owner", "dead", "--answer", '"receipt 17"', "--expires-after-seconds", "9"
        )
        assert (code, "COMPLETED" in shown) == (0, True)
        assert call(1) == "receipt 17"
        assert layer._get_record(key).expiry_timestamp <= time.time() + 10
    code, told = said("release", key, "--owner", "dead")
    assert (code, "COMPLETED" in told, "nothing was changed" in told) == (1, True, True)


def test_the_run_that_was_looked_at_is_resolved_and_no_later_one(layer, said):
    running(layer, lease_s=-1)
    for command in (("release",), ("complete", "--answer", "1")):
        code, told = said(*command, KEY, "--owner", "another")
        assert (code, "the owner is first by now, not --owner=another" in told) == (1, True)
    assert layer._get_record(KEY).stored_status == INPROGRESS


@pytest.mark.parametrize("answer", ["receipt 17", "[" * 100_000])
def test_what_is_no_json_is_refused_before_anything_is_written(answer, layer, said):
    running(layer, lease_s=-1)
    code, told = said("complete", KEY, "--owner", "first", "--answer", answer)
    assert (code, f"--answer={answer}: must be JSON" in told) == (1, True)
    assert layer._get_record(KEY).stored_status == INPROGRESS


def test_the_environment_names_the_store_so_that_no_password_is_among_the_processes(layer, store, said, monkeypatch):
    running(layer, lease_s=-1)
    monkeypatch.setenv(STORE_VARIABLE, store)
    assert said("show", KEY, store=None)[0] == 0


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("", "--store URL"),
        ("memory://", "gone with its process"),
        ("sqlite:///nowhere.db", "there is no such file"),
        (f"sqlite:///{'long' * 99}.db", "there is no such file"),
        ("postgres://there", "its scheme is none of"),
    ],
)
def test_a_store_that_is_not_there_is_refused_and_not_made(store, told, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    code, shown = said("show", KEY, store=store)
    assert (code, told in shown) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_program(tmp_path):
    store = f"sqlite:///{tmp_path}/records.db"
    with layer_from_url(store) as layer:
        running(layer, lease_s=-1)
    command = [sys.executable, "-m", "retrysafe", "show", KEY, "--store", store]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.startswith(f"key      {KEY}\n")


@pytest.mark.parametrize("store", ["sqlite:///shop.db", "sqlite:///shop.db?table=misspelled"])
def test_a_file_without_the_table_is_refused_and_left_as_it_is(said, tmp_path, monkeypatch):
    """It may be another program's, which has no use for a table of ours, nor for a write-ahead log."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE orders (id)")
    before = file.read_bytes()
    code, told = said("show", KEY)
    assert (code, "write ?table=" in told) == (1, True)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("store", ["sqlite:///records.db?table=jobs"])
def test_a_table_is_found_by_its_name_in_letters_of_either_case(store, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with layer_from_url(store.replace("jobs", "Jobs")) as layer:
        running(layer, lease_s=-1)
    assert said("show", KEY)[0] == 0


@pytest.mark.parametrize("store", ["sqlite:///records.db"])
@pytest.mark.parametrize(("content", "told"), [(b"a letter", "is no SQLite database"), (None, "is a directory")])
def test_a_file_that_is_no_database_is_refused(content, told, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "records.db"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    code, shown = said("show", KEY)
    assert (code, told in shown) == (1, True)


@pytest.mark.parametrize("store", ["sqlite:///records.db"])
def test_a_peers_record_is_left_to_the_stores_own_tools(store, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    now_ms = time.time_ns() // 1_000_000
    with layer_from_url(store) as layer:
        layer._put_record(DataRecord(KEY, INPROGRESS, now_ms // 1000 + 60, now_ms - 1, made_at_ms=now_ms))
    assert "none: a peer wrote it" in said("show", KEY)[1]
    for command in (("release",), ("complete", "--answer", "1")):
        code, told = said(*command, KEY, "--owner", "None")
        assert (code, "has no owner, as a peer wrote it" in told) == (1, True)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_the_output_has_no_letters_for_is_escaped(encoding, tmp_path):
    key = "café#☃"
    store = f"sqlite:///{tmp_path}/records.db"
    with layer_from_url(store) as layer:
        layer._put_record(DataRecord(key, INPROGRESS, 99_999_999_999, None, owner="first"))
    command = [sys.executable, "-m", "retrysafe", "show", key, "--store", store]
    environ = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    shown = subprocess.run(command, capture_output=True, env=environ, check=True, timeout=60)
    assert shown.stdout.splitlines()[0] == b"key      " + key.encode(encoding, "backslashreplace")


@pytest.mark.parametrize("store", ["cache"], indirect=True)
@pytest.mark.parametrize(("sign", "told"), [("", "too far ahead for a date"), ("-", "too long ago for a date")])
@pytest.mark.parametrize("digits", [20, 400, 4290])
def test_a_moment_that_is_no_date_is_told_too(digits, sign, told, redis_62, said):
    """A peer may write any number."""
    number = sign + "9" * digits
    redis_62.command("SET", KEY, f'{{"status": "INPROGRESS", "expiration": {number}, "in_progress_expiration": 5}}')
    code, shown = said("show", KEY)
    assert (code, f"window   until a moment {told}" in shown) == (0, True)


@pytest.mark.parametrize("store", ["sqlite:///records.db"])
def test_a_completed_run_that_cannot_be_shown_is_told_to_be_completed(store, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reads = SQLitePersistenceLayer._get_record
    down = IdempotencyPersistenceConnectionError("it is down")

    def read(layer, key):
        record = reads(layer, key)
        if record.stored_status != INPROGRESS:
            raise down
        return record

    with layer_from_url(store) as layer:
        running(layer, lease_s=-1)
        monkeypatch.setattr(SQLitePersistenceLayer, "_get_record", read)
        told = said("complete", KEY, "--owner", "first", "--answer", "1")
        assert told == (0, f"{KEY}: completed, and cannot be shown: it is down\n")
        assert reads(layer, KEY).response_data == "1"
