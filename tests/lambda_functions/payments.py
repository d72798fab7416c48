"""Lambda handlers that charge payments and are safe to retry; the tests invoke them in real processes.

A charge is one line appended to a ledger, the effect that must not happen twice. The order itself says how
its run goes: `before` and `after` name what happens right before or right after the charge:

    "fail"  an exception             "exit"  sys.exit()
    "hold"  a pause at `gate`, until the test opens it
    "die"   the death that running out of memory is
"""

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import time
from pathlib import Path

from retrysafe import IdempotencyConfig, idempotent, idempotent_function, layer_from_url
from retrysafe.exceptions import IdempotencyAlreadyInProgressError

STORE = layer_from_url(os.environ["PAYMENTS_STORE"])
LEDGER = os.environ["PAYMENTS_LEDGER"]

logger = logging.getLogger(__name__)


class PaymentDeclinedError(Exception):
    """The bank says no."""


def charge(order):
    """Charge one order; returns what the bank answered."""
    logger.debug("charging")
    _meet(order, "before")
    answer = {
        "payment_id": order["payment_id"],
        "amount": order["amount"],
        "authorisation": secrets.token_hex(8),
    }
    # One write to a file opened for appending: lines of several processes don't mix.
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(ledger, json.dumps(answer).encode() + b"\n")
    finally:
        os.close(ledger)
    _meet(order, "after")
    return answer


def _meet(order, place):
    match order.get(place):
        case "fail":
            raise PaymentDeclinedError("declined")
        case "exit":
            sys.exit("stopped")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hold":
            gate = Path(order["gate"])
            (gate / "reached").touch()
            while not (gate / "open").exists():
                time.sleep(0.005)


@idempotent(persistence_store=STORE, config=IdempotencyConfig(event_key_jmespath="payment_id"))
def handler(event, context):
    """The plain case."""
    return charge(event)


def web_handler(event, context):
    """As behind an API: a refusal is an answer that says when to come back."""
    try:
        return {"status": 200, "body": handler(event, context)}
    except IdempotencyAlreadyInProgressError as error:
        return {"status": 409, "retry_after": error.retry_after, "key": error.idempotency_key}


@idempotent(
    persistence_store=STORE,
    config=IdempotencyConfig(event_key_jmespath="payment_id", on_abandoned="raise"),
)
def careful_handler(event, context):
    """Never charges where it is unknown whether an earlier run has."""
    return charge(event)


@idempotent(
    persistence_store=STORE,
    config=IdempotencyConfig(event_key_jmespath="payment_id", on_in_progress="wait", wait_timeout_seconds=60),
)
def patient_handler(event, context):
    """Waits for the answer of a run under way, and takes over if that never ends."""
    return charge(event)


batch_config = IdempotencyConfig(event_key_jmespath="powertools_json(body).payment_id")


@idempotent_function(data_keyword_argument="record", persistence_store=STORE, config=batch_config)
def charge_record(record):
    """One message of a queue."""
    return charge(json.loads(record["body"]))


def batch_handler(event, context):
    """A batch of messages; the ones that failed are reported, so that the queue sends them again."""
    if event.get("register", True):
        batch_config.register_lambda_context(context)
    failed = []
    for record in event["Records"]:
        try:
            charge_record(record=record)
        except Exception:
            logger.exception("a message failed")
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


async_config = IdempotencyConfig(event_key_jmespath="payment_id")


@idempotent_function(data_keyword_argument="order", persistence_store=STORE, config=async_config)
async def charge_async(order):
    """An asynchronous function with the synchronous store."""
    return await asyncio.to_thread(charge, order)


def async_handler(event, context):
    """A handler with an event loop of its own in each invocation."""
    async_config.register_lambda_context(context)
    return asyncio.run(charge_async(order=event))
