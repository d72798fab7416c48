"""DynamoDB for tests: tables of one's own, clients that are made once, and a clock that is wrong."""

from __future__ import annotations

import functools
import itertools
from types import SimpleNamespace

import boto3
from aiobotocore.session import get_session
from botocore.config import Config

from retrysafe.clock import SystemClock
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer

HOUR_MS = 3_600_000

_tables = itertools.count(1)


def new_table(server, key="id", sort_key=None):
    """A table of one's own on the server."""
    name = f"table-{next(_tables)}"
    server.create_table(name, key, sort_key)
    return name


@functools.cache
def session():
    """A session of boto3; its models are loaded once."""
    return boto3.Session("test", "test", region_name="eu-central-1")


@functools.cache
def async_session():
    """The same of aiobotocore."""
    made = get_session()
    made.set_credentials("test", "test")
    made.set_config_variable("region", "eu-central-1")
    return made


@functools.cache
def client_at(url):
    """A client of boto3 that tries once."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
    return session().client("dynamodb", endpoint_url=url, config=config)


def sync_layer(server, table, **options):
    """A layer that opens its client by itself."""
    return DynamoDBPersistenceLayer(table, boto3_session=session(), endpoint_url=server.url, **options)


def async_layer(server, table, **options):
    """The same, asynchronous."""
    return AsyncDynamoDBPersistenceLayer(table, session=async_session(), endpoint_url=server.url, **options)


def items_of(server, table):
    """Everything in the table."""
    return client_at(server.url).scan(TableName=table, ConsistentRead=True)["Items"]


class OffClock(SystemClock):
    """The machine's clock, were it set otherwise; `ahead_ms` may change while it runs."""

    __slots__ = ("ahead_ms",)

    def __init__(self, ahead_ms=0):
        self.ahead_ms = ahead_ms

    def now_ms(self):
        return super().now_ms() + self.ahead_ms


NOWHERE = SimpleNamespace(host="127.0.0.1", port=9, url="http://127.0.0.1:9")
"""A server that is not there."""
