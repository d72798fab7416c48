"""DynamoDB for tests: layers on a server, each on a table of its own, over clients that are made once."""

from __future__ import annotations

import itertools

import boto3
from botocore.config import Config

from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer

_tables = itertools.count(1)


def new_table(server, key="id", sort_key=None):
    """A table of one's own on the server."""
    name = f"table-{next(_tables)}"
    server.create_table(name, key, sort_key)
    return name


def client_of(server, **config):
    """A client of boto3 that tries once, save as told."""
    config = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 50} | config
    return boto3.Session().client("dynamodb", config=Config(**config), **server.client_arguments)


def own_layer(server, table, **options):
    """A layer that opens its client by itself."""
    return DynamoDBPersistenceLayer(table, boto3_session=session_of(server), endpoint_url=server.url, **options)


def own_async_layer(server, table, **options):
    """The same, asynchronous."""
    return AsyncDynamoDBPersistenceLayer(table, session=async_session_of(server), endpoint_url=server.url, **options)


def session_of(server):
    arguments = server.client_arguments
    return boto3.Session(
        arguments["aws_access_key_id"], arguments["aws_secret_access_key"], region_name=arguments["region_name"]
    )


def async_session_of(server):
    from aiobotocore.session import get_session

    arguments = server.client_arguments
    session = get_session()
    session.set_credentials(arguments["aws_access_key_id"], arguments["aws_secret_access_key"])
    session.set_config_variable("region", arguments["region_name"])
    return session
