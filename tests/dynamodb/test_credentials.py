"""No region, or credentials that are missing, refused or over: each a clear error before anything runs."""

from __future__ import annotations

import asyncio

import boto3
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from botocore.session import get_session as plain_session

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._dynamodb.errors import explained
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from support.dynamodb_calls import refused_before_it_runs


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine where boto3 finds nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("bare")
def test_no_region():
    layer = DynamoDBPersistenceLayer("some-table")
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "some-table", "region", "AWS_REGION")


@pytest.mark.usefixtures("bare")
def test_no_credentials(dynoxide):
    layer = DynamoDBPersistenceLayer("some-table", region_name="eu-central-1", endpoint_url=dynoxide.url)
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "some-table", "credentials")
    layer.close()


def test_a_role_that_is_refused_and_credentials_that_are_over_as_soon_as_they_are_renewed(dynoxide, table):
    body = {"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: sts:AssumeRole"}}
    said = [ClientError(body, "AssumeRole"), ClientError(body, "AssumeRole")]

    def renewed():
        if said:
            raise said.pop()
        return {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2020-01-01T00:00:00+00:00"}

    made = plain_session()
    over = {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2020-01-01T00:00:00+00:00"}
    made._credentials = RefreshableCredentials.create_from_metadata(over, renewed, "assume-role")
    made.set_config_variable("region", "eu-central-1")
    client = boto3.Session(botocore_session=made).client("dynamodb", endpoint_url=dynoxide.url)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client)
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "the role is refused", "sts:AssumeRole")
    said.clear()
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "have expired by this machine's clock")


@pytest.mark.usefixtures("bare")
def test_an_asynchronous_layer_without_region_or_credentials(dynoxide):
    async def call(**options):
        async with AsyncDynamoDBPersistenceLayer("some-table", **options) as layer:
            await layer._get_record("orders#1")

    with pytest.raises(IdempotencyPersistenceConfigError, match=r"some-table.*AWS_REGION"):
        asyncio.run(call())
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"some-table.*credentials"):
        asyncio.run(call(region_name="eu-central-1", endpoint_url=dynoxide.url))


def test_credentials_that_are_over_are_wrong_configuration_wherever_they_came_from():
    import botocore.exceptions as raised  # noqa: PLC0415  # looked through, for what it has

    names = ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginRefreshRequired", "LoginTokenLoadError")
    known = set(names) & set(vars(raised))  # older versions know no logins
    assert known >= set(names[:2])
    for name in known:
        kind = getattr(raised, name)
        told = explained(kind.__new__(kind), "the table")
        assert type(told) is IdempotencyPersistenceConfigError, name
        assert "check the credentials" in str(told)
