"""The layers against a model: whatever several owners do, in whatever order and however late, both say the same.

The model is a dict of plain fields, and the rules of the contract written out once more.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.persistence.memory import MemoryPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.testing import ManualClock
from support import broken_layers

BOUNDED = settings(
    max_examples=100,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
HUNTING = settings(BOUNDED, max_examples=300, phases=[Phase.generate])

KEYS = st.sampled_from(["order 1", "order 2"])
OWNERS = st.sampled_from(["owner-1", "owner-2", "owner-3"])
WRITERS = st.sampled_from(["whoever holds it", "owner-1", "owner-2", None])
LEASES = st.sampled_from([1, 250, 2_000, 30_000])
WINDOWS = st.sampled_from([1, 2, 60])
OUTCOMES = st.sampled_from([("COMPLETED", "0"), ("COMPLETED", '{"é": ""}'), ("FAILED", "[]"), ("UNAVAILABLE", "")])
MOMENTS = st.sampled_from(["next millisecond", "lease ends", "lease is over", "window ends", "window is over"])


@dataclass(frozen=True)
class Entry:
    """What the model keeps under a key; times in milliseconds and in seconds, as records keep them."""

    status: str
    owner: str | None
    attempt: int
    lease_end: int | None
    window_end: int
    payload_hash: str = ""
    data: str = ""
    types: str = ""

    def gone(self, now):
        runs = self.status == "INPROGRESS" and self.lease_end is not None and now <= self.lease_end
        return now // 1000 > self.window_end and not runs

    def marks(self):
        return self.status, self.owner, self.attempt, self.lease_end


def entry(record):
    return Entry(
        record.stored_status,
        record.owner,
        record.attempt,
        record.in_progress_expiry_timestamp,
        record.expiry_timestamp,
        record.payload_hash,
        record.response_data,
        record.types,
    )


def to_write(key, written, now, replaces=None):
    return DataRecord(
        key,
        written.status,
        written.window_end,
        written.lease_end,
        written.data,
        written.payload_hash,
        None,
        written.owner,
        written.attempt,
        written.types,
        replaces,
        now,
    )


def refused(method, record, expected):
    """The refusal, or None."""
    try:
        method(record)
    except expected as error:
        return error
    return None


class LayerMachine(RuleBasedStateMachine):
    """Steps of several owners on two keys.

    What is gone may be swept from the store at any time, so about that alone the model lets the layer decide.
    """

    def __init__(self, make_layer):
        super().__init__()
        self.clock = ManualClock(1_893_456_000_400)
        self.layer = make_layer(self.clock)
        self.model = {}
        self.seen = []

    def teardown(self):
        self.layer.close()

    # --- the model ---------------------------------------------------------------------------------------------------

    def standing(self, key):
        """What certainly stands."""
        found = self.model.get(key)
        return None if found is None or found.gone(self.clock.now_ms()) else found

    def owned(self, key, owner, *statuses):
        """Whether what stands is this owner's; None where that depends on whether it was swept."""
        found = self.model.get(key)
        if found is None or found.owner is None or found.owner != owner or (statuses and found.status not in statuses):
            return False
        return None if found.gone(self.clock.now_ms()) else True

    def owner(self, key, writer):
        """The owner that a writer is."""
        found = self.model.get(key)
        return found.owner if writer == "whoever holds it" and found is not None else writer

    # --- time --------------------------------------------------------------------------------------------------------

    @rule(key=KEYS, moment=MOMENTS)
    def time_passes(self, key, moment):
        found = self.model.get(key)
        now = self.clock.now_ms()
        to = now + 1
        if found is not None and found.lease_end is not None and moment.startswith("lease"):
            to = found.lease_end + (moment == "lease is over")
        elif found is not None and moment.startswith("window"):
            to = found.window_end * 1000 + (1000 if moment == "window is over" else 999)
        self.clock.advance(max(0, to - now) / 1000)

    # --- claims ------------------------------------------------------------------------------------------------------

    @rule(
        key=KEYS,
        owner=OWNERS | st.none(),  # None: a peer
        lease=LEASES | st.none(),
        window=WINDOWS,
        covered=st.booleans(),
        payload_hash=st.sampled_from(["", "9f2c"]),
    )
    def claim(self, key, owner, lease, window, covered, payload_hash):
        now = self.clock.now_ms()
        lease_end = None if lease is None else now + lease
        window_end = now // 1000 + window
        if covered:
            window_end = max(window_end, -(-(lease_end or 0) // 1000))
        self.put(key, Entry("INPROGRESS", owner, 1, lease_end, window_end, payload_hash))

    @precondition(lambda self: self.seen)
    @rule(owner=OWNERS, lease=LEASES, window=WINDOWS, back=st.integers(0, 3))
    def take_over(self, owner, lease, window, back):
        """Name what was seen just now, or what was seen a while ago."""
        seen = self.seen[-1 - back % len(self.seen)]
        now = self.clock.now_ms()
        written = Entry("INPROGRESS", owner, seen.attempt + 1, now + lease, now // 1000 + window, seen.payload_hash)
        self.put(seen.idempotency_key, written, replaces=seen)

    def put(self, key, written, replaces=None):
        standing = self.standing(key)
        wins = standing is None or (replaces is not None and standing.marks() == entry(replaces).marks())
        record = to_write(key, written, self.clock.now_ms(), replaces)
        refusal = refused(self.layer._put_record, record, IdempotencyItemAlreadyExistsError)
        if refusal is None:
            assert wins, f"the claim must be refused, by {standing}"
            self.model[key] = written
        else:
            assert not wins, "the claim must win"
            assert entry(refusal.old_data_record) == standing
            self.seen.append(refusal.old_data_record)

    # --- endings -----------------------------------------------------------------------------------------------------

    @rule(key=KEYS, writer=WRITERS, outcome=OUTCOMES, window=WINDOWS, types=st.sampled_from(["", "[1]"]))
    def complete(self, key, writer, outcome, window, types):
        status, data = outcome
        owner = self.owner(key, writer)
        found = self.model.get(key)
        written = Entry(
            status,
            owner,
            1 if found is None else found.attempt,
            None,
            self.clock.now_ms() // 1000 + window,
            "" if found is None else found.payload_hash,
            data,
            types,
        )
        self.write(self.layer._update_record, key, written, self.owned(key, owner))

    @rule(key=KEYS, writer=WRITERS, lease=LEASES, window=WINDOWS)
    def renew(self, key, writer, lease, window):
        owner = self.owner(key, writer)
        now = self.clock.now_ms()
        base = self.model.get(key) or Entry("INPROGRESS", owner, 1, None, 0)
        written = replace(
            base, status="INPROGRESS", owner=owner, lease_end=now + lease, window_end=now // 1000 + window
        )
        self.write(self.layer._renew_record, key, written, self.owned(key, owner, "INPROGRESS"))

    def write(self, method, key, written, owned):
        refusal = refused(method, to_write(key, written, self.clock.now_ms()), IdempotencyLeaseLostError)
        if refusal is None:
            assert owned is not False, f"the record is another's: {self.model.get(key)}"
            self.model[key] = written
            return
        assert owned is not True, "the record is still this owner's"
        if owned is None:
            del self.model[key]  # it was swept
        if refusal.record is not None:
            assert entry(refusal.record) == self.model[key]

    @rule(key=KEYS, writer=WRITERS)
    def release(self, key, writer):
        owner = self.owner(key, writer)
        self.layer._delete_record(to_write(key, Entry("INPROGRESS", owner, 1, 0, 0), self.clock.now_ms()))
        if self.owned(key, owner, "INPROGRESS") is not False:
            del self.model[key]

    # --- what everybody sees -----------------------------------------------------------------------------------------

    @rule(key=KEYS)
    def look(self, key):
        try:
            found = self.layer._get_record(key)
        except IdempotencyItemNotFoundError:
            assert self.standing(key) is None, f"this must stand: {self.standing(key)}"
            self.model.pop(key, None)
        else:
            assert found.idempotency_key == key
            assert entry(found) == self.model.get(key)
            self.seen.append(found)


class TemporarySQLite(SQLitePersistenceLayer):
    """In a file of its own, which goes with it."""

    def __init__(self, *, clock):
        self.directory = tempfile.TemporaryDirectory()
        super().__init__(Path(self.directory.name) / "records.db", synchronous="off", clock=clock)

    def close(self):
        super().close()
        self.directory.cleanup()


@pytest.mark.parametrize("layer_class", [MemoryPersistenceLayer, TemporarySQLite])
def test_a_layer_does_as_the_model_whatever_comes(layer_class):
    run_state_machine_as_test(lambda: LayerMachine(lambda clock: layer_class(clock=clock)), settings=BOUNDED)


@pytest.mark.parametrize(
    "layer_class",
    [
        broken_layers.WindowCutsALease,
        broken_layers.LeaseEndsAMillisecondEarly,
        broken_layers.TakeoverComparesNothing,
        broken_layers.TakeoverComparesNoLease,
        broken_layers.CompletionChecksNoOwner,
        broken_layers.LateCompletionCreatesARecord,
        broken_layers.ReleaseChecksNoOwner,
        broken_layers.OutcomesAreReleased,
        broken_layers.RenewalChecksNoOwner,
        broken_layers.OutcomesAreRenewed,
    ],
)
def test_the_machine_finds_planted_bugs(layer_class):
    with pytest.raises(AssertionError):
        run_state_machine_as_test(lambda: LayerMachine(lambda clock: layer_class(clock=clock)), settings=HUNTING)
