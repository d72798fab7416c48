"""boto3 and aiobotocore behind one method, `run(command)`; and how a client is opened. Both are imported only then."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._dynamodb.errors import code_of, explained, response_of
from retrysafe.persistence._lanes import Lanes
from retrysafe.persistence._threads import Threads
from retrysafe.persistence.many import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.persistence._dynamodb.commands import Command

RECORD_METHODS: Final = {
    "PutItem": "put_item",
    "GetItem": "get_item",
    "UpdateItem": "update_item",
    "DeleteItem": "delete_item",
}
METHODS: Final = RECORD_METHODS | {
    "BatchExecuteStatement": "batch_execute_statement",
    "BatchGetItem": "batch_get_item",
    "CreateTable": "create_table",
    "DescribeTable": "describe_table",
    "DescribeTimeToLive": "describe_time_to_live",
    "UpdateTimeToLive": "update_time_to_live",
}

DEFAULTS: Final[dict[str, Any]] = {
    # A request takes milliseconds; boto3 would wait for a minute, and the lease would be over.
    "connect_timeout": 2,
    "read_timeout": 5,
    # In this mode the pauses before the tries come to 1.6 s at most, so that a claim that was throttled still has its
    # lease before it, and a renewal keeps it. In `standard`, boto3's own since 1.44, they come to as much as 31 s, and
    # in `adaptive` all requests wait for each other.
    "retries": {"total_max_attempts": 6, "mode": "legacy"},
    # For as many threads as `Backend` may have under way, and some of the application's own.
    "max_pool_connections": 100,
    "tcp_keepalive": True,
    # The requests are ours, and right.
    "parameter_validation": False,
}
"""What a client that the layer opens is configured with, before `boto_config`."""


class Place:
    """Where a client is to be opened.

    Args:
        session: A session of boto3 or of aiobotocore; None for a new one.
        config: What `botocore.config.Config` says; None for the defaults.
        region_name: The region; None for the session's.
        endpoint_url: The endpoint; None for the region's.
    """

    __slots__ = ("config", "endpoint_url", "region_name", "session")

    def __init__(self, session: Any, config: Any, region_name: str | None, endpoint_url: str | None) -> None:
        self.session = session
        self.config = config
        self.region_name = region_name
        self.endpoint_url = endpoint_url

    def open(self) -> tuple[Any, Callable[[], None]]:
        """A client such as boto3 makes, and what closes it."""
        from retrysafe.persistence._dynamodb.pools import keep_unlocked  # noqa: PLC0415  # loads queue, as botocore will

        # A session of its own: the one behind `boto3.client` is not made for threads. And of botocore, which makes the
        # same clients: boto3 would take a tenth of a cold start, and adds nothing to them.
        own = self._own_session("botocore.session")
        create = self.session.client if own is None else own.create_client
        client = create("dynamodb", **self._arguments(_library("botocore.config").Config, own))
        keep_unlocked(client)
        return client, client.close

    def load_async(self) -> None:
        """Import what `open_async` needs, which is most of its time."""
        _library("aiobotocore.session")

    async def open_async(self) -> tuple[Any, Callable[[], Awaitable[None]]]:
        """A client of aiobotocore, and what closes it."""
        own = self._own_session("aiobotocore.session")
        session = self.session if own is None else own
        context = session.create_client("dynamodb", **self._arguments(_library("aiobotocore.config").AioConfig, own))
        client = await context.__aenter__()

        async def close() -> None:
            await context.__aexit__(None, None, None)

        return client, close

    def _own_session(self, module: str) -> Any:
        """A session of ours; None where one was given."""
        return _library(module).get_session() if self.session is None else None

    def _arguments(self, config_class: Any, own: Any) -> dict[str, Any]:
        """What a client is made with; `own` is the session, where it is one of ours."""
        config = config_class(**DEFAULTS, user_agent=self._user_agent(own))
        if self.config is not None:
            config = config.merge(self.config)
        return {"config": config, "region_name": self.region_name, "endpoint_url": self.endpoint_url}

    def _user_agent(self, own: Any) -> str | None:
        """What the client is to call itself. botocore puts its name together twice a request, an eighth of its time.

        None leaves it to do so, where a session was given, or where the id of an application is to stand in it.
        """
        if own is None or getattr(self.config, "user_agent_appid", None) or own.get_config_variable("user_agent_appid"):
            return None
        return f"{own.user_agent()} retrysafe"


def opens_with_the_layer() -> bool:
    """Whether a client is opened when its layer is made, and not at the first call.

    A process of Lambda's has 10 seconds before its first invocation, in which no timeout runs; in an invocation the
    same work may take seconds of the little processor that a small function has.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html (Init phase)
    """
    return "AWS_LAMBDA_RUNTIME_API" in os.environ


_EXTRAS: Final = {"botocore": "dynamodb", "aiobotocore": "aiodynamodb"}


def check_library(*, asynchronous: bool) -> None:
    """See that the client library is installed, without the tenth of a second that its import takes.

    Raises:
        IdempotencyPersistenceConfigError: It is not.
    """
    name = "aiobotocore" if asynchronous else "botocore"
    if importlib.util.find_spec(name) is None:
        raise _missing(name)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(name.partition(".")[0], error) from error


def _missing(library: str, *details: object) -> IdempotencyPersistenceConfigError:
    return IdempotencyPersistenceConfigError(
        f"the DynamoDB layer needs {library}: pip install 'retrysafe[{_EXTRAS[library]}]'", *details
    )


def check_client(client: Any, *, asynchronous: bool) -> None:
    """See that this is a low-level client of DynamoDB, of the right colour.

    Raises:
        IdempotencyPersistenceConfigError: It is not.
    """
    given = f"{'client' if asynchronous else 'boto3_client'}={kind_of(client)}"
    # A resource's table has methods of the same names, which take other arguments; so does its `meta.client`, which
    # cannot be told from a client as it is.
    if any(cls.__name__ == "ServiceResource" for cls in type(client).__mro__):
        raise IdempotencyPersistenceConfigError(f"{given} is a resource: pass boto3.client('dynamodb')")
    missing = [name for name in RECORD_METHODS.values() if not callable(getattr(client, name, None))]
    if missing or isinstance(client, type):
        why = f"it has no {missing[0]}" if missing else "pass an object of it"
        raise IdempotencyPersistenceConfigError(f"{given} is none of DynamoDB: {why}")
    is_async = any(cls.__name__ == "AioBaseClient" for cls in type(client).__mro__)
    if is_async and not asynchronous:
        raise IdempotencyPersistenceConfigError(f"{given} is asynchronous: use AsyncDynamoDBPersistenceLayer")
    if asynchronous and not is_async:
        raise IdempotencyPersistenceConfigError(f"{given} is none of aiobotocore: use DynamoDBPersistenceLayer")


def kind_of(given: object) -> str:
    """What something is, for errors."""
    return f"class {given.__name__}" if isinstance(given, type) else type(given).__name__


def connect_anew(client: Any) -> None:
    """Let go of the connections that a forked child has inherited: two processes on one get each other's replies.

    A client of boto3 opens others when it needs them. What stands in for one may do anything in `close`.
    """
    if any(cls.__name__ == "BaseClient" for cls in type(client).__mro__):
        client.close()


class Backend:
    """A client of boto3, as the layer uses it.

    Args:
        client: The client.
        table_name: The table, for errors.

    Attributes:
        client: The client.
        threads: What sends many requests at the same time; each lot no more than the client has connections for.
    """

    __slots__ = ("client", "threads", "where")

    def __init__(self, client: Any, table_name: str) -> None:
        self.client = client
        connections = getattr(getattr(getattr(client, "meta", None), "config", None), "max_pool_connections", AT_ONCE)
        # What stands in for a client in a user's tests says anything.
        most = min(AT_ONCE, connections) if isinstance(connections, int) else AT_ONCE
        self.threads = Lanes(Threads, most)
        self.where = where(table_name, client)

    def has(self, operation: str) -> bool:
        """Whether the client has the operation."""
        return hasattr(self.client, METHODS[operation])

    def run(self, command: Command) -> Any:
        """Carry out a request: the reply, or the refusal that the command expects. Raises this library's errors."""
        try:
            return _carried_out(self.client, command, _pause) or {}  # None is what a user's fake may give
        except Exception as error:  # noqa: BLE001  # explained, and raised unless it is an answer
            return answer(error, command, self.where)


class AsyncBackend:
    """A client of aiobotocore, as the layer uses it.

    Args:
        client: The client.
        table_name: The table, for errors.
    """

    __slots__ = ("_client", "where")

    def __init__(self, client: Any, table_name: str) -> None:
        self._client = client
        self.where = where(table_name, client)

    def has(self, operation: str) -> bool:
        """See `Backend.has`."""
        return hasattr(self._client, METHODS[operation])

    async def run(self, command: Command) -> Any:
        """See `Backend.run`."""
        try:
            return await _carried_out(self._client, command, _pause_async)
        except Exception as error:  # noqa: BLE001  # explained, and raised unless it is an answer
            return answer(error, command, self.where)


def _carried_out(client: Any, command: Command, pause: Callable[..., Any]) -> Any:
    """The reply, or what is to be awaited for it.

    The method is looked up each time: whoever traces a client, or fakes a failure of it, may wrap its methods later.
    """
    method = pause if command.operation == "Pause" else getattr(client, METHODS[command.operation])
    return method(**command.parameters)


def _pause(seconds: float) -> None:
    import time  # noqa: PLC0415  # only the making of a table waits

    time.sleep(seconds)


async def _pause_async(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

    await asyncio.sleep(seconds)


def answer(error: Exception, command: Command, where: str) -> Any:
    """The service's refusal, where the command expects it; else the error is raised, explained."""
    response = response_of(error)
    if response is not None and code_of(response) in command.expected:
        return response
    raise explained(error, where) from error


def where(table_name: str, client: Any = None) -> str:
    """The table, for errors."""
    meta = getattr(client, "meta", None)
    region = getattr(meta, "region_name", None)
    return f"the DynamoDB table {table_name!r}" + (f" ({region})" if region else "")
