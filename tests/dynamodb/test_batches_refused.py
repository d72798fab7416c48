"""Batches on DynamoDB whose requests are refused, lost or half done."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from support.dynamodb_batches import LAYERS, READS, STATEMENTS, Client, Shop, claim, orders, outcome
from support.dynamodb_support import client_at, new_table

DENIED = "User: arn:aws:sts::1:assumed-role/fn is not authorized to perform: dynamodb:PartiQLInsert on resource: t"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="retrysafe")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "retrysafe"]


def per_statement(code, *, applied, every=1):
    """Says that some of the statements failed, which have been carried out or not."""

    def ask(method, parameters):
        statements = parameters["Statements"]
        failing = set(range(0, len(statements), every))
        sent = [each for number, each in enumerate(statements) if applied or number not in failing]
        got = method(Statements=sent) if sent else {"Responses": [], "ResponseMetadata": {}}
        replies = iter(got["Responses"])
        error = {"Error": {"Code": code, "Message": "no"}}
        responses = []
        for number in range(len(statements)):
            reply = next(replies) if applied or number not in failing else None
            responses.append(error if number in failing else reply)
        return got | {"Responses": responses}

    return ask


# --- not permitted, not known -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", LAYERS)
def test_where_statements_are_not_permitted_each_record_goes_by_itself_and_one_warning_names_the_permissions(
    each_service, flavour, warnings
):
    each_service.refuse(STATEMENTS, "AccessDeniedException", DENIED, times=9)
    shop = Shop(LAYERS[flavour](each_service, new_table(each_service.server)))
    batches = [orders("first", 60), orders("second", 60), orders("first", 60)]
    assert shop.charge(*batches) == [["returned"] * 60, ["returned"] * 60, ["replayed"] * 60]
    assert len(shop.runs) == 120
    assert each_service.requests.count(STATEMENTS) == 3  # those that were under way at the same time
    assert READS not in each_service.requests
    (said,) = warnings()
    assert "dynamodb:PartiQLInsert" in said
    assert "dynamodb:PartiQLUpdate" in said


def test_where_only_outcomes_are_not_permitted_they_go_by_themselves(each_dynamodb, warnings):
    client = Client(client_at(each_dynamodb.url))

    def ask(method, parameters):
        if parameters["Statements"][0]["Statement"].startswith("UPDATE"):
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": DENIED}}, STATEMENTS)
        return method(**parameters)

    client.instead["batch_execute_statement"] = ask
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests["batch_execute_statement"] == 2
    assert len(warnings()) == 1


def test_a_role_that_cannot_be_assumed_for_a_moment_says_nothing_about_statements(each_dynamodb, warnings):
    client = Client(client_at(each_dynamodb.url))
    said = [{"Error": {"Code": "AccessDenied", "Message": "not authorized to perform: sts:AssumeRole"}}]

    def ask(method, parameters):
        if said:
            raise ClientError(said.pop(), "AssumeRole")
        return method(**parameters)

    client.instead["batch_execute_statement"] = ask
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests["batch_execute_statement"] == 3  # claims, outcomes, and claims
    assert warnings() == []


def test_a_refusal_of_each_statement_counts_as_one_of_them_all(each_dynamodb, warnings):
    client = Client(client_at(each_dynamodb.url))
    client.instead["batch_execute_statement"] = per_statement("AccessDenied", applied=False)
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests["batch_execute_statement"] == 1
    assert len(warnings()) == 1


@pytest.mark.parametrize("flavour", LAYERS)
def test_where_reading_many_is_not_permitted_replays_go_by_themselves_and_a_warning_names_the_permission(
    each_service, flavour, warnings
):
    each_service.refuse(READS, "AccessDeniedException", DENIED, times=9)
    shop = Shop(LAYERS[flavour](each_service, new_table(each_service.server)))
    batch = orders("order", 20)
    assert shop.charge(batch, batch, batch) == [["returned"] * 20, ["replayed"] * 20, ["replayed"] * 20]
    assert each_service.requests.count(READS) == 1
    assert each_service.requests.count(STATEMENTS) == 4
    (said,) = warnings()
    assert "dynamodb:BatchGetItem" in said


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("UnknownOperationException", ""),
        ("ValidationException", "Operation BatchExecuteStatement is not supported"),
    ],
)
@pytest.mark.parametrize("flavour", LAYERS)
def test_a_server_that_does_not_know_the_operation_is_asked_for_it_once(each_service, flavour, code, said, warnings):
    each_service.refuse(STATEMENTS, code, said, times=9)
    shop = Shop(LAYERS[flavour](each_service, new_table(each_service.server)))
    batches = [orders("first", 20), orders("first", 20)]
    assert shop.charge(*batches) == [["returned"] * 20, ["replayed"] * 20]
    assert each_service.requests.count(STATEMENTS) == 1
    assert warnings() == []


def test_a_server_that_cannot_read_the_statements_is_asked_once(each_dynamodb, warnings):
    client = Client(client_at(each_dynamodb.url))
    said = "Statement wasn't well formed, can't be processed: Expected identifier for simple path"

    def ask(method, parameters):
        error = {"Error": {"Code": "ValidationError", "Message": said}}
        return {"Responses": [error for _ in parameters["Statements"]], "ResponseMetadata": {}}

    client.instead["batch_execute_statement"] = ask
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests["batch_execute_statement"] == 1
    assert warnings() == []


# --- refused for the moment, or half done -----------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(
    "code",
    ["ThrottlingError", "InternalServerError", "ValidationError"],
)
@pytest.mark.parametrize("every", [1, 3])
def test_what_a_statement_failed_at_is_done_by_itself_whether_it_was_carried_out_or_not(
    each_dynamodb, code, applied, every, warnings
):
    client = Client(client_at(each_dynamodb.url))
    client.instead["batch_execute_statement"] = per_statement(code, applied=applied, every=every)
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 30), orders("order", 30)) == [["returned"] * 30, ["replayed"] * 30]
    assert sorted(shop.runs) == sorted(order["id"] for order in orders("order", 30))
    # Claims, outcomes and claims: what fails for the moment is no reason to go without statements from now on.
    assert client.requests["batch_execute_statement"] == 6
    assert warnings() == []


def fewer(method, parameters):
    return {**(reply := method(**parameters)), "Responses": reply["Responses"][1:]}


def unreachable(method, parameters):
    raise ReadTimeoutError(endpoint_url="http://dynamodb")


def late(method, parameters):
    method(**parameters)
    raise ReadTimeoutError(endpoint_url="http://dynamodb")


def throttled(method, parameters):
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow"}}, STATEMENTS)


def invalid(method, parameters):
    raise ClientError({"Error": {"Code": "ValidationException", "Message": "too much for one request"}}, STATEMENTS)


@pytest.mark.parametrize("instead", [fewer, unreachable, late, throttled, invalid])
def test_a_request_that_fails_as_a_whole_leaves_each_record_to_itself(each_dynamodb, instead, warnings):
    client = Client(client_at(each_dynamodb.url))
    client.instead["batch_execute_statement"] = instead
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 30), orders("order", 30)) == [["returned"] * 30, ["replayed"] * 30]
    assert len(shop.runs) == 30
    assert client.requests["batch_execute_statement"] == 6
    assert warnings() == []


def unprocessed(method, parameters):
    ((table, wanted),) = parameters["RequestItems"].items()
    reply = method(RequestItems={table: {**wanted, "Keys": wanted["Keys"][::2]}})
    return reply | {"UnprocessedKeys": {table: {**wanted, "Keys": wanted["Keys"][1::2]}}}


@pytest.mark.parametrize("instead", [unprocessed, throttled, unreachable, invalid])
def test_what_could_not_be_read_with_others_is_asked_for_by_itself(each_dynamodb, instead, warnings):
    client = Client(client_at(each_dynamodb.url))
    client.instead["batch_get_item"] = instead
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    batch = orders("order", 30)
    assert shop.charge(batch, batch, batch) == [["returned"] * 30, ["replayed"] * 30, ["replayed"] * 30]
    assert len(shop.runs) == 30
    assert client.requests["batch_get_item"] == 2
    assert warnings() == []


def test_a_record_that_goes_between_refusal_and_look_is_claimed(each_dynamodb):
    client, table = Client(client_at(each_dynamodb.url)), new_table(each_dynamodb)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client, clock=ManualClock())
    now_ms = layer.clock.now_ms()
    rivals = [claim(f"order {number}", now_ms, "rival") for number in range(10)]
    assert layer._for_each("put", rivals) == [None] * 10

    def released(method, parameters):
        for rival in rivals[::2]:
            layer._delete_record(rival)
        return method(**parameters)

    client.instead["batch_get_item"] = released
    told = layer._for_each("put", [claim(f"order {number}", now_ms) for number in range(10)])
    assert told[::2] == [None] * 5
    assert all(isinstance(each, IdempotencyItemAlreadyExistsError) for each in told[1::2])
    layer.close()


@pytest.mark.parametrize("flavour", LAYERS)
@pytest.mark.parametrize("fault", ["drop_reply", "drop_request"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_reply_that_is_lost_after_the_server_has_done_it_runs_nothing_twice(
    each_dynamodb, proxy_to, flavour, fault, nth
):
    proxy = proxy_to(each_dynamodb)
    shop = Shop(LAYERS[flavour](proxy.server, new_table(each_dynamodb)))
    struck = getattr(proxy, fault)(b"BatchExecuteStatement", nth)
    batch = orders("order", 50)
    assert shop.charge(batch, batch) == [["returned"] * 50, ["replayed"] * 50]
    struck.wait()
    assert len(shop.runs) == 50


@pytest.mark.parametrize("nth", [1, 2])
def test_a_client_that_tries_once_finds_out_for_each_what_became_of_a_lost_request(each_dynamodb, proxy_to, nth):
    proxy = proxy_to(each_dynamodb)
    layer = DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client_at(proxy.server.url))
    shop = Shop(layer)
    struck = proxy.drop_reply(b"BatchExecuteStatement", nth)
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    struck.wait()
    assert len(shop.runs) == 20


@pytest.mark.parametrize("operation", ["renew", "update", "delete"])
def test_what_a_run_owes_stands_behind_no_claims(dynoxide, operation):
    """Those of batches that are throttled would keep the threads until its lease is over."""
    client, gate, claims = Client(client_at(dynoxide.url)), threading.Event(), []
    layer = DynamoDBPersistenceLayer(new_table(dynoxide), boto3_client=client, clock=ManualClock())
    now_ms = layer.clock.now_ms()
    mine = [claim(f"mine {number}", now_ms) for number in range(3)]
    assert layer._for_each("put", mine) == [None] * 3

    def wait(method, parameters):
        assert gate.wait(60)
        return method(**parameters)

    def throttled(_method, parameters):
        error = {"Error": {"Code": "ThrottlingError", "Message": "no"}}
        return {"Responses": [error for _ in parameters["Statements"]], "ResponseMetadata": {}}

    others = [claim(f"order {number}", now_ms) for number in range(100)]
    client.instead = {"batch_execute_statement": throttled, "put_item": wait}
    claiming = threading.Thread(target=lambda: claims.extend(layer._for_each("put", others)))
    claiming.start()
    while client.requests.get("put_item", 0) < 32:
        time.sleep(0.001)
    del client.instead["put_item"]
    records = [outcome(each) for each in mine] if operation == "update" else mine
    assert layer._for_each(operation, records) == [None] * 3
    assert claims == []
    gate.set()
    claiming.join()
    assert claims == [None] * 100
    layer.close()
