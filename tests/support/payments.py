"""What a test sees of the handlers in `lambda_functions/payments.py`: messages, ledger, records and gates."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.dynamodb_support import new_table, sync_layer
from support.lambda_runtime import LambdaRuntime

if TYPE_CHECKING:
    from concurrent.futures import Future

    from retrysafe.persistence.datarecord import DataRecord
    from servers.dynamodb import DynamoDBServer
    from support.lambda_runtime import Invocation

CODE = Path(__file__).parent.parent / "lambda_functions"
FUNCTION_NAME = "payments-function"


class Payments:
    """The deployed handlers, with two execution environments each, over one store and one ledger.

    Args:
        directory: Where the ledger is kept, and the store where there is no server.
        dynamodb: The server that has the store; None for a file of SQLite.
        workers: On Managed Instances: how many processes each has, in one environment.

    Attributes:
        short_seconds: A short time, in which a new process still comes as far as its charge: it has a client to open.
    """

    def __init__(self, directory: Path, dynamodb: DynamoDBServer | None = None, workers: int | None = None) -> None:
        self._workers = workers
        self._ledger_path = directory / "ledger.jsonl"
        self._runtimes: dict[str, LambdaRuntime] = {}
        self._opened = ExitStack()
        self.short_seconds = 1.0 if dynamodb is None else 2.0
        if dynamodb is None:
            path = directory / "store.db"
            self._store: Any = SQLitePersistenceLayer(str(path))
            self._environ = {"PAYMENTS_STORE": f"sqlite:///{path}"}
        else:
            table = new_table(dynamodb)
            self._store = sync_layer(dynamodb, table)
            self._environ = {
                "PAYMENTS_STORE": f"dynamodb://{table}",
                "AWS_ENDPOINT_URL_DYNAMODB": dynamodb.url,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            }

    def __enter__(self):
        self._opened.callback(self._store.close)
        return self

    def __exit__(self, *_):
        self._opened.close()

    def __getitem__(self, handler: str) -> LambdaRuntime:
        """The runtime of one handler, of the module `payments` where no other is named."""
        if handler not in self._runtimes:
            self._runtimes[handler] = self._opened.enter_context(
                LambdaRuntime(
                    handler if "." in handler else f"payments.{handler}",
                    code=CODE,
                    function_name=FUNCTION_NAME,
                    environ=self._environ
                    | {"PAYMENTS_LEDGER": str(self._ledger_path), "AWS_LAMBDA_LOG_LEVEL": "DEBUG"},
                    concurrency=2 if self._workers is None else 1,
                    workers=self._workers,
                )
            )
        return self._runtimes[handler]

    def settle(self) -> None:
        """Kill whatever still runs."""
        for runtime in self._runtimes.values():
            runtime.settle()

    def new_log(self) -> str:
        """What was logged since this was last asked."""
        return "".join(runtime.new_log() for runtime in self._runtimes.values())

    def charges(self, payment_id: str) -> list[dict[str, object]]:
        """The ledger's lines of one payment."""
        if not self._ledger_path.exists():
            return []
        lines = [json.loads(line) for line in self._ledger_path.read_text().splitlines()]
        return [line for line in lines if line["payment_id"] == payment_id]

    def record(self, function: str, payment_id: str) -> DataRecord:
        """The record of one payment, as it stands in the store."""
        record: DataRecord = self._store._get_record(key_of(function, payment_id))
        return record


def key_of(function: str, payment_id: str) -> str:
    """The idempotency key of a payment: the function, and the hash of what names the payment."""
    digest = hashlib.md5(json.dumps(payment_id).encode(), usedforsecurity=False).hexdigest()
    return f"{FUNCTION_NAME}.{function if '.' in function else f'payments.{function}'}#{digest}"


class Gate:
    """A place where a function stops until the test lets it go on.

    Args:
        path: A directory to be made for it.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self._path = path

    def stop(self, place: str) -> dict[str, str]:
        """What an order says to be stopped here, `before` or `after` its charge."""
        return {place: "hold", "gate": str(self._path)}

    def wait_reached(self, call: Future[Invocation]) -> None:
        """Wait until a function has stopped here."""
        while not (self._path / "reached").exists():
            assert not call.done(), f"ended before the gate: {call.result()}"
            time.sleep(0.005)

    def open(self) -> None:
        """Let it go on."""
        (self._path / "open").touch()


def message(order: dict[str, object], *, received: int = 1) -> dict[str, object]:
    """A message as SQS hands it over: ids differ with each delivery, only the body says which order it is."""
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": uuid.uuid4().hex,
        "body": json.dumps(order),
        "attributes": {"ApproximateReceiveCount": str(received), "SenderId": "AIDAEXAMPLE"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:orders",
        "awsRegion": "eu-central-1",
    }


def batch(*messages: dict[str, object]) -> dict[str, object]:
    """The event of a queue with these messages."""
    return {"Records": list(messages)}


def failed(*messages: dict[str, object]) -> dict[str, object]:
    """What a handler of batches answers where these failed."""
    return {"batchItemFailures": [{"itemIdentifier": each["messageId"]} for each in messages]}


def charges(payments: Payments, *orders: dict[str, object]) -> list[int]:
    """How often each of these orders was charged."""
    return [len(payments.charges(each["payment_id"])) for each in orders]


def start_both(queue, gate):
    """Let two processes of a queue's handler come up and open their clients, so that a test's times are not theirs."""
    queue.provision()
    held = queue.start(batch(message({"payment_id": "first", "amount": 1} | gate.stop("before"))), timeout_seconds=60)
    gate.wait_reached(held)
    queue.invoke(batch(message({"payment_id": "second", "amount": 1})), timeout_seconds=60)
    gate.open()
    held.result()
