"""The suite itself is tested: each layer with a planted bug fails the checks that are there for it."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from retrysafe.persistence.memory import MemoryPersistenceLayer
from retrysafe.testing import PersistenceLayerContract
from support.broken_layers import BUGS, WindowCutsALease
from support.honest_layers import HonestLayer, PeekingLayer, TellingLayer


@pytest.fixture(scope="module", autouse=True)
def _waiters_give_up_sooner():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrysafe.testing._contract.checks_calls.WAIT_SECONDS", 2.0)
        patch.setattr("retrysafe.testing._contract.checks_watches.WAIT_SECONDS", 0.2)
        yield


def contract_of(layer_class):
    class Contract(PersistenceLayerContract):
        own_clock = getattr(layer_class, "own_clock", False)

        def make_layer(self, clock):
            return layer_class(clock=clock)

        def second_layer(self, layer):
            if not isinstance(layer, HonestLayer):
                return layer
            second = layer_class(clock=self.clock)
            second.records, second.lock = layer.records, layer.lock
            return second

        def plant_unreadable(self, layer, idempotency_key):
            if not isinstance(layer, HonestLayer):
                return False
            layer.records[layer.key(idempotency_key)] = "no record"
            return True

    return Contract


@functools.cache
def broken_promises(layer_class):
    """The failures of a layer under the whole suite, by the name of the check."""
    return contract_of(layer_class).broken_promises()


bugs = pytest.mark.parametrize("layer_class", BUGS, ids=lambda layer_class: layer_class.__name__)


@pytest.mark.parametrize("layer_class", [HonestLayer, PeekingLayer, TellingLayer, MemoryPersistenceLayer])
def test_a_correct_layer_keeps_every_promise(layer_class):
    assert broken_promises(layer_class) == {}


@bugs
def test_a_planted_bug_is_caught_by_the_checks_that_are_there_for_it(layer_class):
    assert layer_class.caught_by - set(broken_promises(layer_class)) == set()


@bugs
def test_every_failure_is_an_assertion(layer_class):
    assert {type(error) for error in broken_promises(layer_class).values()} == {AssertionError}


def test_each_check_catches_a_bug_that_it_is_named_for():
    named = {name for layer_class in BUGS for name in layer_class.caught_by}
    assert set(PersistenceLayerContract.checks()) == named


def test_a_failure_says_what_is_promised_and_what_was_seen():
    with pytest.raises(AssertionError) as failure:
        contract_of(WindowCutsALease)().test_a_window_never_cuts_a_running_lease()
    text = str(failure.value)
    assert text.startswith(
        "WindowCutsALease breaks its contract. A running record whose window is over still holds its key, and other "
        "writes don't sweep it away. But the claim won, though DataRecord('contract-"
    )
    assert text.endswith("must stand in its way.")


def test_the_suite_judges_without_asserts_and_docstrings_too():
    program = (
        "from support.broken_layers import WindowCutsALease\n"
        "from retrysafe.testing import PersistenceLayerContract\n"
        "class Contract(PersistenceLayerContract):\n"
        "    def make_layer(self, clock): return WindowCutsALease(clock=clock)\n"
        "Contract().test_a_window_never_cuts_a_running_lease()\n"
    )
    done = subprocess.run(
        [sys.executable, "-OO", "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "breaks its contract. A window never cuts a running lease. But the claim won" in done.stderr
