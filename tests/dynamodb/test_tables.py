"""Tables: made so that they are right, checked for what is wrong; and layers by URL and by name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

import retrysafe
from retrysafe import async_layer_from_url, idempotent_function, layer_from_url
from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceLayerError
from retrysafe.persistence import dynamodb
from retrysafe.persistence._dynamodb.cli import main
from retrysafe.persistence.dynamodb import (
    AsyncDynamoDBPersistenceLayer,
    DynamoDBFinding,
    DynamoDBPersistenceLayer,
)
from support.bodies import counted
from support.dynamodb_support import async_layer, client_at, new_table


def codes(layer):
    return [finding.code for finding in layer.check()]


def layer_on(server, name, **options):
    return DynamoDBPersistenceLayer(name, boto3_client=client_at(server.url), **options)


# --- made -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"key_attr": "pk", "sort_key_attr": "sk", "expiry_attr": "ttl"}], ids=["simple", "composite"]
)
def test_a_table_that_is_made_is_right_and_making_it_again_changes_nothing(each_dynamodb, options):
    name = f"made-{len(options)}"
    layer = layer_on(each_dynamodb, name, **options)
    assert codes(layer) == ["table-missing"]
    for _ in range(2):
        layer.create_table()
        assert layer.check() == []
    described = client_at(each_dynamodb.url).describe_table(TableName=name)["Table"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    expires = client_at(each_dynamodb.url).describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert expires == {"TimeToLiveStatus": "ENABLED", "AttributeName": options.get("expiry_attr", "expiration")}
    assert idempotent_function(counted(), persistence_store=layer)(1) == 1


def test_an_asynchronous_layer_makes_and_checks_tables_too(dynoxide):
    async def make():
        async with async_layer(dynoxide, "made-async") as layer:
            before = await layer.check()
            await layer.create_table()
            return [finding.code for finding in before], await layer.check()

    assert asyncio.run(make()) == (["table-missing"], [])


def test_what_is_missing_about_a_table_is_added(dynoxide):
    layer = layer_on(dynoxide, new_table(dynoxide))
    assert codes(layer) == ["ttl-off"]
    layer.create_table()
    assert layer.check() == []


def test_a_table_that_is_anothers_is_left(dynoxide):
    name = new_table(dynoxide, "pk", "sk")
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"is another's.*pk \(HASH, S\), sk \(RANGE, S\)"):
        layer_on(dynoxide, name).create_table()
    layer_on(dynoxide, name, key_attr="pk", sort_key_attr="sk", expiry_attr="other").create_table()
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"is another's.*'other'"):
        layer_on(dynoxide, name, key_attr="pk", sort_key_attr="sk").create_table()


def test_a_table_may_be_made_by_several_at_the_same_time(dynamodb_local):
    """As by workers that all make sure of it when they start: one switches time to live on, and no other fails."""
    layer = layer_on(dynamodb_local, new_table(dynamodb_local))
    backend = layer._settings.open()[0]
    making = layer._settings.tables.create()
    request = next(making)
    while request.operation != "UpdateTimeToLive":
        request = making.send(backend.run(request))
    layer_on(dynamodb_local, layer.table_name).create_table()
    reply = backend.run(request)
    assert reply["Error"]["Code"] == "ValidationException"
    with pytest.raises(StopIteration):
        making.send(backend.run(making.send(reply)))
    assert layer.check() == []


def test_what_cannot_be_switched_on_is_said(service):
    layer = layer_on(service, new_table(service.server))
    service.refuse("UpdateTimeToLive", "ValidationException", "not for this table", times=2)
    with pytest.raises(IdempotencyPersistenceLayerError, match="not for this table"):
        layer.create_table()
    layer.create_table()
    assert layer.check() == []


def test_a_strongly_consistent_global_table_is_left_without_the_time_to_live_that_it_cannot_have(dynoxide):
    layer = layer_on(dynoxide, new_table(dynoxide))
    backend = layer._settings.open()[0]
    strong = {"Replicas": [{"RegionName": "us-east-1"}], "MultiRegionConsistency": "STRONG"}

    def told(steps):
        """What the steps come to, where the table is such a one."""
        request = next(steps)
        try:
            while True:
                reply = backend.run(request)
                reply.get("Table", {}).update(strong)
                request = steps.send(reply)
        except StopIteration as stop:
            return stop.value

    told(layer._settings.tables.create())
    (finding,) = told(layer._settings.tables.check())
    assert finding.code == "ttl-off"
    assert "delete by 'expiration' yourself" in finding.message
    assert codes(layer) == ["ttl-off"]


def test_a_table_takes_a_moment_to_come_up(service, monkeypatch):
    monkeypatch.setattr("retrysafe.persistence._dynamodb.tables._PAUSE_SECONDS", 0.001)
    service.refuse("DescribeTable", "ResourceNotFoundException", times=3)
    layer = layer_on(service, "made-slowly")
    layer.create_table()
    assert service.requests.count("DescribeTable") == 4
    service.refuse("DescribeTable", "ResourceNotFoundException", times=500)
    with pytest.raises(IdempotencyPersistenceLayerError, match="is not active yet"):
        layer.create_table()


def test_a_table_is_made_by_its_name():
    arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/orders"
    with pytest.raises(IdempotencyPersistenceConfigError, match="by its name"):
        DynamoDBPersistenceLayer(arn, region_name="eu-central-1").create_table()


# --- checked ----------------------------------------------------------------------------------------------------------


def test_a_table_with_another_key_or_time_to_live_is_found_out(dynoxide):
    name = new_table(dynoxide, "pk", "sk")
    layer_on(dynoxide, name, key_attr="pk", sort_key_attr="sk", expiry_attr="other").create_table()
    wrong_key, wrong_attribute = layer_on(dynoxide, name).check()
    assert (wrong_key.code, wrong_attribute.code) == ("wrong-key", "ttl-attribute")
    assert "pk (HASH, S), sk (RANGE, S)" in wrong_key.message
    assert "id (HASH, S)" in wrong_key.message
    assert "'other'" in wrong_attribute.message


def test_a_key_that_is_no_string_is_found_out(dynoxide):
    client_at(dynoxide.url).create_table(
        TableName="numbered",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert codes(layer_on(dynoxide, "numbered")) == ["wrong-key", "ttl-off"]


def test_what_may_not_be_looked_at_is_said(service):
    layer = layer_on(service, new_table(service.server))
    service.refuse("DescribeTable", "AccessDeniedException")
    service.refuse("DescribeTimeToLive", "AccessDeniedException")
    findings = layer.check()
    assert [finding.code for finding in findings] == ["not-permitted"] * 2
    assert ["dynamodb:DescribeTable" in findings[0].message, "dynamodb:DescribeTimeToLive" in findings[1].message]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"TableStatus": "ARCHIVED"}, "table-not-active"),
        ({"Replicas": [{"RegionName": "us-east-1"}]}, "several-regions"),
        ({"Replicas": [{"RegionName": "us-east-1"}], "MultiRegionConsistency": "STRONG"}, None),
        ({"TableStatus": "UPDATING"}, None),
    ],
    ids=str,
)
def test_what_only_the_service_itself_has(dynoxide, changes, code):
    """Told to the steps by hand, since no server here has it."""
    layer = layer_on(dynoxide, new_table(dynoxide))
    backend = layer._settings.open()[0]
    steps = layer._settings.tables.check()
    described = backend.run(next(steps))
    described["Table"] |= changes
    reply = backend.run(steps.send(described))
    with pytest.raises(StopIteration) as stop:
        steps.send(reply)
    assert [finding.code for finding in stop.value.value] == [*([code] if code else []), "ttl-off"]


def test_a_finding_is_a_value():
    finding = DynamoDBFinding("ttl-off", "switch it on")
    assert finding == DynamoDBFinding("ttl-off", "switch it on")
    assert finding != DynamoDBFinding("ttl-off", "")
    assert len({finding, DynamoDBFinding("ttl-off", "switch it on")}) == 1
    assert str(finding) == "ttl-off: switch it on"
    assert "switch it on" in repr(finding)


# --- by command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.mark.usefixtures("credentials")
def test_the_command_line_makes_a_table(dynoxide, capsys):
    place = ["--region", "eu-central-1", "--endpoint-url", dynoxide.url]
    assert main(DynamoDBPersistenceLayer, ["check", "by-command", *place]) == 1
    assert "table-missing" in capsys.readouterr().err
    keys = ["--key-attr", "pk", "--sort-key-attr", "sk", "--expiry-attr", "ttl"]
    assert main(DynamoDBPersistenceLayer, ["create-table", "by-command", *place, *keys]) == 0
    assert "by-command: nothing is wrong" in capsys.readouterr().out
    assert main(DynamoDBPersistenceLayer, ["create-table", "by-command", *place]) == 1
    assert "is another's" in capsys.readouterr().err
    options = {"key_attr": "pk", "sort_key_attr": "sk", "expiry_attr": "ttl"}
    assert layer_on(dynoxide, "by-command", **options).check() == []


def test_the_command_line_is_the_module_itself(dynoxide):
    arguments = ["create-table", "by-module", "--region", "eu-central-1", "--endpoint-url", dynoxide.url]
    ran = subprocess.run(
        [sys.executable, "-m", "retrysafe.persistence.dynamodb", *arguments],
        env=os.environ | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "by-module: nothing is wrong\n", "")


# --- by URL -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("credentials")
def test_a_url_names_the_table_and_the_options(dynoxide):
    name = new_table(dynoxide, "pk", "sk")
    url = f"dynamodb://{name}?region=eu-central-1&endpoint_url={dynoxide.url}&key_attr=pk&sort_key_attr=sk"
    with layer_from_url(url) as layer:
        assert type(layer) is DynamoDBPersistenceLayer
        assert idempotent_function(counted(), persistence_store=layer)(1) == 1
    layer = async_layer_from_url(url)
    assert type(layer) is AsyncDynamoDBPersistenceLayer
    assert (layer._settings.table_name, layer._settings.items.sort_key_attr) == (name, "sk")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("dynamodb://", "dynamodb://table"),
        ("dynamodb:///orders", "dynamodb://table"),
        ("dynamodb://orders/more", "dynamodb://table"),
        ("dynamodb://me:secret@orders", "credentials"),
        ("dynamodb://orders?regoin=eu", "unknown option 'regoin'"),
        ("dynamodb://orders?region", "no value"),
        ("dynamodb://a", "table_name='a'"),
        ("dynamodb://orders?key_attr=", "key_attr=''"),
    ],
)
def test_a_wrong_url_is_refused(url, told):
    for make in (layer_from_url, async_layer_from_url):
        with pytest.raises(IdempotencyPersistenceConfigError, match=told) as refused:
            make(url)
        assert "secret" not in str(refused.value)


def test_capital_letters_in_a_tables_name_count():
    assert layer_from_url("dynamodb://Orders-Prod")._settings.table_name == "Orders-Prod"


# --- in the package ---------------------------------------------------------------------------------------------------


def test_the_layer_is_a_name_of_the_package_too():
    assert retrysafe.DynamoDBPersistenceLayer is dynamodb.DynamoDBPersistenceLayer
    assert "DynamoDBPersistenceLayer" in dir(retrysafe)
    with pytest.raises(AttributeError, match="has no attribute 'Dynamo'"):
        _ = retrysafe.Dynamo


def test_boto3_comes_with_the_first_call_alone():
    program = (
        "import sys; from retrysafe import DynamoDBPersistenceLayer; "
        "layer = DynamoDBPersistenceLayer('orders', region_name='eu-central-1'); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'boto3', 'botocore', 'aiobotocore'}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pip install 'retrysafe\[dynamodb\]'"):
        sync_layer_without_session()._get_record("orders#1")
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pip install 'retrysafe\[aiodynamodb\]'"):
        asyncio.run(AsyncDynamoDBPersistenceLayer("orders")._get_record("orders#1"))


def sync_layer_without_session():
    return DynamoDBPersistenceLayer("orders", region_name="eu-central-1")
