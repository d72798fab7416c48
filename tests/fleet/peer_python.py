"""A worker of Powertools for AWS Lambda (Python): reads calls as JSON lines, answers as JSON lines.

Run by an interpreter of its own that has Powertools and no retrysafe; see worker.py for what the lines say.
"""

from __future__ import annotations

import json
import sys
from functools import cache

from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from duties import Duties

PREFIX = "fleet"


class Context:
    """As much of a Lambda context as a lease needs."""

    def __init__(self, remaining_ms):
        self.remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self):
        return self.remaining_ms


@cache
def cache_client(host, port):
    import redis  # noqa: PLC0415  # only where a cache is the store

    return redis.Redis(host=host, port=port, decode_responses=True)


@cache
def dynamodb_client(endpoint):
    import boto3  # noqa: PLC0415  # only where DynamoDB is the store

    return boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  # an emulator takes anything
    )


def layer_of(store):
    """A layer of its own for each call, since a layer keeps the config of the first function that it meets."""
    if store["kind"] == "cache":
        from aws_lambda_powertools.utilities.idempotency.persistence.redis import (  # noqa: PLC0415
            RedisCachePersistenceLayer,
        )

        return RedisCachePersistenceLayer(client=cache_client(store["host"], store["port"]))
    from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer  # noqa: PLC0415

    client = dynamodb_client(store["endpoint"])
    return DynamoDBPersistenceLayer(table_name=store["table"], boto3_client=client, **store["arguments"])


def call(duties, request):
    remaining_ms = request["remaining_ms"]
    config = IdempotencyConfig(
        event_key_jmespath="id",
        payload_validation_jmespath="amount" if request["validate"] else "",
        expires_after_seconds=request["window"],
        lambda_context=None if remaining_ms is None else Context(remaining_ms),
    )

    @idempotent_function(
        data_keyword_argument="order",
        persistence_store=layer_of(request["store"]),
        config=config,
        key_prefix=PREFIX,
    )
    def charge(order):
        return duties.run(order["id"], request["body"])

    return charge(order=request["payload"])


def main():
    duties = Duties(*sys.argv[1:])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            duties.tell(answer=call(duties, request))
        except Exception as error:  # noqa: BLE001  # it is what the test asks about
            duties.tell_error(error)


if __name__ == "__main__":
    main()
