"""A cold start: what each entry point adds to a new process, and the first invocation of a new Lambda environment.

The invocations are real ones: AWS's own runtime client in a process of its own, from the process's start to the answer.
Taken off on both sides is what a handler pays without either library: the interpreter with the runtime client, and, on
DynamoDB, the same two bare requests through botocore; through boto3, where the handler itself makes a client of it.
Powertools loads boto3 by itself, in memory too.

Processor time counts, which depends least on what else the machine does, and the most memory that was in use. Each
round starts all processes in turn, and the smallest of each counts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
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
WAIT = "; import sys; print(flush=True); sys.stdin.read()"

BARE = """
    def handler(event, context):
        return {}
    """
OURS = """
    from retrysafe import MemoryPersistenceLayer, idempotent
    @idempotent(persistence_store=MemoryPersistenceLayer())
    def handler(event, context):
        return {}
    """
THEIRS = f"""
    from {PEER} import BasePersistenceLayer, idempotent
    from {PEER}.exceptions import IdempotencyItemNotFoundError
    class Layer(BasePersistenceLayer):
        def __init__(self):
            super().__init__()
            self.records = {{}}
        def _get_record(self, idempotency_key):
            raise IdempotencyItemNotFoundError
        def _put_record(self, data_record):
            self.records[data_record.idempotency_key] = data_record
        _update_record = _delete_record = _put_record
    @idempotent(persistence_store=Layer())
    def handler(event, context):
        return {{}}
    """
BOTO3 = """
    import boto3
    client = boto3.client("dynamodb")
    """
BOTOCORE = """
    import botocore.session
    client = botocore.session.get_session().create_client("dynamodb")
    """
BARE_DYNAMODB = """
    def handler(event, context):
        key = {"id": {"S": event["order"]}}
        client.put_item(TableName="records", Item=key, ConditionExpression="attribute_not_exists(id)")
        client.update_item(TableName="records", Key=key, UpdateExpression="SET answer = :answer",
            ExpressionAttributeValues={":answer": {"S": "x"}})
        return {}
    """
ON_DYNAMODB = """
    from %s import DynamoDBPersistenceLayer, idempotent
    @idempotent(persistence_store=DynamoDBPersistenceLayer("records"%s))
    def handler(event, context):
        return {}
    """
GIVEN = ", boto3_client=client"
HANDLERS = {
    "in memory": (OURS, THEIRS, BARE),
    "on DynamoDB": (ON_DYNAMODB % ("retrysafe", ""), ON_DYNAMODB % (PEER, ""), BOTOCORE + BARE_DYNAMODB),
    "on DynamoDB with a client passed in": (
        BOTO3 + ON_DYNAMODB % ("retrysafe", GIVEN),
        BOTO3 + ON_DYNAMODB % (PEER, GIVEN),
        BOTO3 + BARE_DYNAMODB,
    ),
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
    """What a process that carries this out has used."""
    command = [sys.executable, "-c", statement + WAIT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        if process.stdin is None or process.stdout is None or process.stdout.readline() != b"\n":
            raise RuntimeError(statement)
        found = _used(process.pid)
        process.stdin.close()
    return found


def _used(pid: int) -> tuple[float, float]:
    """Milliseconds of processor time of a process so far, and the most megabytes it had."""
    process = Path("/proc") / str(pid)
    busy_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in (process / "task").iterdir())
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return busy_ns / 1e6, int(status["VmHWM"].split()[0]) / 1000


def _invocations(server: DynamoDBServer, code: Path, rounds: int) -> Iterator[Figure]:
    environ = {
        "AWS_ENDPOINT_URL_DYNAMODB": server.url,
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
    """What a new environment has used when its first invocation is answered."""
    with LambdaRuntime(f"{module}.handler", code=code, environ=environ) as function:
        invocation = function.invoke({"order": f"{module} {number}"})
        if invocation.outcome != "answer":
            raise RuntimeError(invocation.log or invocation.error_message)
        return _used(invocation.pid)


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
