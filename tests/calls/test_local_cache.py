"""The local cache: answers without a round trip, and never a wrong one."""

from __future__ import annotations

import threading

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyValidationError
from retrysafe.local_cache import LocalCache
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE, DataRecord
from support.bodies import counted, only_record
from support.flavours import LikeAStore


def cached(**options):
    return IdempotencyConfig(use_local_cache=True, **options)


def counting(flavour, monkeypatch, layer):
    """A list that grows by each round trip."""
    trips = []
    inner = flavour.inner(layer)
    for name in ("_get_record", "_put_record", "_update_record", "_delete_record"):
        method = getattr(inner, name)
        monkeypatch.setattr(inner, name, lambda arg, name=name, method=method: trips.append(name) or method(arg))
    return trips


def test_a_replay_out_of_the_local_cache_takes_no_round_trip_and_one_from_the_store_takes_one(flavour, monkeypatch):
    layer = flavour.layer()
    trips = counting(flavour, monkeypatch, layer)
    from_the_store = 0 if layer.can_peek else 1
    call = flavour.function(counted(), persistence_store=layer, key_prefix="charge", config=cached())
    assert [call(1), call(1)] == [1, 1]
    assert trips == ["_put_record", "_update_record"]
    other_process = flavour.function(counted(), persistence_store=layer, key_prefix="charge", config=cached())
    assert [other_process(1), other_process(1)] == [1, 1]
    assert trips == ["_put_record", "_update_record", *["_put_record"] * from_the_store]


def test_so_does_a_block(flavour):
    layer = flavour.layer()
    options = {"key_prefix": "charge", "persistence_store": layer, "config": cached()}
    assert flavour.block(1, lambda: "done", **options) == "done"
    flavour.inner(layer)._records.clear()
    assert flavour.block(1, pytest.fail, **options) == "done"


def test_it_is_off_by_default(flavour, monkeypatch):
    layer = flavour.layer()
    trips = counting(flavour, monkeypatch, layer)
    call = flavour.function(counted(), persistence_store=layer)
    call(1)
    call(1)
    assert len(trips) == (2 if layer.can_peek else 3)


def test_it_is_checked_against_the_payload_hash(flavour):
    config = cached(event_key_jmespath="id", payload_validation_jmespath="amount")
    call = flavour.function(counted(), data_keyword_argument="order", persistence_store=flavour.layer(), config=config)
    call({"id": 1, "amount": 5})
    with pytest.raises(IdempotencyValidationError):
        call({"id": 1, "amount": 6})


def test_it_forgets_an_answer_whose_window_is_over(flavour, clock):
    layer = flavour.layer(clock=clock)
    call = flavour.function(counted(), persistence_store=layer, config=cached(expires_after_seconds=5))
    assert call(1) == 1
    clock.advance(7)
    assert call(1) == 2


def test_it_judges_by_the_callers_clock_what_a_store_with_a_clock_of_its_own_told(clock):
    ahead_ms = 3_600_000

    class AheadLayer(LikeAStore):
        """A store whose clock is an hour ahead: its records have its times, and say when they were read there."""

        def _put_record(self, data_record):
            try:
                super()._put_record(data_record)
            except IdempotencyItemAlreadyExistsError as error:
                standing = error.old_data_record
                theirs = standing.replaced(
                    expiry_timestamp=standing.expiry_timestamp + ahead_ms // 1000,
                    read_at_ms=self.clock.now_ms() + ahead_ms,
                )
                raise IdempotencyItemAlreadyExistsError(old_data_record=theirs) from None

    layer = AheadLayer(clock=clock)
    charge = counted()
    options = {"persistence_store": layer, "key_prefix": "charge"}
    idempotent_function(charge, config=cached(expires_after_seconds=60), **options)(1)
    from_cache = []
    config = cached(
        expires_after_seconds=60, event_hook=lambda told: from_cache.append(getattr(told, "from_local_cache", None))
    )
    elsewhere = idempotent_function(charge, config=config, **options)
    assert elsewhere(1) == elsewhere(1) == 1
    assert from_cache == [False, True]
    clock.advance(62)
    assert elsewhere(1) == 2


def test_it_keeps_what_has_no_window_as_a_store_with_a_clock_of_its_own_told_it(clock):
    class EndlessLayer(LikeAStore):
        def _put_record(self, data_record):
            try:
                super()._put_record(data_record)
            except IdempotencyItemAlreadyExistsError as error:
                theirs = error.old_data_record.replaced(expiry_timestamp=None, read_at_ms=self.clock.now_ms())
                raise IdempotencyItemAlreadyExistsError(old_data_record=theirs) from None

    layer = EndlessLayer(clock=clock)
    charge, from_cache = counted(), []
    idempotent_function(charge, persistence_store=layer, key_prefix="charge")(1)
    config = cached(event_hook=lambda told: from_cache.append(told.from_local_cache))
    elsewhere = idempotent_function(charge, persistence_store=layer, key_prefix="charge", config=config)
    assert elsewhere(1) == elsewhere(1) == 1
    assert from_cache == [False, True]


def test_two_layers_under_one_config_do_not_share_it(flavour):
    config = cached()
    calls = [
        flavour.function(counted(answer=n), persistence_store=flavour.layer(), key_prefix="charge", config=config)
        for n in (1, 2)
    ]
    assert [call(0) for call in calls * 2] == [1, 2, 1, 2]


def test_it_can_be_told_to_forget_records_that_were_removed_by_hand(flavour):
    layer = flavour.layer()
    config = cached()
    call = flavour.function(counted(), persistence_store=layer, config=config)
    call(1)
    assert only_record(flavour, layer)
    flavour.inner(layer)._records.clear()
    assert call(1) == 1
    config.local_cache(layer).clear()
    assert call(1) == 2


def test_a_layer_does_not_find_what_was_kept_for_one_that_is_gone():
    config = cached()
    for _ in range(100):  # each at the address of the one before
        layer = MemoryPersistenceLayer()
        cache = config.local_cache(layer)
        assert len(cache) == 0
        cache.put(record("a"))
        del layer


def record(key, status=COMPLETED):
    return DataRecord(key, status, 2_000_000_000)


def test_it_keeps_completed_records_only_and_the_most_recently_used():
    cache = LocalCache(2)
    for status in (INPROGRESS, FAILED, UNAVAILABLE):
        cache.put(record("x", status))
    assert len(cache) == 0
    cache.put(record("a"))
    cache.put(record("b"))
    assert cache.get("a", 0)
    cache.put(record("c"))
    assert [bool(cache.get(key, 0)) for key in "abc"] == [True, False, True]
    cache.put(record("a"))
    cache.put(record("d"))
    assert [bool(cache.get(key, 0)) for key in "acd"] == [True, False, True], "to be put again is to be used"


def test_a_record_whose_window_is_over_leaves_it():
    cache = LocalCache(2)
    cache.put(record("a"))
    assert cache.get("a", 2_000_000_001_000) is None
    assert len(cache) == 0


def test_it_is_safe_under_many_threads():
    cache = LocalCache(16)
    errors = []

    def work(start):
        try:
            for n in range(3000):
                key = str((start + n) % 40)
                cache.put(record(key))
                found = cache.get(str(n % 40), 0)
                assert found is None or found.idempotency_key == str(n % 40)
        except Exception as error:  # noqa: BLE001  # told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(cache) <= 16


def test_what_a_response_hook_does_to_the_record_changes_no_later_replay(flavour):
    def hook(response, record):
        record.response_data = '"changed"'
        response.append("changed")
        return response

    for config in (IdempotencyConfig(response_hook=hook, use_local_cache=cached) for cached in (False, True)):
        call = flavour.function(lambda order: [order], persistence_store=flavour.layer(), config=config)
        assert [call(1) for _ in range(4)] == [[1], [1, "changed"], [1, "changed"], [1, "changed"]]


@pytest.mark.parametrize("operation", ["get", "put"])
@pytest.mark.parametrize("is_over", [True, False], ids=["window over", "live"])
def test_a_signal_handler_that_asks_it_while_its_thread_is_inside_neither_waits_nor_breaks_it(is_over, operation):
    class Interrupted(DataRecord):
        """A signal strikes where it is looked at."""

        def window_over(self, now_ms):
            if seen.append(now_ms) or len(seen) == 1:
                cache.put(other)  # which removes this one
                cache.get(self.idempotency_key, now_ms)
            return is_over

    def call():
        if operation == "put":
            cache._records.move_to_end = lambda key: original(key) or cache.clear()
        cache.put(record)
        answers.append(cache.get("a", 2))

    seen, answers = [], []
    record, other = Interrupted("a", COMPLETED, 1), DataRecord("b", COMPLETED, 9)
    cache = LocalCache(1)
    original = cache._records.move_to_end
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    assert answers in ([None], [record])
    assert not thread.is_alive()
