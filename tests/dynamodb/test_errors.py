"""What can be wrong with a table or the service: each a clear error, before anything ran where it can be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import boto3
import botocore.endpoint
import pytest
from botocore.config import Config

import retrysafe.persistence._dynamodb.errors as table_of_errors
from retrysafe import DataRecord, IdempotencyConfig, idempotent_function
from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._dynamodb.errors import explained
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.bodies import counted
from support.dynamodb_calls import called, refused_before_it_runs
from support.dynamodb_support import NOWHERE, async_layer, client_at, new_table, sync_layer

ONCE = Config(retries={"total_max_attempts": 1})
QUICK = Config(retries={"total_max_attempts": 4, "mode": "legacy"})


# --- said by real servers ---------------------------------------------------------------------------------------------


def test_a_table_that_is_not_there(each_dynamodb):
    layer = sync_layer(each_dynamodb, "missing-table")
    refused_before_it_runs(
        layer,
        IdempotencyPersistenceConfigError,
        "the DynamoDB table 'missing-table' (eu-central-1)",
        "does not exist",
        "create_table()",
    )
    layer.close()


@pytest.mark.parametrize(("key", "sort_key"), [("pk", None), ("id", "sk"), ("pk", "sk")])
def test_a_table_with_another_key(each_dynamodb, key, sort_key):
    layer = DynamoDBPersistenceLayer(new_table(each_dynamodb, key, sort_key), boto3_client=client_at(each_dynamodb.url))
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "another key", "key_attr", "layer.check()")
    with pytest.raises(IdempotencyPersistenceConfigError, match="another key"):
        layer._get_record("orders#1")


@pytest.mark.parametrize(("sort_key", "longest"), [(None, 2048), ("sk", 1024)])
def test_a_key_that_is_too_long(each_dynamodb, sort_key, longest):
    client = client_at(each_dynamodb.url)
    layer = DynamoDBPersistenceLayer(
        new_table(each_dynamodb, "id", sort_key), boto3_client=client, sort_key_attr=sort_key
    )
    claim = DataRecord("k" * longest, INPROGRESS, 99_999_999_999, 9_000, owner="me")
    layer._put_record(claim)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"2048 bytes.*key_prefix"):
        layer._put_record(claim.replaced(idempotency_key="k" * (longest + 1)))
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"2048 bytes.*key_prefix"):
        layer._get_record("k" * (longest + 1))


# --- said by the service ----------------------------------------------------------------------------------------------


CONFIG, CONNECTION, LAYER = (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)


@pytest.mark.parametrize(
    ("code", "said", "status", "kind", "told"),
    [
        ("AccessDeniedException", "not authorized: dynamodb:PutItem", 400, CONFIG, "needs dynamodb:PutItem, GetItem"),
        (
            "UnrecognizedClientException",
            "The security token is invalid",
            400,
            CONFIG,
            "does not know these credentials",
        ),
        ("InvalidSignatureException", "does not match", 400, CONFIG, "refuses the signature"),
        ("InvalidSignatureException", "Signature expired: 2026", 400, CONFIG, "clock is wrong"),
        ("InvalidSignatureException", "Signature not yet current: 2026", 400, CONFIG, "clock is wrong"),
        ("MissingAuthenticationTokenException", "Missing", 400, CONFIG, "wants credentials"),
        ("IncompleteSignatureException", "no", 400, CONFIG, "refuses the signature"),
        ("ExpiredTokenException", "expired", 400, CONFIG, "have expired"),
        ("ProvisionedThroughputExceededException", "too much", 400, LAYER, "is throttled"),
        ("ThrottlingException", "too much", 400, LAYER, "is throttled"),
        ("RequestLimitExceeded", "too much", 400, LAYER, "account's limit"),
        ("TransactionConflictException", "ongoing", 400, LAYER, "transaction"),
        ("ReplicatedWriteConflictException", "elsewhere", 400, LAYER, "another region"),
        ("ItemCollectionSizeLimitExceededException", "10 GB", 400, LAYER, "local secondary index"),
        ("ValidationException", "whatever", 400, LAYER, "invalid"),
        ("ValidationException", "Type mismatch for key id expected: N actual: S", 400, CONFIG, "another key"),
        ("InternalServerError", "oops", 500, CONNECTION, "fault inside of DynamoDB"),
        ("ServiceUnavailable", "oops", 503, CONNECTION, "not available"),
        ("UnheardOfException", "what", 400, LAYER, "refused the request"),
        ("UnheardOfException", "what", 500, CONNECTION, "refused the request"),
    ],
)
def test_what_the_service_refuses(service, table, code, said, status, kind, told):
    service.refuse("PutItem", code, said, status=status, times=2)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url))
    error = refused_before_it_runs(layer, kind, f"the DynamoDB table '{table}'", told, said)
    assert type(error) is kind
    service.refusals.clear()
    # On a second look everything is right, and the same layer works.
    assert called(layer) == 1


def test_an_asynchronous_layer_says_the_same(service, table):
    service.refuse("PutItem", "AccessDeniedException", "not authorized", times=2)

    async def charge(order):
        raise AssertionError

    async def call():
        async with async_layer(service, table, boto_config=ONCE) as layer:
            await idempotent_function(charge, persistence_store=layer)(1)

    with pytest.raises(IdempotencyPersistenceConfigError, match=rf"{table}.*needs dynamodb:PutItem"):
        asyncio.run(call())


def test_no_error_of_a_client_escapes_unmapped():
    import botocore.exceptions as raised  # noqa: PLC0415  # looked through, for what it has

    kinds = {
        error
        for error in vars(raised).values()
        if isinstance(error, type) and issubclass(error, Exception) and error.__module__ == raised.__name__
    }
    kinds = {error for error in kinds if not issubclass(error, Warning)}
    assert len(kinds) > 50
    for kind in kinds:
        told = explained(kind.__new__(kind), "the table")
        assert isinstance(told, IdempotencyPersistenceLayerError | IdempotencyPersistenceConfigError)
        assert str(told).startswith("the table ")


def test_every_code_in_the_table_of_errors_says_what_and_of_which_table():
    for code, (kind, told) in table_of_errors._KINDS.items():
        assert issubclass(kind, IdempotencyPersistenceLayerError | IdempotencyPersistenceConfigError), code
        assert told.split()[0] in {
            "does",
            "has",
            "takes",
            "refused",
            "is",
            "refuses",
            "wants",
            "cannot",
            "had",
            "exists",
        }


# --- throttled, and away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["PutItem", "outcome"])
def test_throttling_is_tried_again(service, table, operation):
    service.refuse(operation, "ProvisionedThroughputExceededException", times=2)
    body = counted()
    with sync_layer(service, table, boto_config=QUICK) as layer:
        assert called(layer, body) == 1
    assert body.body.runs == 1
    assert service.requests.count(operation) == 3


@pytest.mark.parametrize("mode", ["standard", "adaptive"])
def test_a_request_is_tried_six_times_with_five_seconds_for_each_reply_and_a_claim_made_twice(
    service, table, monkeypatch, mode
):
    """Whichever retry mode boto3 would take: some of them pause for longer than a lease."""
    pauses = []
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=pauses.append))
    service.refuse("PutItem", "ThrottlingException", times=12)
    session = boto3.Session("test", "test", region_name="eu-central-1")
    with DynamoDBPersistenceLayer(table, boto3_session=session, endpoint_url=service.url) as layer:
        refused_before_it_runs(layer, IdempotencyPersistenceLayerError, "throttled")
        config = layer.client.meta.config
    assert (service.requests.count("PutItem"), service.refusals) == (12, [])
    assert (config.connect_timeout, config.read_timeout) == (2, 5)
    assert sum(pauses) <= 2 * 1.6


def test_an_outcome_is_tried_again_for_as_long_as_the_lease_runs(service, table):
    """Also past what boto3 tries by itself."""
    service.refuse("outcome", "ThrottlingException", times=6)
    body = counted()
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url))
    config = IdempotencyConfig(in_progress_expires_after_seconds=60)
    assert called(layer, body, config=config) == 1
    assert called(layer, body, config=config) == 1
    assert (body.body.runs, service.requests.count("outcome")) == (1, 7)


def test_a_service_that_is_away(table):
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(NOWHERE.url))
    refused_before_it_runs(layer, IdempotencyPersistenceConnectionError, "cannot be reached", NOWHERE.url)


def test_a_service_that_does_not_answer(dynoxide, proxy_to, table):
    proxy = proxy_to(dynoxide)
    config = Config(read_timeout=0.1, retries={"total_max_attempts": 1})
    with sync_layer(proxy.server, table, boto_config=config) as layer:
        proxy.black_hole()
        refused_before_it_runs(layer, IdempotencyPersistenceConnectionError, "did not answer")
        proxy.heal()
        config = layer.client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (2, 0.1)


def test_the_outcome_carries_the_response_where_the_service_stays_away(service, table):
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url))
    service.refuse("outcome", "InternalServerError", status=500, times=1000)
    with pytest.raises(IdempotencyPersistenceLayerError) as refused:
        called(layer, config=IdempotencyConfig(in_progress_expires_after_seconds=1))
    assert refused.value.response == 1
    service.refusals.clear()
    claim = layer._get_record(_only_key(service, table))
    layer._update_record(claim.replaced(status=COMPLETED, response_data="1"))
    assert called(layer) == 1


def _only_key(server, table):
    (item,) = client_at(server.url).scan(TableName=table)["Items"]
    return item["id"]["S"]
