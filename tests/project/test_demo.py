"""The demo: it shows what it claims, its count agrees with the ledger, and it fails when idempotency is off."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from retrysafe.switch import VARIABLES as DISABLED_VARIABLES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the demo kills with SIGKILL")

EXAMPLES = Path(__file__).parents[2] / "examples"
DELIVERIES = 300
PAYMENTS = 180


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if name not in (*DISABLED_VARIABLES, "FORCE_COLOR")}
    return {**kept, "COLUMNS": "100", **variables}


def delivered(directory, deliveries=DELIVERIES, payments=PAYMENTS, seed=1):
    file = directory / f"deliveries-{seed}.jsonl"
    size = ["--deliveries", str(deliveries), "--payments", str(payments), "--seed", str(seed)]
    subprocess.run([sys.executable, EXAMPLES / "deliveries.py", *size, "--to", file], check=True, capture_output=True)
    return file


def started(directory, deliveries, **variables):
    return subprocess.Popen(
        [sys.executable, EXAMPLES / "payments.py", "--deliveries", deliveries, "--out", directory],
        env=environment(**variables),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(directory, process):
    output, _ = process.communicate()
    table = {
        what.strip(): int(number.replace(",", "")) for what, number in re.findall(r"│ (.+?) │ +([\d,]+) │", output)
    }
    ledger = [json.loads(line) for line in (directory / "ledger.jsonl").read_text().splitlines()]
    charges = Counter(entry["payment_id"] for entry in ledger if entry["entry"] == "charge")
    return SimpleNamespace(
        directory=directory,
        exit_code=process.returncode,
        output=output,
        table=table,
        charges=charges,
        refusals=sum(entry["entry"] == "refusal" for entry in ledger),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same deliveries with idempotency and without, side by side."""
    directory = tmp_path_factory.mktemp("demo")
    file = delivered(directory)
    cases = {directory / "on": {}, directory / "off": {"RETRYSAFE_DISABLED": "1"}}
    processes = {out: started(out, file, **variables) for out, variables in cases.items()}
    return SimpleNamespace(**{out.name: finished(out, process) for out, process in processes.items()})


@pytest.fixture
def examples(monkeypatch):
    """Imports a module of the examples."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def test_each_payment_is_charged_once_through_duplicates_and_a_killed_worker(runs):
    assert runs.on.exit_code == 0, runs.on.output
    assert len(runs.on.charges) == PAYMENTS
    assert set(runs.on.charges.values()) == {1}


def test_the_table_agrees_with_the_ledger(runs):
    assert runs.on.table == {
        "deliveries": DELIVERIES,
        "delivered again after the crash": 1,
        "payments charged": PAYMENTS,
        "deliveries replayed, without a charge": DELIVERIES - PAYMENTS,
        "of them, waited for a payment under way": runs.on.table["of them, waited for a payment under way"],
        "payments taken over after the crash": 1,
        "repeated charge keys refused by the provider": runs.on.refusals,
        "payments charged twice": 0,
        "payments lost": 0,
    }


def test_the_killed_worker_had_charged_so_that_only_the_charge_key_kept_the_takeover_from_charging_again(runs):
    assert runs.on.refusals == 1
    with closing(sqlite3.connect(runs.on.directory / "idempotency.db")) as records:
        assert records.execute("SELECT status, attempt FROM retrysafe WHERE attempt > 1").fetchall() == [
            ("COMPLETED", 2)
        ]


def test_duplicates_met_payments_under_way(runs):
    assert runs.on.table["of them, waited for a payment under way"] > 0


def test_without_idempotency_the_same_deliveries_charge_payments_twice_and_the_demo_fails(runs):
    assert runs.off.exit_code == 1, runs.off.output
    twice = sum(times > 1 for times in runs.off.charges.values())
    assert twice > 0
    assert runs.off.table["payments charged twice"] == twice
    assert sum(runs.off.charges.values()) == DELIVERIES + 1  # the killed worker's delivery is charged again too
    assert runs.off.table["payments taken over after the crash"] == 0


def test_a_payment_without_a_charge_counts_as_lost(examples, tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    entries = [{"entry": "charge", "payment_id": "a"}, {"entry": "refusal", "payment_id": "b"}]
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    payments = examples("payments")
    counted = payments.count_ledger([{"payment_id": "a"}, {"payment_id": "b"}], ledger)
    assert counted == payments.LedgerCount(charged=1, refused=1, charged_twice=0, lost=1)


@pytest.fixture
def ctrl_c():
    """Programs started here heed Ctrl-C, also where the tests themselves ignore it, as a shell's background jobs do."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_all_processes_without_a_traceback(tmp_path):
    process = started(tmp_path, delivered(tmp_path, deliveries=10_000, payments=6_000))
    ledger = tmp_path / "ledger.jsonl"
    while not (ledger.exists() and ledger.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate()  # to the end of the output, which the workers have open too
    assert process.returncode == 130, output
    assert "Stopped." in output
    assert "Traceback" not in output


def test_the_same_seed_makes_the_same_deliveries(tmp_path):
    first = delivered(tmp_path).read_bytes()
    assert delivered(tmp_path).read_bytes() == first
    assert delivered(tmp_path, seed=2).read_bytes() != first


def test_each_payment_is_delivered_one_to_five_times_some_duplicates_at_once_and_some_later(examples):
    deliveries = [event["payment_id"] for event in examples("deliveries").flaky_deliveries(10_000, 6_000, seed=1)]
    times = Counter(deliveries)
    assert len(deliveries) == 10_000
    assert len(times) == 6_000
    assert set(times.values()) == {1, 2, 3, 4, 5}
    at_once = sum(one == next_one for one, next_one in itertools.pairwise(deliveries))
    assert 1_000 < at_once < 3_000
