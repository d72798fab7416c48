"""Workers whose clocks are wrong: they run nothing twice, overwrite nothing, and are told."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrysafe.clock import SystemClock
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from retrysafe.persistence.datarecord import INPROGRESS
from servers import programs
from support.dynamodb_support import HOUR_MS, client_at, items_of

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_worker_does_not_run_what_is_done(worker, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)
    assert right(1) == 1
    assert wrong(1) == 1
    assert wrong.body.runs == 0
    assert wrong(2) == 1
    assert right(2) == 1
    assert right.body.runs == 1


@pytest.mark.parametrize("hours", [2, -2])
def test_nor_does_the_first_call_of_one_in_lambda_which_does_not_ask_for_the_time(in_lambda, worker, service, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)
    right(1)
    del service.requests[:]
    assert wrong(1) == 1
    assert (wrong.body.runs, service.requests) == (0, ["PutItem"])


@pytest.mark.parametrize("hours", [2, -2])
def test_a_wrong_worker_neither_takes_over_nor_is_taken_over(worker, hours):
    right, wrong = worker(), worker(hours * HOUR_MS)

    def rival(call):
        with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
            call(1)
        assert 30 < refused.value.retry_after < 90

    right.body.during = lambda: rival(wrong)
    right(1)
    assert right.body.runs == 1
    wrong.body.during = lambda: right(2)
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        wrong(2)
    assert 30 < refused.value.retry_after < 90
    assert right.body.runs == 1


def test_a_process_asks_for_the_time_before_its_first_claim(worker, service):
    """So that not even one that dies in that moment leaves the key locked for as long as its clock was ahead."""
    wrong = worker(2 * HOUR_MS)
    wrong(1)
    assert service.requests == ["GetItem", "PutItem", "outcome"]
    del service.requests[:]
    wrong(2)
    assert service.requests == ["PutItem", "outcome"]
    del service.requests[:]
    assert (worker()(2), service.requests) == (2, ["GetItem"])


def test_in_lambda_only_the_first_write_of_a_wrong_worker_takes_one_request_more(in_lambda, worker, service):
    wrong = worker(2 * HOUR_MS)
    wrong(1)
    assert service.requests == ["PutItem", "UpdateItem", "outcome"]
    del service.requests[:]
    wrong(2)
    assert service.requests == ["PutItem", "outcome"]
    wrong(2)
    assert service.requests[2:] == ["PutItem"]


@pytest.mark.parametrize("hours", [0, 2, -2])
def test_what_is_really_over_is_gone_for_wrong_workers_too(dynoxide, table, worker, hours):
    before = worker()
    before(1)
    (item,) = items_of(dynoxide, table)
    item["expiration"] = {"N": str(before.clock.now_ms() // 1000 - 2 - (hours == 0))}
    client_at(dynoxide.url).put_item(TableName=table, Item=item)
    after = worker(hours * HOUR_MS)
    assert (after(1), after.body.runs) == (1, 1)


@pytest.mark.parametrize("hours", [2, -2])
def test_a_clock_that_leaps_while_it_runs(worker, hours, dynoxide, table):
    right, leaping = worker(), worker()
    leaping(0)
    right(1)

    def leap():
        leaping.clock.ahead_ms += hours * HOUR_MS

    # Between two calls ...
    leap()
    assert leaping(1) == 1
    assert leaping.body.runs == 1
    # ... and in the middle of one.
    leaping.body.during = leap
    assert leaping(2) == 2
    leaping.body.during = None
    ends = [int(item["expiration"]["N"]) - SystemClock().now_ms() // 1000 for item in items_of(dynoxide, table)]
    assert all(500 < end < 700 for end in ends)
    assert (right(2), right.body.runs) == (2, 1)


@pytest.mark.parametrize(("ahead_s", "said"), [(20, "ahead of"), (-20, "behind"), (3, None)])
def test_a_wrong_clock_is_told_once(worker, caplog, ahead_s, said):
    call = worker(ahead_s * 1000)
    with caplog.at_level(logging.WARNING, "retrysafe"):
        for order in range(3):
            call(order)
    told = [record.getMessage() for record in caplog.records if "clock" in record.getMessage()]
    assert [said in message for message in told] == ([] if said is None else [True])
    found = [finding.code for finding in call.layer.check()]
    assert ("clock-wrong" in found) == (said is not None)
    assert abs(call.layer.clock_skew_seconds + ahead_s) < 10


def test_how_wrong_a_clock_may_be_can_be_set(worker, caplog):
    call = worker(20_000, clock_skew_limit_seconds=60)
    call(1)
    assert not caplog.records
    assert call.layer.clock_skew_seconds < -5


# --- a process whose clock is moved -----------------------------------------------------------------------------------


WORKER = """
import pathlib, sys, time
from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from support.dynamodb_support import sync_layer
from types import SimpleNamespace

url, table, faked = sys.argv[1:]
faked = pathlib.Path(faked)
rules = IdempotencyConfig(expires_after_seconds=600, in_progress_expires_after_seconds=60)
layer = sync_layer(SimpleNamespace(url=url), table)

def charge(order):
    if order == "leaps":
        faked.write_text("-3h")
    return "run by the worker"

call = idempotent_function(charge, persistence_store=layer, key_prefix="orders", config=rules)
print(round(time.time()), call("done"))
try:
    call("running")
except IdempotencyAlreadyInProgressError:
    print("refused")
print(call("leaps"), round(time.time()))
print(call("done"))
"""


def test_a_process_whose_clock_is_hours_off_and_leaps_while_it_runs(dynoxide, table, worker, tmp_path):
    if FAKETIME is None:
        programs.missing("libfaketime", "tools/install_servers.sh (Debian: apt-get install libfaketime)")
    right = worker()
    right("done")
    now = right.clock.now_ms()
    running = None

    def remember():
        nonlocal running
        running = next(item for item in items_of(dynoxide, table) if item["status"]["S"] == INPROGRESS)

    right.body.during = remember
    right("running")
    client_at(dynoxide.url).put_item(TableName=table, Item=running)
    faked = tmp_path / "faketime"
    faked.write_text("+2h")
    moved = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(faked),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, dynoxide.url, table, faked],
        capture_output=True,
        text=True,
        env=os.environ | moved,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, refused, leaps, done = ran.stdout.splitlines()
    its_time, _, answer = first.partition(" ")
    assert int(its_time) * 1000 > now + HOUR_MS, "the clock was not moved"
    assert (answer, refused, done) == ("1", "refused", "1")
    answer, _, its_time = leaps.rpartition(" ")
    assert int(its_time) * 1000 < now - 2 * HOUR_MS, "the clock did not leap"
    assert answer == "run by the worker"
    assert right("leaps") == answer
    ends = [int(item["expiration"]["N"]) - now // 1000 for item in items_of(dynoxide, table)]
    assert all(0 < end < 700 for end in ends)
