"""A worker of retrysafe: reads calls as JSON lines, answers as JSON lines, in the way that its first argument
names: `sync`, `async`, or `plain` (sync, with a client that runs no scripts).

See worker.py for what the lines say.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from decimal import Decimal
from functools import cache

from duties import Duties

from retrysafe import IdempotencyConfig, idempotent_function

PREFIX = "fleet"
REGION = "eu-central-1"


class Context:
    """As much of a Lambda context as a lease needs."""

    def __init__(self, remaining_ms):
        self.remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self):
        return self.remaining_ms


class PlainClient:
    """A cache client that can do no more than it must."""

    def __init__(self, host, port):
        import redis  # noqa: PLC0415  # only for this kind of worker

        client = redis.Redis(host, port)
        self.get, self.set, self.delete = client.get, client.set, client.delete


def session():
    import boto3  # noqa: PLC0415  # only where DynamoDB is the store

    return boto3.Session("test", "test", region_name=REGION)


def async_session():
    from aiobotocore.session import get_session  # noqa: PLC0415  # the same

    made = get_session()
    made.set_credentials("test", "test")
    made.set_config_variable("region", REGION)
    return made


@cache
def layer_of(store, kind):
    """One layer for all calls on a store, which is told as JSON text."""
    where = json.loads(store)
    if where.pop("kind") == "cache":
        from retrysafe.persistence import cache as layers  # noqa: PLC0415  # only where a cache is the store

        if kind == "plain":
            return layers.CachePersistenceLayer(client=PlainClient(**where))
        layer = layers.AsyncCachePersistenceLayer if kind == "async" else layers.CachePersistenceLayer
        return layer(**where, ssl=False)
    from retrysafe.persistence import dynamodb as layers  # noqa: PLC0415  # the same

    options = {"endpoint_url": where["endpoint"], **where["arguments"]}
    if kind == "async":
        return layers.AsyncDynamoDBPersistenceLayer(where["table"], session=async_session(), **options)
    return layers.DynamoDBPersistenceLayer(where["table"], boto3_session=session(), **options)


def config_of(request):
    remaining_ms = request["remaining_ms"]
    options = dict(request["options"])
    if options.pop("replay_lookup_errors", False):
        options["replay_exceptions"] = (LookupError,)
    return IdempotencyConfig(
        event_key_jmespath="id",
        payload_validation_jmespath="amount" if request["validate"] else "",
        expires_after_seconds=request["window"],
        lambda_context=None if remaining_ms is None else Context(remaining_ms),
        **options,
    )


def answer_of(duties, key, body):
    """What the function returns; of more types than JSON has, where the request asks for these."""
    answer = duties.run(key, body)
    if answer == "typed":
        return {"lines": (1, 2), "on": dt.date(2026, 1, 2), "total": Decimal("1.10")}
    return object() if answer == "unstorable" else answer


def protected(duties, request, kind):
    options = {
        "data_keyword_argument": "order",
        "persistence_store": layer_of(json.dumps(request["store"]), kind),
        "config": config_of(request),
        "key_prefix": PREFIX,
    }
    if kind == "async":

        @idempotent_function(**options)
        async def charge_async(order):
            return await asyncio.to_thread(answer_of, duties, order["id"], request["body"])

        return charge_async

    @idempotent_function(**options)
    def charge(order):
        return answer_of(duties, order["id"], request["body"])

    return charge


def tell_answer(duties, answer):
    try:
        duties.tell(answer=answer)
    except TypeError:
        duties.tell(answer=repr(answer))


def work(duties, kind):
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = protected(duties, request, kind)(order=request["payload"])
        except Exception as error:  # noqa: BLE001  # it is what the test asks about
            duties.tell_error(error)
        else:
            tell_answer(duties, answer)


async def work_async(duties):
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = await protected(duties, request, "async")(order=request["payload"])
        except Exception as error:  # noqa: BLE001  # it is what the test asks about
            duties.tell_error(error)
        else:
            tell_answer(duties, answer)


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "async":
        asyncio.run(work_async(Duties(*rest)))
    else:
        work(Duties(*rest), kind)
