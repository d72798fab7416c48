"""The conformance suite: what the author of a persistence layer runs to know that calls are safe on it."""

from __future__ import annotations

from retrysafe.testing._contract.checks_calls import CallChecks
from retrysafe.testing._contract.checks_claims import ClaimChecks
from retrysafe.testing._contract.checks_endings import CompletionChecks, ReleaseChecks, RenewalChecks
from retrysafe.testing._contract.checks_many import ManyChecks
from retrysafe.testing._contract.checks_races import RaceChecks
from retrysafe.testing._contract.checks_records import RecordChecks
from retrysafe.testing._contract.checks_takeovers import TakeoverChecks
from retrysafe.testing._contract.checks_times import TimeChecks
from retrysafe.testing._contract.checks_watches import WatchChecks


class PersistenceLayerContract(
    ClaimChecks,
    TakeoverChecks,
    CompletionChecks,
    ReleaseChecks,
    RenewalChecks,
    RecordChecks,
    TimeChecks,
    RaceChecks,
    ManyChecks,
    WatchChecks,
    CallChecks,
):
    """Checks a layer, synchronous or asynchronous, against the contract of `retrysafe.persistence.base`.

    ```python
    class TestMyLayer(PersistenceLayerContract):
        def make_layer(self, clock):
            return MyLayer(clock=clock)
    ```

    pytest collects such a class as it is. For unittest, inherit from `unittest.TestCase` as well. By hand,
    `TestMyLayer.broken_promises()` gives the failures by name. Each check makes a layer of its own, uses keys of its
    own, and fails with an `AssertionError` that says what is promised and what was seen.

    Hooks to override; each but the first has a default:
        make_layer(clock): The layer, on a store without records. May be a coroutine function.
        second_layer(layer): Another layer object on the same store. Default: the same object.
        close_layer(layer): Puts a layer away. Default: `layer.close()`.
        advance(seconds): Lets time pass. Default: moves the clock handed to `make_layer`.
        plant(layer, data_record): Stores a record of unknown status. Default: the layer's `_put_record`.
        plant_unreadable(layer, idempotency_key): Stores what is no record, and returns True. Default: left out.

    Attributes:
        fenced: Completing and releasing are conditional on the owner. Default: True.
        renews: The layer has `_renew_record`. Default: True.
        compares_takeovers: A record whose lease is over gives way only to a claim that names it, and compares.
            Default: True. A layer without it ignores `on_abandoned="raise"`.
        keeps_every_field: `owner`, `attempt` and `types` are stored too. Default: True.
        window_spares_leases: A window that is over does not cut a running lease. Default: True.
        tells_rivals: A refused claim carries the record that stands. Default: True.
        compares_in_one_step: A takeover compares and writes in one step. Default: True. A layer without it, over a
            client that can only read and write, still lets one of any rivals win; a loser may be told what stood
            before, and a completion at that very moment may be overwritten.
        own_clock: The store judges by a clock of its own, which the suite cannot stop: times are compared with a
            tolerance, checks of exact moments are left out, and `advance` must really wait. Default: False.
        lease_seconds: The lease that checks use. Default: 30. With `own_clock`, take about 0.5.
        window_seconds: The window that checks use, in whole seconds. Default: 3600. With `own_clock`, take 1.
        rivals: How many rivals race. Default: 32.
        rounds: How many races each such check holds. Default: 4.
        clock: The `ManualClock` of the check under way.
    """
