"""An idempotent function on a real layer, whose calls are written down as a campaign's workers do it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from faults.checker import check
from faults.history import Answered, Began, Called, Ended, Ledger, Refused, now, read
from retrysafe import IdempotencyConfig, current_execution, idempotent_function

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faults.checker_report import Report

# Long enough that nothing renews it while a test runs.
LEASE_SECONDS = 60


class Recorded:
    """The function, and what has become of its calls.

    Args:
        layer: Where its records are kept.
        directory: Where the history is written.
        move: Moves the clock that judges leases, by seconds.
    """

    def __init__(self, layer: Any, directory: Path, move: Callable[[float], None] | None = None) -> None:
        self.layer = layer
        self._directory = directory
        self._move = move
        self._ledger = Ledger(directory, "calls")
        self._ahead = 0
        self._numbers = itertools.count(1)
        config = IdempotencyConfig(in_progress_expires_after_seconds=LEASE_SECONDS)

        @idempotent_function(data_keyword_argument="key", persistence_store=layer, key_prefix="recorded", config=config)
        def function(key: str, names: tuple[str, str, str], body: Callable[[], None]) -> str:
            owner, attempt = current_execution().owner, current_execution().attempt
            value, began_at = f"by {names[1]}", self._now()
            self._ledger.append(Began(began_at, *names, owner, attempt))
            body()
            ended_at = self._now()
            lapsed = ended_at - began_at > LEASE_SECONDS * 1_000_000_000
            self._ledger.append(Ended(ended_at, *names, owner, value, None, lapsed))
            return value

        self._function = function

    def call(self, key: str, body: Callable[[], None] = lambda: None) -> None:
        """One call, by a worker of its own; the body is what its function does."""
        number = next(self._numbers)
        names = f"worker-{number}", f"worker-{number}-call", key
        self._ledger.append(Called(self._now(), *names, "retry", LEASE_SECONDS * 1000))
        try:
            value = self._function(key=key, names=names, body=body)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is written down
            response = getattr(error, "response", None)
            self._ledger.append(Refused(self._now(), *names, type(error).__name__, response is not None, response))
        else:
            self._ledger.append(Answered(self._now(), *names, value))

    def outlive_lease(self) -> None:
        """Let more time pass than a lease has."""
        seconds = LEASE_SECONDS + 2
        assert self._move is not None
        self._move(seconds)
        self._ahead += seconds * 1_000_000_000

    def checked(self) -> Report:
        """What the checker says of all that."""
        return check(read(self._directory))

    def close(self) -> None:
        self._ledger.close()

    def _now(self) -> int:
        return now() + self._ahead
