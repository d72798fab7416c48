"""What can be wrong with a table, a machine or the service: each a clear error, before anything ran where it can be."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from botocore.session import get_session as plain_session

import retrysafe.persistence._dynamodb.errors as table_of_errors
from retrysafe import DataRecord, IdempotencyConfig, async_layer_from_url, idempotent_function, layer_from_url
from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._dynamodb.errors import explained
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from support.bodies import counted
from support.dynamodb_support import (
    NOWHERE,
    async_layer,
    async_session,
    client_at,
    new_table,
    session,
    sync_layer,
)

ONCE = Config(retries={"total_max_attempts": 1})
QUICK = Config(retries={"total_max_attempts": 4, "mode": "legacy"})


@pytest.fixture
def table(dynoxide):
    return new_table(dynoxide)


def called(layer, body=None, **options):
    """One call of a function on the layer."""
    body = body or counted()
    return idempotent_function(body, persistence_store=layer, key_prefix="orders", **options)(1)


def refused_before_it_runs(layer, kind, *parts):
    """A call on this layer fails so, and its function does not run; the same through the async layer where given."""
    body = counted()
    with pytest.raises(kind) as refused:
        called(layer, body)
    assert body.body.runs == 0
    told = str(refused.value)
    for part in parts:
        assert part in told
    assert refused.value.__cause__ is not None
    return refused.value


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


def test_credentials_that_are_over_are_wrong_configuration_wherever_they_came_from():
    import botocore.exceptions as raised  # noqa: PLC0415  # looked through, for what it has

    names = ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "LoginRefreshRequired", "LoginTokenLoadError")
    for name in set(names) & set(vars(raised)):  # older versions know no logins
        kind = getattr(raised, name)
        told = explained(kind.__new__(kind), "the table")
        assert type(told) is IdempotencyPersistenceConfigError, name
        assert "check the credentials" in str(told)


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
    assert layer._settings._place._arguments(Config)["config"].connect_timeout == 2


# --- no credentials, no region ----------------------------------------------------------------------------------------


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


# --- refused when the layer is made -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [DynamoDBPersistenceLayer, AsyncDynamoDBPersistenceLayer])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"table_name": "a table"}, "table_name='a table'"),
        ({"table_name": None}, "table_name=None"),
        ({"table_name": "orders\n"}, "table_name="),
        ({"key_attr": ""}, "key_attr=''"),
        ({"sort_key_attr": "id"}, "sort_key_attr='id': the name is taken, by key_attr"),
        ({"data_attr": "owner"}, "data_attr='owner': the name is taken, by an attribute of ours"),
        ({"status_attr": "packed"}, "status_attr='packed'"),
        ({"status_attr": "data"}, "the name is taken, by"),
        ({"key_attr": "k" * 256}, "1 to 255 bytes"),
        ({"static_pk_value": ""}, "static_pk_value=''"),
        ({"static_pk_value": 5}, "static_pk_value=5"),
        ({"clock_skew_limit_seconds": 0}, "clock_skew_limit_seconds=0"),
        ({"clock_skew_limit_seconds": "5"}, "clock_skew_limit_seconds='5'"),
        ({"boto_config": {"retries": 1}}, "boto_config={'retries': 1}"),
        ({"boto_config": Config}, "boto_config=<class 'botocore.config.Config'>"),
        ({"region_name": 5}, "region_name=5"),
        ({"endpoint_url": 5}, "endpoint_url=5"),
        ({"endpoint_url": "localhost:8000"}, "endpoint_url='localhost:8000'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_when_the_layer_is_made(make, options, told):
    with pytest.raises(IdempotencyPersistenceConfigError) as refused:
        make(**{"table_name": "orders"} | options)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("make", "library", "given"),
    [
        (DynamoDBPersistenceLayer, "boto3", {"boto3_session": session()}),
        (AsyncDynamoDBPersistenceLayer, "aiobotocore", {"session": async_session()}),
        (lambda _: layer_from_url("dynamodb://orders"), "boto3", None),
        (lambda _: async_layer_from_url("dynamodb://orders"), "aiobotocore", None),
    ],
)
def test_a_layer_without_its_client_library_is_refused_when_it_is_made(make, library, given, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"needs {library}: pip install 'retrysafe"):
        make("orders")
    if given is not None:
        make("orders", **given)


def test_a_wrong_client_is_refused_when_the_layer_is_made(dynoxide):
    resource = session().resource("dynamodb", endpoint_url=dynoxide.url)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pass boto3\.client\('dynamodb'\)"):
        DynamoDBPersistenceLayer("orders", boto3_client=resource)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pass boto3\.client\('dynamodb'\)"):
        DynamoDBPersistenceLayer("orders", boto3_client=resource.Table("orders"))
    with pytest.raises(IdempotencyPersistenceConfigError, match="is none of DynamoDB"):
        DynamoDBPersistenceLayer("orders", boto3_client=session().client("sts"))
    with pytest.raises(IdempotencyPersistenceConfigError, match="use DynamoDBPersistenceLayer"):
        AsyncDynamoDBPersistenceLayer("orders", client=client_at(dynoxide.url))
    with pytest.raises(IdempotencyPersistenceConfigError, match="is no boto3"):
        DynamoDBPersistenceLayer("orders", boto3_session="eu-central-1")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is no aiobotocore"):
        AsyncDynamoDBPersistenceLayer("orders", session=boto3.Session())

    async def asynchronous():
        async with get_session().create_client("dynamodb", region_name="eu-central-1") as client:
            with pytest.raises(IdempotencyPersistenceConfigError, match="use AsyncDynamoDBPersistenceLayer"):
                DynamoDBPersistenceLayer("orders", boto3_client=client)

    asyncio.run(asynchronous())


def test_a_client_that_a_resource_has_changed_is_found_out_by_what_the_service_says(dynoxide, table):
    """It looks like any other, and makes other values of what it is given."""
    client = session().resource("dynamodb", endpoint_url=dynoxide.url).meta.client
    layer = DynamoDBPersistenceLayer(table, boto3_client=client)
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "resource", "boto3.client('dynamodb')")


# --- clients ----------------------------------------------------------------------------------------------------------


def test_a_client_that_was_given_is_never_closed(dynoxide, table):
    client = session().client("dynamodb", endpoint_url=dynoxide.url)
    with DynamoDBPersistenceLayer(table, boto3_client=client) as layer:
        called(layer)
    assert client.describe_table(TableName=table)["Table"]["TableName"] == table
    client.close()


def test_an_asynchronous_client_that_was_given_is_never_closed(dynoxide, table):
    async def calls():
        async with async_session().create_client("dynamodb", endpoint_url=dynoxide.url) as client:
            async with AsyncDynamoDBPersistenceLayer(table, client=client) as layer:
                await layer._put_record(DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me"))
            return (await client.describe_table(TableName=table))["Table"]["TableName"]

    assert asyncio.run(calls()) == table


def test_a_closed_layer_opens_another_client(dynoxide, table):
    layer = sync_layer(dynoxide, table)
    layer.close()
    for order in range(2):
        assert called(layer) == 1, order
        layer.close()
        layer.close()


def test_an_asynchronous_layer_serves_one_event_loop_after_another_and_opens_once_in_each(dynoxide, proxy_to, table):
    proxy = proxy_to(dynoxide)
    layer = async_layer(proxy.server, table, boto_config=Config(max_pool_connections=1))

    async def claims(number):
        for each in range(3):
            claim = DataRecord(f"{number}-{each}", INPROGRESS, 99_999_999_999, None, owner="me")
            await layer._put_record(claim)
        await asyncio.gather(*(layer._get_record(f"{number}-{each}") for each in range(3)))
        await layer.close()

    asyncio.run(claims(1))
    asyncio.run(claims(2))
    assert proxy.accepted == 2


FORKED = """
import os, sys
from types import SimpleNamespace
from retrysafe import DataRecord
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.dynamodb_support import client_at, sync_layer

whose, url, table = sys.argv[1:]
if whose == "given":
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(url))
else:
    layer = sync_layer(SimpleNamespace(url=url), table)
def claim(key):
    layer._put_record(DataRecord(key, "INPROGRESS", 99_999_999_999, None, owner="me"))
claim("parent")
child = os.fork()
claim("child" if child == 0 else "parent again")
layer.close()
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize("whose", ["given", "the layer's"])
def test_a_forked_child_speaks_on_connections_of_its_own(dynoxide, proxy_to, table, whose):
    """On its parent's it would get its parent's replies, and take a claim for won that never was."""
    proxy = proxy_to(dynoxide)
    tests = str(Path(__file__).parents[1])
    program = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {tests!r})\n{FORKED}"]
    subprocess.run([*program, whose, proxy.server.url, table], check=True, timeout=60)
    assert (proxy.accepted, proxy.count(b"PutItem")) == (2, 3)


FORKED_WHILE_OPENING = """
import os, signal, sys, threading
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.dynamodb_support import session

class Slow:
    def client(self, *args, **options):
        opening.set()
        go_on.wait()
        return session().client(*args, **options)

def look():
    try:
        layer._get_record("key")
    except IdempotencyItemNotFoundError:
        return

url, table = sys.argv[1:]
opening, go_on = threading.Event(), threading.Event()
layer = DynamoDBPersistenceLayer(table, boto3_session=Slow(), endpoint_url=url)
thread = threading.Thread(target=look)
thread.start()
opening.wait()
child = os.fork()
go_on.set()
if child == 0:
    signal.alarm(30)
    look()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
layer.close()
"""


def test_a_child_forked_while_a_thread_opens_the_client_opens_its_own(dynoxide, table):
    tests = str(Path(__file__).parents[1])
    program = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        f"import sys; sys.path.insert(0, {tests!r})\n{FORKED_WHILE_OPENING}",
    ]
    subprocess.run([*program, dynoxide.url, table], check=True, timeout=60)


def test_what_belongs_to_loops_that_ended_without_a_close_is_let_go(dynoxide, table):
    layer = async_layer(dynoxide, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the client, rightly
        for number in range(3):
            asyncio.run(layer._put_record(DataRecord(f"ended-{number}", INPROGRESS, 99_999_999_999, None, owner="me")))
        assert len(layer._opened) == 1
        del layer
        gc.collect()


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
