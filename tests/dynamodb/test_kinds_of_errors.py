"""What kind of error each refusal becomes: wrong configuration, a service that is away, or one that refuses."""

from __future__ import annotations

import botocore.exceptions
import pytest

from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._dynamodb.errors import explained, explained_response

CONFIG, CONNECTION, LAYER = (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)

CODES = {
    CONFIG: {
        "ResourceNotFoundException": "does not exist",
        "ResourceInUseException": "exists already",
        "AccessDeniedException": "not permitted",
        "UnrecognizedClientException": "does not know these credentials",
        "InvalidClientTokenId": "does not know these credentials",
        "MissingAuthenticationToken": "wants credentials",
        "MissingAuthenticationTokenException": "wants credentials",
        "IncompleteSignature": "refuses the signature",
        "IncompleteSignatureException": "refuses the signature",
        "InvalidSignatureException": "refuses the signature",
        "OptInRequired": "has not been subscribed to",
        "ExpiredTokenException": "have expired",
        "ExpiredToken": "have expired",
        "AccessDenied": "the role is refused",
        "InvalidIdentityToken": "identity token",
        "RequestExpired": "clock is wrong",
        "RequestTimeTooSkewed": "clock is wrong",
    },
    LAYER: {
        "ValidationException": "invalid",
        "ItemCollectionSizeLimitExceededException": "local secondary index",
        "LimitExceededException": "cannot be changed at the moment",
        "ProvisionedThroughputExceededException": "is throttled",
        "ThrottlingException": "is throttled",
        "Throttling": "is throttled",
        "RequestLimitExceeded": "account's limit",
        "TransactionConflictException": "in a transaction",
        "TransactionInProgressException": "in a transaction",
        "ReplicatedWriteConflictException": "another region",
    },
    CONNECTION: {
        "InternalServerError": "fault inside of DynamoDB",
        "InternalFailure": "fault inside of DynamoDB",
        "ServiceUnavailable": "not available",
        "ServiceUnavailableException": "not available",
    },
}

# By what a ValidationException says, in the words of DynamoDB and of the servers that stand in for it.
SAID = {
    "Item size has exceeded the maximum allowed size": (LAYER, "too large"),
    "Item size to update has exceeded the maximum allowed size": (LAYER, "too large"),
    "The item exceeded the maximum allowed size": (LAYER, "too large"),
    "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size": (CONFIG, "2048 bytes"),
    "Aggregated size of all range keys has exceeded the size limit of 1024 bytes": (CONFIG, "2048 bytes"),
    "Size of rangekey has exceeded the maximum": (CONFIG, "2048 bytes"),
    "Hash primary key values must be under 2048 bytes": (CONFIG, "2048 bytes"),
    "The provided key element does not match the schema": (CONFIG, "another key"),
    "One or more parameter values were invalid: Missing the key pk in the item": (CONFIG, "another key"),
    "One of the required keys was not given a value": (CONFIG, "another key"),
    "The number of conditions on the keys is invalid": (CONFIG, "another key"),
    "Type mismatch for key id expected: N actual: S": (CONFIG, "another key"),
}

RAISED = {
    CONFIG: {
        "NoCredentialsError": "without credentials",
        "PartialCredentialsError": "half of the credentials",
        "CredentialRetrievalError": "getting the credentials failed",
        "NoAuthTokenError": "without a token",
        "TokenRetrievalError": "getting the token failed",
        "SSOError": "single sign-on",
        "LoginError": "the login gives no credentials",
        "RefreshWithMFAUnsupportedError": "second factor",
        "ProfileNotFound": "profile",
        "NoRegionError": "AWS_REGION",
        "InvalidRegionError": "no valid name",
        "UnknownEndpointError": "no such endpoint",
        "InvalidConfigError": "boto3's configuration",
        "ParamValidationError": "like that",
    },
    LAYER: {
        "BotoCoreError": "cannot be asked - (BotoCoreError",
        "DataNotFoundError": "cannot be asked - (DataNotFoundError",
    },
    CONNECTION: {
        "SSLError": "TLS failed",
        "MetadataRetrievalError": "getting the credentials failed",
        "HTTPClientError": "did not answer",
        "ConnectionError": "did not answer",
        "ReadTimeoutError": "did not answer",
    },
}


def each_of(table):
    return [pytest.param(name, kind, told, id=name) for kind, names in table.items() for name, told in names.items()]


def refusal(code, said="no"):
    return {"Error": {"Code": code, "Message": said}, "ResponseMetadata": {"HTTPStatusCode": 400}}


@pytest.mark.parametrize("namespace", ["", "com.amazonaws.dynamodb.v20120810#"], ids=["bare", "in a namespace"])
@pytest.mark.parametrize(("code", "kind", "told"), each_of(CODES))
def test_a_code_of_the_service(code, kind, told, namespace):
    error = explained_response(refusal(f"{namespace}{code}", "what it said"), "the table")
    assert type(error) is kind
    assert str(error).startswith("the table ")
    assert told in str(error)
    assert "what it said" in str(error)


@pytest.mark.parametrize("said", SAID)
def test_what_an_invalid_request_says(said):
    kind, told = SAID[said]
    error = explained_response(refusal("ValidationException", said), "the table")
    assert type(error) is kind
    assert told in str(error)


@pytest.mark.parametrize(("name", "kind", "told"), each_of(RAISED))
def test_an_error_of_the_client(name, kind, told):
    raised = getattr(botocore.exceptions, name, None)
    if raised is None:
        pytest.skip(f"this version of botocore has no {name}")
    error = explained(raised.__new__(raised), "the table")
    assert type(error) is kind
    assert told in str(error)


@pytest.mark.parametrize("raised", [OSError("away"), TimeoutError("late"), ConnectionResetError("reset")], ids=repr)
def test_an_error_of_the_network(raised):
    error = explained(raised, "the table")
    assert type(error) is CONNECTION
    assert str(raised) in str(error)


@pytest.mark.parametrize(("status", "kind"), [(400, LAYER), (499, LAYER), (500, CONNECTION), (None, LAYER)])
def test_a_code_that_nobody_has_heard_of_is_told_by_its_status(status, kind):
    metadata = {} if status is None else {"ResponseMetadata": {"HTTPStatusCode": status}}
    error = explained_response({"Error": {"Code": "Unheard", "Message": "of"}} | metadata, "the table")
    assert type(error) is kind
    assert "Unheard: of" in str(error)


def test_an_error_of_ours_is_raised_as_it_is():
    error = IdempotencyPersistenceConfigError("ours")
    assert explained(error, "the table") is error


def test_an_error_of_another_kind_is_told_with_its_class():
    error = explained(KeyError("odd"), "the table")
    assert type(error) is LAYER
    assert "KeyError: 'odd'" in str(error)


@pytest.mark.parametrize("response", [None, {}, {"Answer": 1}, "Error"], ids=repr)
def test_an_error_with_a_response_that_is_no_refusal_is_told_by_itself(response):
    raised = OSError("away")
    raised.response = response
    error = explained(raised, "the table")
    assert type(error) is CONNECTION
    assert "away" in str(error)
