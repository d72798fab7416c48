"""DynamoDB (dynoxide): whole calls beside boto3's bare requests and beside Powertools.

Beside Powertools, once on one client that both are given, and once on a client that each opens by itself.

Bare means: a conditional `put_item` and an `update_item` for a first call, a `put_item` that fails its condition for a
replay, through the same boto3 client, their parameters ready. boto3 itself takes most of the time, so the processor's
time tells what is added to it; the wall clock tells what a caller waits.
"""

from __future__ import annotations

import itertools
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from benchmarks import peer
from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import LambdaContext, Payload, Protected, answer, payloads
from benchmarks.pairs import Batch, Clock, Subject, compare
from benchmarks.servers import dynoxide
from botocore.exceptions import ClientError

import retrysafe
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTION = "DynamoDB"
CALLS = 20
PROCESSOR_GOAL = 1.15
WALL_GOALS = {"first": 1.1, "replay": 1.15}
NO_SLOWER = 1.0
WINDOW_SECONDS = 3600
DATA = '{"statusCode": 200, "count": 1, "text": "x", "nothing": null, "done": true}'
NUMBERS = itertools.count()


def measure(rounds: int) -> Iterator[Figure]:
    with dynoxide() as server:
        table = "benchmarks"
        server.create_table(table)
        given = boto3.client("dynamodb", **server.client_arguments)
        os.environ |= environment(server.client_arguments)  # for clients that the layers open
        for phase, what in (("first", "first call"), ("replay", "replay")):
            for name, clock in (("processor", time.process_time_ns), ("wall", time.perf_counter_ns)):
                bare_goal = PROCESSOR_GOAL if name == "processor" else WALL_GOALS[phase]
                for client, whose in ((given, "a given client"), (None, "its own client")):
                    ours = partial(_ours(client, table), phase)
                    label = f"{what}, {name}, {whose}"
                    bare = partial(_bare, given, table, phase)
                    yield _figure(ours, bare, label, "bare requests", bare_goal, rounds, clock)
                    theirs = partial(_powertools(client, table), phase)
                    yield _figure(ours, theirs, label, "Powertools", NO_SLOWER, rounds, clock)


def environment(arguments: dict[str, str]) -> dict[str, str]:
    """What tells a client of boto3 the same as these arguments."""
    return {
        "AWS_ENDPOINT_URL_DYNAMODB": arguments["endpoint_url"],
        "AWS_DEFAULT_REGION": arguments["region_name"],
        "AWS_ACCESS_KEY_ID": arguments["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": arguments["aws_secret_access_key"],
    }


def _figure(ours: Subject, theirs: Subject, what: str, other: str, goal: float, rounds: int, clock: Clock) -> Figure:
    pairs = compare(ours, theirs, calls=CALLS, rounds=rounds, clock=clock)
    return of_pairs(SECTION, what, other, pairs, at_most=goal)


def _ours(client: Any, table: str) -> Callable[[str], Batch]:
    protected = retrysafe.idempotent_function(
        answer,
        data_keyword_argument="data",
        persistence_store=DynamoDBPersistenceLayer(table, boto3_client=client),
    )
    return partial(_protected, lambda data: protected(data=data))


def _powertools(client: Any, table: str) -> Callable[[str], Batch]:
    protected = peer.idempotent_function(
        answer,
        data_keyword_argument="data",
        persistence_store=peer.DynamoDBPersistenceLayer(table, boto3_client=client),
        config=peer.config("", LambdaContext()),
    )
    return partial(_protected, lambda data: protected(data=data))


def _protected(protected: Protected, phase: str) -> Batch:
    given = [payload | {"round": next(NUMBERS)} for payload in payloads(CALLS)]
    if phase == "replay":
        _each(protected, given)
    return partial(_each, protected, given)


def _each(protected: Protected, given: list[Payload]) -> None:
    for payload in given:
        protected(payload)


def _bare(client: Any, table: str, phase: str) -> Batch:
    now = int(time.time())
    keys = [f"test-func.benchmarks.memory.answer#{next(NUMBERS):032x}" for _ in range(CALLS)]
    claims = [claim(table, key, now) for key in keys]
    outcomes = [outcome(table, key, now, DATA) for key in keys]

    def first() -> None:
        for claim, outcome in zip(claims, outcomes, strict=True):
            client.put_item(**claim)
            client.update_item(**outcome)

    def replay() -> None:
        for claim in claims:
            try:
                client.put_item(**claim)
            except ClientError as error:
                error.response["Item"]
            else:
                raise AssertionError(claim)

    if phase == "first":
        return first
    first()
    return replay


def claim(table: str, key: str, now: int) -> dict[str, Any]:
    """The parameters of a claim by hand."""
    return {
        "TableName": table,
        "Item": {
            "id": {"S": key},
            "expiration": {"N": str(now + WINDOW_SECONDS)},
            "status": {"S": "INPROGRESS"},
            "in_progress_expiration": {"N": str(now * 1000 + 30_000)},
        },
        "ConditionExpression": "attribute_not_exists(#id) OR #expiry < :now",
        "ExpressionAttributeNames": {"#id": "id", "#expiry": "expiration"},
        "ExpressionAttributeValues": {":now": {"N": str(now)}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def outcome(table: str, key: str, now: int, data: str) -> dict[str, Any]:
    """Those of storing its answer."""
    return {
        "TableName": table,
        "Key": {"id": {"S": key}},
        "UpdateExpression": "SET #data = :data, #expiry = :expiry, #status = :status",
        "ExpressionAttributeNames": {"#data": "data", "#expiry": "expiration", "#status": "status"},
        "ExpressionAttributeValues": {
            ":data": {"S": data},
            ":expiry": {"N": str(now + WINDOW_SECONDS)},
            ":status": {"S": "COMPLETED"},
        },
    }
