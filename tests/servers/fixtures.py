"""The servers as fixtures: each started when the first test asks for it, and shared until the end of the session.

`redis_62`, `redis_70`, `valkey_81`, `valkey_91`, `redis_70_tls`, `redis_cluster`, `redis_cluster_replicated`,
`redis_cluster_of_one`, `redis_sentinel`, `postgres`, `dynamodb_local`, `dynoxide` and `moto_server` are running
servers; `redis_62_clock`, `valkey_81_clock`, `valkey_91_clock`, `valkey_cluster_clock` and `valkey_sentinel_clock` are
ones whose clock a test moves, by `server.advance(seconds)`. For a server of its own, a test asks for `start`, and for a
proxy in front of one, for `proxy_to`:

    def test_a_restart(start):
        server = start(RedisServer(programs.valkey_91(), options={"appendonly": "yes"}))

    def test_a_lost_reply(redis_62, proxy_to):
        proxy = proxy_to(redis_62)

`each_dynamodb` is DynamoDB Local and dynoxide in turn. `each_service` and `service` are what stands in front of these,
or of dynoxide alone: it writes down what it is asked, and refuses what it is told to.

What is missing on this machine is said by a skip, with the command that brings it; and by a failure if CI is set.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

from servers import dynamodb, programs
from servers.certificates import Certificates, make_certificates
from servers.clocks import ServerClock
from servers.cluster import RedisCluster
from servers.dynamodb_service import Service
from servers.postgres import PostgresServer
from servers.processes import ServerProcess, end_guard, wait_until
from servers.proxies import Proxy
from servers.sentinel import RedisSentinel
from servers.standalone import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Startable(Protocol):
    """A server, or several that belong together."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


S = TypeVar("S", bound=Startable)


@pytest.fixture(scope="session")
def _servers() -> Iterator[contextlib.ExitStack]:
    """Everything that the session has started."""
    try:
        with contextlib.ExitStack() as stack:
            yield stack
    finally:
        end_guard()


@pytest.fixture(scope="session")
def start_shared(_servers) -> Callable[[S], S]:
    """Start a server that stays until the end of the session. For fixtures."""
    return lambda server: _start(_servers, server)


@pytest.fixture
def start(_servers) -> Iterator[Callable[[S], S]]:
    """Start servers for one test, which may do with them what it wants; they are stopped at its end."""
    with contextlib.ExitStack() as stack:
        yield lambda server: _start(stack, server)


def _start(stack: contextlib.ExitStack, server: S) -> S:
    stack.callback(server.stop)
    server.start()
    return server


@pytest.fixture
def proxy_to() -> Iterator[Callable[[ServerProcess], Proxy]]:
    """Put a proxy in front of a server, for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Proxy(server))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def _shared(make: Callable[[], Any]) -> Any:
    """A fixture for a server that this makes."""
    return pytest.fixture(scope="session")(lambda start_shared: start_shared(make()))


redis_62 = _shared(lambda: RedisServer(programs.redis_62()))
redis_70 = _shared(lambda: RedisServer(programs.redis_70()))
valkey_81 = _shared(lambda: RedisServer(programs.valkey_81()))
valkey_91 = _shared(lambda: RedisServer(programs.valkey_91()))

redis_cluster = _shared(lambda: RedisCluster(programs.redis_70()))
redis_cluster_replicated = _shared(lambda: RedisCluster(programs.redis_70(), replicas=1))
redis_sentinel = _shared(lambda: RedisSentinel(programs.redis_70()))

redis_62_clock = _shared(lambda: RedisServer(programs.redis_62(), clock=ServerClock()))
valkey_81_clock = _shared(lambda: RedisServer(programs.valkey_81(), clock=ServerClock()))
valkey_91_clock = _shared(lambda: RedisServer(programs.valkey_91(), clock=ServerClock()))
valkey_cluster_clock = _shared(lambda: RedisCluster(programs.valkey_91(), clock=ServerClock()))
valkey_sentinel_clock = _shared(lambda: RedisSentinel(programs.valkey_81(), clock=ServerClock()))

postgres = _shared(lambda: PostgresServer(programs.postgres()))

dynamodb_local = _shared(dynamodb.dynamodb_local)
dynoxide = _shared(dynamodb.dynoxide)
moto_server = _shared(dynamodb.moto)


@pytest.fixture(scope="session")
def redis_cluster_of_one(start_shared) -> RedisServer:
    """A node that has all slots of a cluster."""
    server = start_shared(RedisServer(programs.redis_70(), options={"cluster-enabled": "yes"}))
    server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    wait_until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), "a node for all slots")
    return server


@pytest.fixture(params=["dynamodb_local", "dynoxide"])
def each_dynamodb(request) -> dynamodb.DynamoDBServer:
    return request.getfixturevalue(request.param)


@pytest.fixture
def each_service(each_dynamodb) -> Iterator[Service]:
    with Service(each_dynamodb) as service:
        yield service


@pytest.fixture
def service(dynoxide) -> Iterator[Service]:
    with Service(dynoxide) as service:
        yield service


@pytest.fixture(scope="session")
def redis_70_tls(start_shared, certificates) -> RedisServer:
    """With TLS alone, and a password."""
    return start_shared(RedisServer(programs.redis_70(), password="secret", certificates=certificates))  # noqa: S106 - of nothing that lasts
