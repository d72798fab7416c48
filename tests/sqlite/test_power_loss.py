"""The plug pulled: what a caller was told, and what a function began on, stands after the power has failed."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from random import Random

import pytest

from retrysafe import current_execution, idempotent_batch, idempotent_function
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.power import PowerDisk, Removal, Sync, Write

ORDERS = 200
# So that the log is written back into the database, and begun anew, several times.
RECEIPT = "receipt of {} " + "x" * 12_000
MOMENTS = 40


@dataclass(frozen=True)
class Began:
    """The function runs."""

    key: str


@dataclass(frozen=True)
class Told:
    """The caller has the answer."""

    order: int
    answer: str


def one_by_one(charge, layer, tell, orders=ORDERS):
    call = idempotent_function(charge, persistence_store=layer, key_prefix="orders")
    for order in range(orders):
        tell(Told(order, call(order)))


def in_threads(charge, layer, tell):
    call = idempotent_function(charge, persistence_store=layer, key_prefix="orders")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda order: tell(Told(order, call(order))), range(ORDERS)))


def in_batches(charge, layer, tell):
    consume = idempotent_batch(charge, persistence_store=layer, key_prefix="orders")
    for first in range(0, ORDERS, 50):
        orders = range(first, first + 50)
        for order, result in zip(orders, consume(list(orders)), strict=True):
            tell(Told(order, result.answer))


@pytest.fixture
def disk(make_disk):
    made = make_disk(PowerDisk)
    yield made
    made.steps.clear()


@pytest.fixture
def chance():
    return Random(2711)  # noqa: S311  # of what is left, the same in each run


@pytest.fixture
def run(disk, path):
    """Charge all orders; the disk remembers."""

    def charge(order):
        disk.note(Began(current_execution().idempotency_key))
        return RECEIPT.format(order)

    def carry_out(work, synchronous):
        with disk, SQLitePersistenceLayer(path, synchronous=synchronous) as layer:
            work(charge, layer, disk.note)

    return carry_out


def moments(disk, kinds, chance):
    """Some of those right after such a step, the last one among them."""
    after = [number + 1 for number, said in enumerate(disk.steps) if isinstance(said, kinds)]
    return sorted({*chance.sample(after, min(MOMENTS, len(after))), after[-1]})


def made(disk):
    """Before which step the first function began."""
    return next(number for number, said in enumerate(disk.steps) if isinstance(said, Began))


def found(path):
    """What is in the database: status and answer by key."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT id, status, data FROM retrysafe").fetchall()
    return {key: (status, data) for key, status, data in rows}


def told_before(disk, moment):
    return [said for said in disk.steps[:moment] if isinstance(said, Told)]


def restored(disk, moment, folder, chance):
    folder.mkdir()
    disk.left_behind(moment, folder, chance)
    return folder / "records.db"


@pytest.mark.parametrize("work", [one_by_one, in_threads, in_batches])
def test_every_answer_that_was_given_and_every_claim_of_what_ran_stands(disk, run, work, tmp_path, chance):
    run(work, "full")
    for moment in moments(disk, (Told, Began), chance):
        path = restored(disk, moment, tmp_path / str(moment), chance)
        stored = found(path)
        began = {said.key for said in disk.steps[:moment] if isinstance(said, Began)}
        assert began <= stored.keys()
        assert all(stored[key][0] in (INPROGRESS, COMPLETED) for key in began)
        answers = [data for status, data in stored.values() if status == COMPLETED]
        assert {f'"{said.answer}"' for said in told_before(disk, moment)} <= set(answers)

    def charge(order):
        pytest.fail(f"order {order} ran again")

    replayed = []
    with SQLitePersistenceLayer(path) as layer:
        work(charge, layer, replayed.append)
    assert {said.answer for said in replayed} == {RECEIPT.format(order) for order in range(ORDERS)}


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_the_database_is_whole_whenever_the_power_fails(disk, run, synchronous, tmp_path, chance):
    run(one_by_one, synchronous)
    logs = [said for said in disk.steps if isinstance(said, Write) and said.name.endswith("-wal") and said.at == 0]
    assert len(logs) > 2, "the log was never begun anew"
    for moment in moments(disk, (Write, Sync, Removal), chance):
        if moment > made(disk):
            found(restored(disk, moment, tmp_path / str(moment), chance))


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_power_that_fails_while_the_file_is_made_leaves_one_to_go_on_with(disk, run, synchronous, tmp_path, chance):
    run(lambda charge, layer, tell: one_by_one(charge, layer, tell, orders=1), synchronous)
    for moment in range(1, made(disk)):
        path = restored(disk, moment, tmp_path / str(moment), chance)
        with SQLitePersistenceLayer(path) as layer:
            assert idempotent_function(lambda order: order, persistence_store=layer, key_prefix="orders")(1) == 1


def test_with_normal_no_more_than_the_last_answers_are_undone(disk, run, tmp_path, chance):
    run(one_by_one, "normal")
    undone = 0
    for moment in moments(disk, Told, chance):
        stored = found(restored(disk, moment, tmp_path / str(moment), chance))
        answers = {data for status, data in stored.values() if status == COMPLETED}
        stands = [f'"{said.answer}"' in answers for said in told_before(disk, moment)]
        assert stands == sorted(stands, reverse=True)
        undone += not all(stands)
    assert undone, "what a disk may lose is not seen here"
