"""The Lambda handler of a queue, under Powertools' batch processor: one message at a time is safe to repeat."""

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from payments import STORE, charge

from retrysafe import IdempotencyConfig, idempotent_function

processor = BatchProcessor(event_type=EventType.SQS)
config = IdempotencyConfig(event_key_jmespath="powertools_json(body).payment_id")


@idempotent_function(data_keyword_argument="record", persistence_store=STORE, config=config)
def charge_record(record):
    """One message, as Powertools hands it over."""
    return charge(record.json_body)


def handler(event, context):
    """The messages that failed, so that the queue delivers them again."""
    config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=charge_record, processor=processor, context=context)
