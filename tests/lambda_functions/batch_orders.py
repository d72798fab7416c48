"""The Lambda handler of a queue, over whole batches: each message is a call of its own, and they share round trips."""

import json

from payments import STORE, charge

from retrysafe import IdempotencyConfig, idempotent_batch

config = IdempotencyConfig(event_key_jmespath="powertools_json(body).payment_id")


@idempotent_batch(persistence_store=STORE, config=config)
def charge_records(record):
    """One message."""
    return charge(json.loads(record["body"]))


def handler(event, context):
    """The messages that failed, so that the queue delivers them again."""
    config.register_lambda_context(context)
    return charge_records(event["Records"]).batch_item_failures()
