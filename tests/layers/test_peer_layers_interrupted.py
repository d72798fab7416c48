"""Interruptions on a layer written for the peer: claims are taken back, and what stands is not removed."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import IdempotencyConfig, idempotent_batch, idempotent_function
from support.bodies import counted
from support.peer_layers import PeerLayer, in_batch


@pytest.fixture
def layer():
    return PeerLayer()


def leave(answer, record):
    raise KeyboardInterrupt


@pytest.mark.parametrize("form", ["function", "block"])
def test_a_duplicate_that_is_interrupted_does_not_remove_what_stands(layer, flavour, form):
    runs = []

    def work(n=1):
        runs.append(n)
        return len(runs)

    def call(hook=None):
        options = {"key_prefix": "p", "persistence_store": layer, "config": IdempotencyConfig(response_hook=hook)}
        return flavour.function(work, **options)(1) if form == "function" else flavour.block({"n": 1}, work, **options)

    call()
    with pytest.raises(KeyboardInterrupt):
        call(leave)
    assert (call(), runs) == (1, [1])


def test_nor_do_the_duplicates_of_a_batch(layer):
    def call(hook=None):
        config = IdempotencyConfig(response_hook=hook)
        return idempotent_batch(charge, persistence_store=layer, key_prefix="p", config=config)([1, 2, 3])

    charge = counted()
    call()
    with pytest.raises(KeyboardInterrupt):
        call(leave)
    assert [each.status for each in call()] == ["replayed"] * 3


def test_nor_do_those_of_an_async_batch(layer):
    async def charge(order):
        return order

    def call(hook=None):
        config = IdempotencyConfig(response_hook=hook)
        batch = idempotent_batch(charge, persistence_store=layer, key_prefix="p", config=config)
        return asyncio.run(batch([1, 2, 3]))

    call()
    with pytest.raises(KeyboardInterrupt):
        call(leave)
    assert [each.status for each in call()] == ["replayed"] * 3


def interrupted_claim(layer, charge):
    """A call whose claim the store never answers: Ctrl-C, or a task that is cancelled."""

    def put(record):
        if is_applied:
            original(record)
        raise KeyboardInterrupt

    original, is_applied = layer._put_record, not layer.items
    layer._put_record = put
    with pytest.raises(KeyboardInterrupt):
        charge(1)
    layer._put_record = original


@pytest.mark.parametrize("kind", ["single", "batch"])
@pytest.mark.parametrize("changes", [{}, {"status": "INPROGRESS"}], ids=["completed", "running"])
def test_nor_does_one_whose_claim_is_interrupted(layer, flavour, kind, changes):
    def work(n):
        runs.append(n)
        return n

    runs = []
    options = {"persistence_store": layer, "key_prefix": "p"}
    call = flavour.function(work, **options) if kind == "single" else in_batch(flavour, work, options)
    call(1)
    (item,) = layer.items.values()
    item |= changes
    item["in_progress_expiration"] += 60_000  # else nothing distinguishes a claim of the very same millisecond
    interrupted_claim(layer, call)
    assert list(layer.items.values()) == [item]
    assert runs == [1]


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_an_interrupted_claim_that_got_through_is_taken_back(layer, flavour, kind):
    options = {"persistence_store": layer, "key_prefix": "p"}
    work = counted()
    interrupted_claim(
        layer, flavour.function(work, **options) if kind == "single" else in_batch(flavour, work, options)
    )
    assert layer.items == {}
    assert work.body.runs == 0


@pytest.mark.parametrize(
    ("looks", "left"),
    [([KeyboardInterrupt()] * 2, 0), ([KeyboardInterrupt()] * 3, 1), ([ConnectionError()], 1)],
    ids=["interrupted-twice", "interrupted-thrice", "down"],
)
def test_it_is_looked_at_a_few_times_where_each_is_interrupted_and_left_where_the_store_fails(layer, looks, left):
    def get(key):
        if errors:
            raise errors.pop(0)
        return original(key)

    original, layer._get_record = layer._get_record, get
    errors = [*looks]
    interrupted_claim(layer, idempotent_function(counted(), persistence_store=layer))
    assert len(layer.items) == left
    assert errors == []


def test_one_that_did_not_get_through_leaves_nothing_to_take_back(layer):
    def put(record):
        raise KeyboardInterrupt

    layer._put_record, removed = put, []
    layer._delete_record = removed.append
    with pytest.raises(KeyboardInterrupt):
        idempotent_function(counted(), persistence_store=layer)(1)
    assert removed == []


@pytest.mark.parametrize(("changes", "left"), [({"owner": "other"}, 1), ({}, 0)], ids=["another's", "own"])
def test_where_the_layer_keeps_whole_records_it_is_the_owner_that_tells_though_the_leases_are_the_same(changes, left):
    class WholeRecords(PeerLayer):
        def _put_record(self, data_record):
            self.items[data_record.idempotency_key] = data_record.replaced(**changes)
            raise KeyboardInterrupt

        def _record(self, item):
            return item

    layer = WholeRecords()
    with pytest.raises(KeyboardInterrupt):
        idempotent_function(counted(), persistence_store=layer)(1)
    assert len(layer.items) == left
