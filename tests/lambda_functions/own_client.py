"""A handler on a DynamoDB layer that opens its own client; tells what was loaded before the first invocation."""

import asyncio
import os
import sys

from retrysafe import idempotent_function
from retrysafe.persistence import dynamodb

LIBRARIES = {"boto3", "botocore", "aiobotocore"}


def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules} & LIBRARIES)


layer = getattr(dynamodb, os.environ["LAYER"])(os.environ["TABLE"])
before = loaded()


@idempotent_function(persistence_store=layer)
async def charge(order):
    return f"receipt for {order}"


async def charged(order):
    """Twice, and the client is closed where it belongs to this event loop."""
    answers = {await charge(order), await charge(order)}
    closing = layer.close()
    if closing is not None:
        await closing
    return sorted(answers)


def handler(event, context):
    return {"before": before, "answers": asyncio.run(charged(event["order"])), "after": loaded()}
