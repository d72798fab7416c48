"""What several tests of the cache layer ask for: calls in each way, servers of each kind or of their own, clients."""

from __future__ import annotations

import uuid

import pytest
import redis

from servers import RedisServer, programs
from support.cache_callers import WAYS, Caller
from support.replicated import Cluster, Pair, Sentinels

SERVERS = {
    each.__name__: each for each in (programs.redis_62, programs.redis_70, programs.valkey_81, programs.valkey_91)
}


@pytest.fixture(params=WAYS)
def call(request):
    return Caller(request.param)


@pytest.fixture(params=SERVERS)
def any_server(request, start):
    return start(RedisServer(SERVERS[request.param]()))


@pytest.fixture
def server(start):
    return start(RedisServer(programs.valkey_91()))


@pytest.fixture
def plain(server):
    """A client of one kind, for what doesn't depend on it."""
    with redis.Redis(host=server.host, port=server.port) as client:
        yield client


# --- servers with replicas ------------------------------------------------------------------------------------------

REPLICATED = {"pair": Pair, "cluster": Cluster, "sentinels": Sentinels}
CLIENTS = [
    *((setup, library) for setup in ("pair", "cluster") for library in ("redis", "valkey", "glide")),
    *(("sentinels", library) for library in ("redis", "valkey")),
]


@pytest.fixture(scope="session")
def replicated(start_shared):
    """Each set-up by its name, started when first asked for. Tests stop its replicas, and let them go on."""
    started = {}

    def get(setup):
        if setup not in started:
            started[setup] = start_shared(REPLICATED[setup]())
        return started[setup]

    return get


@pytest.fixture(params=CLIENTS, ids="-".join)
def world(request, replicated):
    setup, library = request.param
    world = replicated(setup)
    world.library = library
    return world


@pytest.fixture
def pair(replicated):
    return replicated("pair")


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request):
    return request.param


@pytest.fixture(params=["redis", "valkey", "glide"])
def library(request):
    return request.param


@pytest.fixture
def order():
    return uuid.uuid4().hex
