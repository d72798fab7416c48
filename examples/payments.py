"""The demo: four workers charge payments that a flaky queue delivers, and one of them is killed on the way.

The queue delivers many payments more than once, some to two workers at the same moment. Half-way, one worker is
killed with SIGKILL at the worst point there is: the payment provider has charged, and the worker does not know it
yet. The queue delivers again what that worker had in hand. In the end the provider's ledger, not the library, tells
whether any payment was charged twice or lost.

The code to read is `protected_pay`. With RETRYSAFE_DISABLED=1 the same run shows what happens without it.
"""

import argparse
import json
import logging
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from flaky_queue import KILL_ME_NOW, Event, Queue
from provider import PaymentProvider
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from retrysafe import IdempotencyConfig, current_execution, idempotent_function
from retrysafe.events import IdempotencyEvent, Replayed, TakenOver, Waited
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

OUT = Path(__file__).parent / "out"
RECORDS = "idempotency.db"
LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Payment:
    """What a delivery asks for."""

    payment_id: str
    amount_cents: int
    currency: str


@dataclass(frozen=True)
class Receipt:
    """What a payment is answered with: each of its deliveries gets the same receipt."""

    payment_id: str
    charge_id: str


# --- the payment, made safe to retry ------------------------------------------------------------------------------


def protected_pay(
    provider: PaymentProvider, records: Path, on_event: Callable[[IdempotencyEvent], object]
) -> Callable[[Payment], Receipt]:
    """The function that charges a payment once, however often it is called, and in however many processes."""

    @idempotent_function(
        key_prefix="payments",
        data_keyword_argument="payment",
        persistence_store=SQLitePersistenceLayer(records),
        config=IdempotencyConfig(
            event_key_jmespath="payment_id",  # what makes two deliveries the same payment
            payload_validation_jmespath="amount_cents",  # the same payment with another amount is refused
            on_in_progress="wait",  # a duplicate of a payment under way waits for its receipt
            in_progress_expires_after_seconds=2,  # so long after a worker's death; a living one renews
            event_hook=on_event,
        ),
    )
    def pay(payment: Payment) -> Receipt:
        # A worker that dies in here has charged or not, and no library can know which. So the charge has a key of its
        # own, the same in every attempt at this payment, and the provider does not charge again for the same key.
        charge_id = provider.charge(charge_key(), payment.payment_id, payment.amount_cents)
        return Receipt(payment.payment_id, charge_id)

    return pay


def charge_key() -> str:
    """The key of this payment's charge; with RETRYSAFE_DISABLED=1 a new one at each call, as in naive code."""
    try:
        return current_execution().key_for("charge")
    except IdempotencyConfigError:  # nothing idempotent is running
        return uuid.uuid4().hex


# --- a worker process ---------------------------------------------------------------------------------------------


def work(pipe: Connection, out: Path) -> None:
    """Handle one delivery after the other, and acknowledge each with its outcome, until the queue hangs up."""
    logging.getLogger("retrysafe").setLevel(logging.ERROR)  # the takeover, which it warns of, is shown otherwise
    happened: list[IdempotencyEvent] = []
    provider = PaymentProvider(out / LEDGER)
    pay = protected_pay(provider, out / RECORDS, happened.append)
    try:
        while True:
            event, fatal = pipe.recv()
            provider.before_reply = partial(die, pipe) if fatal else None
            happened.clear()
            pay(Payment(**event))
            pipe.send(happened[0].name if happened else "unprotected")
    except (EOFError, ConnectionError):
        pass  # the queue has hung up


def die(pipe: Connection) -> None:
    """The provider has charged, and its reply never comes: be killed now."""
    pipe.send(KILL_ME_NOW)
    time.sleep(60)


# --- the whole run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LedgerCount:
    """What became of the payments, by the provider's ledger alone."""

    charged: int
    refused: int
    charged_twice: int
    lost: int


def count_ledger(events: list[Event], ledger: Path) -> LedgerCount:
    """Hold the ledger against what was delivered."""
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    charges = Counter(entry["payment_id"] for entry in entries if entry["entry"] == "charge")
    return LedgerCount(
        charged=len(charges),
        refused=sum(entry["entry"] == "refusal" for entry in entries),
        charged_twice=sum(times > 1 for times in charges.values()),
        lost=len({event["payment_id"] for event in events} - charges.keys()),
    )


def table(deliveries: int, redelivered: int, outcomes: Counter[str], ledger: LedgerCount) -> Table:
    """The result, to be shown."""
    answered = outcomes[Replayed.name] + outcomes[Waited.name]
    rows = [
        ("deliveries", deliveries, "the file"),
        ("delivered again after the crash", redelivered, "the queue"),
        ("payments charged", ledger.charged, "the ledger"),
        ("deliveries replayed, without a charge", answered, "retrysafe's events"),
        ("  of them, waited for a payment under way", outcomes[Waited.name], "retrysafe's events"),
        ("payments taken over after the crash", outcomes[TakenOver.name], "retrysafe's events"),
        ("repeated charge keys refused by the provider", ledger.refused, "the ledger"),
        ("payments charged twice", ledger.charged_twice, "the ledger"),
        ("payments lost", ledger.lost, "the ledger"),
    ]
    shown = Table("", "", "counted from")
    shown.columns[1].justify = "right"
    for what, number, source in rows:
        shown.add_row(what, f"{number:,}", source)
    return shown


def main() -> int:
    """Work the file through and show the result; 0 if no payment was charged twice or lost, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=Path, default=OUT / "deliveries.jsonl", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="for records and ledger; default: %(default)s")
    asked = parser.parse_args()
    if not asked.deliveries.exists():
        parser.error(f"{asked.deliveries} does not exist: deliveries.py makes it")
    console = Console()
    events = [json.loads(line) for line in asked.deliveries.read_text().splitlines()]
    asked.out.mkdir(parents=True, exist_ok=True)
    for left_by_the_last_run in [*asked.out.glob(f"{RECORDS}*"), *asked.out.glob(LEDGER)]:
        left_by_the_last_run.unlink()

    outcomes: Counter[str] = Counter()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    try:
        with (
            Progress(*columns, console=console) as progress,
            Queue(events, partial(work, out=asked.out), say=progress.console.print) as queue,
        ):
            for outcome in progress.track(queue.outcomes(), len(events), description="deliveries"):
                outcomes[outcome] += 1
                if outcome == TakenOver.name:
                    console.print("its lease is over: the payment was taken over")
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    ledger = count_ledger(events, asked.out / LEDGER)
    console.print(table(len(events), queue.redelivered, outcomes, ledger))
    good = ledger.charged_twice == ledger.lost == 0 and outcomes[TakenOver.name] >= 1
    console.print("[green]Each payment was charged exactly once." if good else "[red]This is not as it should be.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
