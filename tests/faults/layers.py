"""The layer of a worker, sync or async, as `stores` describes it in JSON; and which clock judges its leases.

A client is led to a worker's own proxies in the way in which a network translates addresses: what a cluster's nodes and
Sentinels tell is translated.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.history import now
from retrysafe.exceptions import IdempotencyPersistenceLayerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe import AsyncBasePersistenceLayer, BasePersistenceLayer

# Older is no request, but one that was dated by a clock that has been moved since.
_LONGEST_AGE_MS = 5_000

_RESTART_SECONDS = 0.05

REGION = "eu-central-1"
# Short, so that what hangs is found out about in a fraction of a campaign.
CACHE_OPTIONS = "socket_timeout=1&socket_connect_timeout=1"
DYNAMODB_TIMEOUTS = {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 2}}


def prepare(spec: dict[str, Any]) -> None:
    """Load what the layer will need, before processes are forked; and open nothing."""
    if spec["kind"] == "sqlite":
        import retrysafe.persistence.sqlite  # noqa: PLC0415  # each store's own
    elif spec["kind"] == "dynamodb":
        import retrysafe.persistence.dynamodb  # noqa: PLC0415  # the same

        arguments = {"region_name": REGION, "endpoint_url": spec["endpoint"]}
        _session().client("dynamodb", **arguments)
        import aiobotocore.httpsession  # noqa: F401, PLC0415  # the same

        _async_session()
    else:
        import redis.asyncio.cluster  # noqa: PLC0415  # the same
        import redis.asyncio.sentinel  # noqa: F401, PLC0415  # the same

        import retrysafe.persistence.cache  # noqa: F401, PLC0415  # the same


def make_layer(spec: dict[str, Any], *, is_async: bool) -> BasePersistenceLayer | AsyncBasePersistenceLayer:
    """The layer."""
    if spec["kind"] == "sqlite":
        from faults.disk import SharedDisk  # noqa: PLC0415  # each store's own
        from retrysafe.persistence import sqlite  # noqa: PLC0415  # the same

        if spec["disk"] is not None:
            SharedDisk(Path(spec["disk"])).__enter__()  # until this process ends
        make = sqlite.AsyncSQLitePersistenceLayer if is_async else sqlite.SQLitePersistenceLayer
        while True:
            try:
                return make(spec["path"])
            except IdempotencyPersistenceLayerError:  # a worker that finds the disk full is started again, as anywhere
                time.sleep(_RESTART_SECONDS)
    if spec["kind"] == "cache":
        from retrysafe.persistence import cache  # noqa: PLC0415  # the same

        _translate({int(port): proxy for port, proxy in spec["through"].items()})
        return (cache.AsyncCachePersistenceLayer if is_async else cache.CachePersistenceLayer)(
            f"{spec['url']}?{CACHE_OPTIONS}", min_replicas=spec["min_replicas"], replica_timeout_seconds=0.5
        )
    return _make_dynamodb_layer(spec, is_async=is_async)


def _make_dynamodb_layer(spec: dict[str, Any], *, is_async: bool) -> Any:
    from retrysafe.persistence import dynamodb  # noqa: PLC0415  # each store's own

    if is_async:
        from aiobotocore.config import AioConfig  # noqa: PLC0415  # the same

        return dynamodb.AsyncDynamoDBPersistenceLayer(
            spec["table"],
            endpoint_url=spec["endpoint"],
            boto_config=AioConfig(**DYNAMODB_TIMEOUTS),
            session=_async_session(),
        )
    from botocore.config import Config  # noqa: PLC0415  # the same

    return dynamodb.DynamoDBPersistenceLayer(
        spec["table"], endpoint_url=spec["endpoint"], boto_config=Config(**DYNAMODB_TIMEOUTS), boto3_session=_session()
    )


@functools.cache
def _session() -> Any:
    import boto3  # noqa: PLC0415  # only where DynamoDB is the store

    return boto3.Session("test", "test", region_name=REGION)


@functools.cache
def _async_session() -> Any:
    from aiobotocore.session import get_session  # noqa: PLC0415  # the same

    session = get_session()
    session.set_credentials("test", "test")
    session.set_config_variable("region", REGION)
    return session


def _translate(through: dict[int, int]) -> None:
    """Let redis-py go to these ports instead of those that servers tell."""
    import redis.asyncio.cluster  # noqa: PLC0415  # the same
    import redis.asyncio.sentinel  # noqa: PLC0415  # the same
    from redis.exceptions import AskError  # noqa: PLC0415  # the same

    for module in (redis.cluster, redis.asyncio.cluster):
        module.NodesManager.remap_host_port = lambda _, host, port: (host, through.get(port, port))
    redirect = AskError.__init__

    def redirect_through(self: AskError, text: str) -> None:
        redirect(self, text)
        self.port = through.get(self.port, self.port)
        self.node_addr = self.host, self.port

    AskError.__init__ = redirect_through
    found = redis.sentinel.Sentinel.discover_master
    found_async = redis.asyncio.sentinel.Sentinel.discover_master

    def discover(self: Any, service: str) -> tuple[str, int]:
        host, port = found(self, service)
        return host, through.get(port, port)

    async def discover_async(self: Any, service: str) -> tuple[str, int]:
        host, port = await found_async(self, service)
        return host, through.get(port, port)

    redis.sentinel.Sentinel.discover_master = discover
    redis.asyncio.sentinel.Sentinel.discover_master = discover_async


class Leases:
    """Since when the lease of each run of this process is sure to run, at the least.

    It begins when the store does as told, or when the request was made, which is earlier: by the monotonic clock, which
    no fault moves, and which goes on while a process is stopped.
    """

    def __init__(self, renewed: Callable[[str, int], None]) -> None:
        self._since: dict[str | None, int] = {}
        self._renewed = renewed

    def watch(self, layer: Any, *, is_async: bool) -> None:
        """Note what is sent by this layer, and say who was renewed since when."""
        around = _around_async if is_async else _around
        for name, begin in (
            ("_put_record", self._claims),
            ("_renew_record", self._renews),
            ("_for_each", self._renews_many),
        ):
            setattr(layer, name, around(begin, getattr(layer, name)))

    def take(self, owner: str) -> int:
        """The moment, which is forgotten by that."""
        return self._since.pop(owner)

    # --- each is called before the request, and what it gives with the reply -------------------------------------

    def _claims(self, record: Any) -> Callable[[Any], None]:
        at = _made_at(record)
        # Where the reply is lost, the first try may be what got through.
        self._since.setdefault(record.owner, at)
        return lambda _: self._since.update({record.owner: at})

    def _renews(self, record: Any) -> Callable[[Any], None]:
        at = _made_at(record)

        def confirmed(_: Any) -> None:
            self._since[record.owner] = at
            self._renewed(record.owner, at)

        return confirmed

    def _renews_many(self, operation: str, records: Any) -> Callable[[Any], None]:
        each = [self._renews(record) for record in records] if operation == "renew" else []

        def answered(outcomes: Any) -> None:
            for confirmed, outcome in zip(each, outcomes, strict=False):  # none, of another operation
                if outcome is None:
                    confirmed(outcome)

        return answered


def _around(begin: Callable[..., Callable[[Any], None]], send: Any) -> Any:
    def sending(*arguments: Any) -> Any:
        replied = begin(*arguments)
        reply = send(*arguments)
        replied(reply)
        return reply

    return sending


def _around_async(begin: Callable[..., Callable[[Any], None]], send: Any) -> Any:
    async def sending(*arguments: Any) -> Any:
        replied = begin(*arguments)
        reply = await send(*arguments)
        replied(reply)
        return reply

    return sending


def _made_at(record: Any) -> int:
    """When this was, by the monotonic clock; the clock by which the record is dated may have been moved since."""
    age_ms = time.time_ns() // 1_000_000 - record.made_at_ms
    return now() - (age_ms * 1_000_000 if 0 < age_ms < _LONGEST_AGE_MS else 0)
