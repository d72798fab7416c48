"""A stand-in for the payment provider: like Stripe and others, it charges at most once per charge key.

Its ledger is a file of JSON lines that only grows; a line {"entry": "charge"} is the charge itself, money gone.
A call with a key that has charged before gets the first charge's id, charges nothing, and leaves {"entry": "refusal"}.
"""

import fcntl
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

NETWORK_SECONDS = 0.002  # the way to a provider and back; real ones are further away


class PaymentProvider:
    """The provider, as one worker process reaches it.

    Args:
        ledger: The file; created if there is none. All processes share it.

    Attributes:
        before_reply: Called between a new charge and the reply to the caller, where a caller that dies has charged
            and does not know it.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger.open("a+b", buffering=0)  # every write goes to the end, at once
        self._read_to = 0
        self._charge_ids: dict[str, str] = {}
        self.before_reply: Callable[[], None] | None = None

    def charge(self, charge_key: str, payment_id: str, amount_cents: int) -> str:
        """Charge, unless this key has charged before; the id of the charge either way."""
        time.sleep(NETWORK_SECONDS)
        with self._locked():
            self._read_what_others_wrote()
            first_id = self._charge_ids.get(charge_key)
            charge_id = first_id or f"ch_{len(self._charge_ids) + 1:05}"
            entry = {
                "entry": "refusal" if first_id else "charge",
                "charge_id": charge_id,
                "charge_key": charge_key,
                "payment_id": payment_id,
                "amount_cents": amount_cents,
            }
            self._ledger.write(json.dumps(entry).encode() + b"\n")
        if self.before_reply and not first_id:
            self.before_reply()
        return charge_id

    @contextmanager
    def _locked(self) -> Generator[None]:
        """One charge at a time, over all processes; the lock of a process that dies is free again."""
        fcntl.flock(self._ledger, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._ledger, fcntl.LOCK_UN)

    def _read_what_others_wrote(self) -> None:
        self._ledger.seek(self._read_to)
        for line in self._ledger.readall().splitlines():
            entry = json.loads(line)
            self._charge_ids[entry["charge_key"]] = entry["charge_id"]
        self._read_to = self._ledger.tell()
