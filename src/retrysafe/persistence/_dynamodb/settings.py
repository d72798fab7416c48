"""A DynamoDB layer's arguments, checked and put together when it is made; no client library is needed for it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._dynamodb.clients import (
    AsyncBackend,
    Backend,
    Place,
    check_client,
    check_library,
    connect_anew,
    kind_of,
    where,
)
from retrysafe.persistence._dynamodb.commands import Commands
from retrysafe.persistence._dynamodb.errors import explained
from retrysafe.persistence._dynamodb.items import PACKED, Items
from retrysafe.persistence._dynamodb.service_time import ServiceTime
from retrysafe.persistence._dynamodb.steps import RecordSteps
from retrysafe.persistence._dynamodb.tables import TableSteps
from retrysafe.persistence._urls import is_storable_name, shown_in_place_of, split_url
from retrysafe.persistence.wire import ATTEMPT, OWNER, TYPES, AttributeNames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.clock import Clock
    from retrysafe.persistence._dynamodb.many import ManySteps

_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}|arn:[^:]+:dynamodb:[^:]*:[^:]*:table/[A-Za-z0-9_.-]{3,255}")
_LONGEST_NAME: Final = 255


class Settings:
    """What a layer is made of; its arguments are the layer's.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong.
    """

    __slots__ = ("_client_pid", "_many", "_place", "client", "items", "steps", "table_name", "tables", "time")

    def __init__(
        self,
        table_name: str,
        key_attr: str,
        static_pk_value: str | None,
        sort_key_attr: str | None,
        names: AttributeNames,
        *,
        clock: Clock,
        clock_skew_limit_seconds: float,
        config: Any,
        session: Any,
        client: Any,
        region_name: str | None,
        endpoint_url: str | None,
        asynchronous: bool,
    ) -> None:
        if table_name not in ("", None):
            _check_table(table_name)
        _check_names(key_attr, sort_key_attr, names)
        if static_pk_value is None:
            static_pk_value = f"idempotency#{os.environ.get('AWS_LAMBDA_FUNCTION_NAME', '')}"
        _check_partition(static_pk_value)
        _check_limit(clock_skew_limit_seconds)
        if client is not None:
            check_client(client, asynchronous=asynchronous)
        elif session is None:
            check_library(asynchronous=asynchronous)
        _check_session(session, asynchronous=asynchronous)
        _check_place(config, region_name, endpoint_url)
        self.items = Items(names, key_attr, sort_key_attr, static_pk_value)
        self.time = ServiceTime(clock, clock_skew_limit_seconds)
        self._name(table_name or "")  # None is what os.environ.get gives
        self.client = client
        self._client_pid = os.getpid()
        self._place = Place(session, config, region_name, endpoint_url)

    def _name(self, table_name: str) -> None:
        self.table_name = table_name
        self.steps = RecordSteps(Commands(table_name, self.items), self.items, self.time)
        self.tables = TableSteps(table_name, self.items, self.time)
        self._many: ManySteps | None = None

    def use_table(self, table_name: str) -> None:
        """Another table from now on."""
        _check_table(table_name)
        self._name(table_name)

    def use_client(self, client: Any) -> None:
        """Another client from now on; for the synchronous layer."""
        check_client(client, asynchronous=False)
        self.client = client
        self._client_pid = os.getpid()

    @property
    def many(self) -> ManySteps:
        """The methods for many records."""
        if self._many is None:
            from retrysafe.persistence._dynamodb.many import ManySteps  # noqa: PLC0415  # needed by batches alone
            from retrysafe.persistence._dynamodb.statements import Statements  # noqa: PLC0415  # the same

            statements = Statements(self.table_name, self.items)
            self._many = ManySteps(self.steps, self.time, statements, where(self.table_name))
        return self._many

    def open(self) -> tuple[Backend, Callable[[], None]]:
        """The backend over the client given, or over one that is opened now; and what closes the latter."""
        _check_table(self.table_name)
        if self.client is not None:
            if self._client_pid != os.getpid():
                self._client_pid = os.getpid()
                connect_anew(self.client)
            return Backend(self.client, self.table_name), _leave
        try:
            client, close = self._place.open()
        except Exception as error:
            raise explained(error, where(self.table_name)) from error
        return Backend(client, self.table_name), close

    def load_async(self) -> None:
        """Import what an asynchronous client is opened with, where none was given."""
        if self.client is None:
            self._place.load_async()

    async def open_async(self) -> tuple[AsyncBackend, Callable[[], Awaitable[None]]]:
        """The same, asynchronous."""
        _check_table(self.table_name)
        if self.client is not None:
            return AsyncBackend(self.client, self.table_name), _leave_async
        try:
            client, close = await self._place.open_async()
        except Exception as error:
            raise explained(error, where(self.table_name)) from error
        return AsyncBackend(client, self.table_name), close


def _leave() -> None:
    """Who made the client closes it."""


async def _leave_async() -> None:
    """The same."""


def _check_table(table_name: Any) -> None:
    if not isinstance(table_name, str) or not _TABLE.fullmatch(table_name):
        raise IdempotencyPersistenceConfigError(
            f"table_name={shown_in_place_of(table_name)}: must be 3 to 255 letters, digits, '_', '-' and '.', or a "
            "table's ARN"
        )


def _check_names(key_attr: Any, sort_key_attr: Any, names: AttributeNames) -> None:
    """Each attribute has a name of its own, and none is one of ours."""
    given = {
        "key_attr": key_attr,
        "sort_key_attr": sort_key_attr,
        "expiry_attr": names.expiry,
        "in_progress_expiry_attr": names.in_progress_expiry,
        "status_attr": names.status,
        "data_attr": names.data,
        "validation_key_attr": names.validation,
    }
    if sort_key_attr is None:
        del given["sort_key_attr"]
    taken: dict[str, str] = dict.fromkeys((OWNER, ATTEMPT, TYPES, PACKED), "an attribute of ours")
    name: Any
    for option, name in given.items():
        if not is_storable_name(name) or len(name.encode()) > _LONGEST_NAME:
            raise IdempotencyPersistenceConfigError(f"{option}={name!r}: must be a name of 1 to 255 bytes in UTF-8")
        if name in taken:
            raise IdempotencyPersistenceConfigError(f"{option}={name!r}: the name is taken, by {taken[name]}")
        taken[name] = option


def _check_partition(static_pk_value: Any) -> None:
    if not is_storable_name(static_pk_value):
        raise IdempotencyPersistenceConfigError(
            f"static_pk_value={static_pk_value!r}: must be a text that UTF-8 has a form for"
        )


def _check_limit(seconds: Any) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise IdempotencyPersistenceConfigError(
            f"clock_skew_limit_seconds={seconds!r}: must be a number of seconds above 0"
        )


def _check_place(config: Any, region_name: Any, endpoint_url: Any) -> None:
    if config is not None and (isinstance(config, type) or not callable(getattr(config, "merge", None))):
        raise IdempotencyPersistenceConfigError(f"boto_config={config!r}: must be a botocore.config.Config")
    if region_name is not None and not isinstance(region_name, str):
        raise IdempotencyPersistenceConfigError(f"region_name={region_name!r}: must be a region's name")
    if endpoint_url is None:
        return
    parts = split_url(endpoint_url)
    shown = shown_in_place_of(endpoint_url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        raise IdempotencyPersistenceConfigError(f"endpoint_url={shown}: must be a URL, http:// or https://")
    if "@" in parts.netloc:  # boto3 would show it in each error
        raise IdempotencyPersistenceConfigError(
            f"endpoint_url={shown}: must have no user or password; credentials are found as boto3 finds them"
        )


def _check_session(session: Any, *, asynchronous: bool) -> None:
    method = "create_client" if asynchronous else "client"
    if session is None:
        return
    if isinstance(session, type) or not callable(getattr(session, method, None)):
        option, kind = (
            ("session", "aiobotocore.session.AioSession") if asynchronous else ("boto3_session", "boto3.Session")
        )
        raise IdempotencyPersistenceConfigError(f"{option}={kind_of(session)} is no {kind}")
