"""Which keys the workers of a fleet have in common, found by letting each of them write."""

from __future__ import annotations

import base64

import pytest

from fleet.stores import PREFIX, digest


def executed_by(fleet, store, value, kinds):
    """Who executes this key when these are called with it, one after the other; the others replay."""
    before = len(fleet.ledger.of(value))
    for kind in kinds:
        fleet.worker(kind).call(store.spec, value, 1)
    return fleet.ledger.of(value)[before:]


@pytest.mark.parametrize("value", ["order-1", 1, -7, 1.5, True, "a/b#c", 'a"b\\c'], ids=repr)
def test_numbers_and_strings_of_ascii_have_one_key_in_all_workers(fleet, store, value):
    assert executed_by(fleet, store, value, ["python", "ours", "typescript", "ours_async"]) == ["python"]


@pytest.mark.parametrize("value", ["é", [1, 2], {"a": 1}], ids=repr)
def test_a_typescript_worker_has_another_key_for_what_json_has_several_texts_for(fleet, store, value):
    assert executed_by(fleet, store, value, ["typescript", "python", "ours", "ours_async"]) == ["typescript", "python"]


@pytest.mark.parametrize("value", ["order-2", 2], ids=repr)
def test_a_typescript_worker_left_as_it_is_writes_digests_in_base64_and_meets_nobody(fleet, store, value):
    fleet.worker("typescript").call(store.spec | {"ownKeys": True}, value, 1)
    name = base64.b64encode(digest(value).digest()).decode()
    assert store.record_under(f"{PREFIX}#{name}")["status"] == "COMPLETED"
    assert store.record(value) is None
