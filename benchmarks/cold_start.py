"""A cold start: what each entry point adds to a new process, and the first invocation of a new Lambda environment.

The invocations are real ones: AWS's own runtime client in a process of its own, from the process's start to the answer.
Taken off on both sides is what a handler pays without either library: the interpreter with the runtime client, and, on
DynamoDB, boto3 with the same two bare requests. Each round starts all of them in turn, and the smallest of each counts,
as a process can only be held up, never sped up.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.imports import ready_environment
from benchmarks.servers import LambdaRuntime, dynoxide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import DynamoDBServer

SECTION = "cold start"
GOAL = 1 / 3
MOST_ROUNDS = 15
PEER = "aws_lambda_powertools.utilities.idempotency"
ENTRY_POINTS = {
    "idempotent_function": ("from retrysafe import idempotent_function", f"from {PEER} import idempotent_function"),
    "DynamoDBPersistenceLayer": (
        "from retrysafe import DynamoDBPersistenceLayer",
        f"from {PEER} import DynamoDBPersistenceLayer",
    ),
    "RedisCachePersistenceLayer": (
        "from retrysafe.persistence.redis import RedisCachePersistenceLayer",
        f"from {PEER}.persistence.redis import RedisCachePersistenceLayer",
    ),
    "PydanticSerializer": (
        "from retrysafe.serialization.pydantic import PydanticSerializer",
        f"from {PEER}.serialization.pydantic import PydanticSerializer",
    ),
}
TELL_PAGES = "; print(open('/proc/self/statm').read().split()[1])"
PAGE_BYTES = 4096

ANSWER = "{'pages': int(open('/proc/self/statm').read().split()[1])}"
BARE = f"""
    def handler(event, context):
        return {ANSWER}
    """
OURS = f"""
    from retrysafe import MemoryPersistenceLayer, idempotent
    @idempotent(persistence_store=MemoryPersistenceLayer())
    def handler(event, context):
        return {ANSWER}
    """
THEIRS = f"""
    from {PEER} import BasePersistenceLayer, idempotent
    from {PEER}.exceptions import IdempotencyItemNotFoundError
    class Layer(BasePersistenceLayer):
        def __init__(self):
            super().__init__()
            self.records = {{}}
        def _get_record(self, key):
            raise IdempotencyItemNotFoundError
        def _put_record(self, record):
            self.records[record.idempotency_key] = record
        _update_record = _delete_record = _put_record
    @idempotent(persistence_store=Layer())
    def handler(event, context):
        return {ANSWER}
    """
BARE_DYNAMODB = f"""
    import os
    import boto3
    client = boto3.client("dynamodb", endpoint_url=os.environ["ENDPOINT"])
    def handler(event, context):
        key = {{"id": {{"S": event["order"]}}}}
        client.put_item(TableName="records", Item=key, ConditionExpression="attribute_not_exists(id)")
        client.update_item(TableName="records", Key=key, UpdateExpression="SET answer = :answer",
            ExpressionAttributeValues={{":answer": {{"S": "x"}}}})
        return {ANSWER}
    """
ON_DYNAMODB = f"""
    import os
    import boto3
    from %s import DynamoDBPersistenceLayer, idempotent
    client = boto3.client("dynamodb", endpoint_url=os.environ["ENDPOINT"])
    @idempotent(persistence_store=DynamoDBPersistenceLayer("records", boto3_client=client))
    def handler(event, context):
        return {ANSWER}
    """
HANDLERS = {
    "in memory": (OURS, THEIRS, BARE),
    "on DynamoDB": (ON_DYNAMODB % "retrysafe", ON_DYNAMODB % PEER, BARE_DYNAMODB),
}


def measure(rounds: int) -> Iterator[Figure]:
    rounds = min(rounds, MOST_ROUNDS)
    yield from _imports(rounds)
    with dynoxide() as server, tempfile.TemporaryDirectory() as code:
        yield from _invocations(server, Path(code), rounds)


def _imports(rounds: int) -> Iterator[Figure]:
    with ready_environment([statement for both in ENTRY_POINTS.values() for statement in both]) as environment:
        for name, both in ENTRY_POINTS.items():
            found = [[_imported(statement, environment) for statement in (*both, "pass")] for _ in range(rounds)]
            yield from _figures(f"import of {name}", found, at_most=GOAL)


def _imported(statement: str, environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds and megabytes of a process that carries this out."""
    started = time.perf_counter()
    command = [sys.executable, "-c", statement + TELL_PAGES]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return (time.perf_counter() - started) * 1000, int(said) * PAGE_BYTES / 1e6


def _invocations(server: DynamoDBServer, code: Path, rounds: int) -> Iterator[Figure]:
    environ = {
        "ENDPOINT": server.url,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",  # of a server on this machine
    }
    server.create_table("records")
    for number, (name, sources) in enumerate(HANDLERS.items()):
        modules = [f"{who}_{number}" for who in ("ours", "theirs", "bare")]
        for module, source in zip(modules, sources, strict=True):
            (code / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        # The first writes the bytecode, and is left out.
        found = [[_invoked(module, code, environ, index) for module in modules] for index in range(rounds + 1)]
        yield from _figures(f"first invocation {name}", found[1:], at_most=GOAL)


def _invoked(module: str, code: Path, environ: dict[str, str], number: int) -> tuple[float, float]:
    """Milliseconds from the process's start to the answer, and its megabytes then."""
    with LambdaRuntime(f"{module}.handler", code=code, environ=environ) as function:
        started = time.perf_counter()
        invocation = function.invoke({"order": f"{module} {number}"})
        took = time.perf_counter() - started
    if invocation.outcome != "answer":
        raise RuntimeError(invocation.log or invocation.error_message)
    return took * 1000, invocation.answer["pages"] * PAGE_BYTES / 1e6


def _figures(what: str, found: list[list[tuple[float, float]]], *, at_most: float) -> Iterator[Figure]:
    """Time and memory, each above the bare one's."""
    for index, unit in enumerate(("ms", "MB")):
        ours, theirs, bare = (min(row[who][index] for row in found) for who in range(3))
        yield Figure(
            SECTION,
            f"{what}, above {bare:.0f} {unit} without either",
            ours - bare,
            theirs - bare,
            "Powertools",
            unit,
            (ours - bare) / (theirs - bare),
            at_most=at_most,
        )
