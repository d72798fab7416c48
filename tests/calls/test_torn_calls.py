"""Interruptions at each step of a call that is no wish to the store: in functions and blocks, sync and async.

A signal handler raises wherever Python happens to be; here one strikes right before or right behind a step. What had
run by then is stored, what had not frees its key, and nothing stays behind.
"""

from __future__ import annotations

import ctypes
import gc
import signal
from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, current_execution, idempotent_function
from retrysafe.answers import AnswerCodec
from retrysafe.call import Call
from retrysafe.events import AnswerUnavailable, Claimed
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyResponseUnavailableError
from retrysafe.heartbeat import Heart, heart
from retrysafe.heartbeat_async import AsyncHeart
from retrysafe.nesting import current
from retrysafe.persistence.datarecord import COMPLETED, UNAVAILABLE
from retrysafe.ports import AsyncPorts, SyncPorts
from retrysafe.running import Running
from support.bodies import only_record


def strike(monkeypatch, owner, step, *, behind):
    """Let the step be interrupted, once."""
    original, struck = getattr(owner, step), []

    def struck_step(self, *args, **kwargs):
        if behind or struck:
            came = original(self, *args, **kwargs)
            if struck:
                return came
        struck.append(True)
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, step, struck_step)
    return struck


def work_of(flavour, form, layer, config=None):
    """The same work as a function or as a block."""
    runs = []

    def work(n=1):
        runs.append(current_execution().attempt)
        return {"runs": len(runs)}

    options = {"key_prefix": "charge", "persistence_store": layer, "config": config or IdempotencyConfig()}
    if form == "function":
        call = flavour.function(work, **options)
        return runs, lambda: call(1)
    return runs, lambda: flavour.block({"n": 1}, work, **options)


def nothing_stays_behind():
    gc.collect()
    return current.get() is None and not heart._alive()


@pytest.fixture(params=["function", "block"])
def form(request):
    return request.param


BEFORE_IT_RAN = [(Running, "start", False), (Running, "start", True)]
WHEN_IT_HAD_RUN = [
    (Running, "stop", False),
    (Running, "stop", True),
    (Running, "returned", False),
    (Running, "returned", True),
    (AnswerCodec, "texts", False),
    (AnswerCodec, "texts", True),
    (Call, "outcome", False),
    (Call, "outcome", True),
]


def named(place):
    return f"{'behind' if place[2] else 'before'}-{place[1]}"


@pytest.mark.parametrize("place", BEFORE_IT_RAN, ids=named)
def test_an_interruption_before_the_work_began_frees_the_key(flavour, form, place, monkeypatch):
    owner, step, behind = place
    layer = flavour.layer()
    runs, call = work_of(flavour, form, layer)
    struck = strike(monkeypatch, owner, step, behind=behind)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert struck
    assert (runs, len(layer), nothing_stays_behind()) == ([], 0, True)
    assert call() == {"runs": 1}


@pytest.mark.parametrize("place", WHEN_IT_HAD_RUN, ids=named)
def test_one_right_after_the_work_stores_its_answer_first(flavour, form, place, monkeypatch):
    owner, step, behind = place
    layer = flavour.layer()
    runs, call = work_of(flavour, form, layer)
    struck = strike(monkeypatch, owner, step, behind=behind)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert struck
    assert (only_record(flavour, layer).stored_status, nothing_stays_behind()) == (COMPLETED, True)
    assert call() == {"runs": 1}
    assert runs == [1]


def test_a_signal_in_the_last_moment_of_the_work_stores_its_answer_first():
    """Python looks for signals when a call has returned, and before it does anything with what was returned."""

    def handler(*_):
        raise KeyboardInterrupt

    # Unlike `signal.raise_signal`, it does not look by itself. And `sum` in between is no Python, which would look.
    raise_signal = ctypes.CDLL(None)["raise"]
    charge = idempotent_function(
        sum, key=lambda _: "order", key_prefix="charge", persistence_store=MemoryPersistenceLayer()
    )
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            charge(map(raise_signal, [signal.SIGUSR1]))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert charge([5]) == 0
    assert nothing_stays_behind()


def test_a_listener_that_exits_when_the_key_is_claimed_frees_it(flavour, form):
    def leave(event):
        if isinstance(event, Claimed):
            raise SystemExit

    layer = flavour.layer()
    runs, call = work_of(flavour, form, layer, IdempotencyConfig(event_hook=leave))
    with pytest.raises(SystemExit):
        call()
    assert (runs, len(layer), nothing_stays_behind()) == ([], 0, True)


def test_one_while_it_is_told_that_the_store_cannot_take_the_answer_marks_the_key_as_done(flavour, form):
    def leave(event):
        if isinstance(event, AnswerUnavailable):
            raise SystemExit

    def too_large(record):
        if record.stored_status == COMPLETED:
            raise IdempotencyResponseUnavailableError("too large")
        update(record)

    layer = flavour.layer()
    inner = flavour.inner(layer)
    update, inner._update_record = inner._update_record, too_large
    runs, call = work_of(flavour, form, layer, IdempotencyConfig(event_hook=leave))
    with pytest.raises(SystemExit):
        call()
    assert only_record(flavour, layer).stored_status == UNAVAILABLE
    with pytest.raises(IdempotencyResponseUnavailableError):
        call()
    assert runs == [1]


def test_one_between_two_tries_to_store_an_answer_does_not_give_it_up(flavour, form, monkeypatch):
    def fails_once(record):
        if not failed:
            failed.append(True)
            raise ConnectionError("gone")
        update(record)

    failed = []
    layer = flavour.layer()
    inner = flavour.inner(layer)
    update, inner._update_record = inner._update_record, fails_once
    runs, call = work_of(flavour, form, layer)
    from retrysafe import ports  # noqa: PLC0415  # its tables are patched here alone

    cls, table = (AsyncPorts, ports.ASYNC_PORTS) if flavour.is_async else (SyncPorts, ports.SYNC_PORTS)
    owner = SimpleNamespace(pause=cls.pause)
    struck = strike(monkeypatch, owner, "pause", behind=False)
    monkeypatch.setitem(table, ports.Pause, owner.pause)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert struck
    assert only_record(flavour, layer).stored_status == COMPLETED
    assert call() == {"runs": 1}
    assert runs == [1]


def test_work_whose_heartbeat_cannot_start_does_not_run_and_its_key_is_free(flavour, form, monkeypatch):
    def no_thread(self, execution):
        raise RuntimeError("can't start new thread")

    layer = flavour.layer()
    runs, call = work_of(flavour, form, layer)
    with monkeypatch.context() as patched:
        for each in (Heart, AsyncHeart):
            patched.setattr(each, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            call()
    assert (runs, len(layer), nothing_stays_behind()) == ([], 0, True)
    assert call() == {"runs": 1}


def test_a_generator_that_had_begun_and_fails_at_its_end_is_refused_as_an_answer_and_frees_the_key(flavour):
    def failing():
        try:
            yield
        finally:
            raise OSError

    def work(n):
        generator = failing()
        next(generator)
        return generator

    layer = flavour.layer()
    call = flavour.function(work, persistence_store=layer)
    for _ in range(2):
        with pytest.raises(IdempotencyConfigError, match="returned a generator"):
            call(1)
    assert len(layer) == 0
