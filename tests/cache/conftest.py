"""What several tests of the cache layer ask for: a call in each way, servers of each kind or of their own, a client."""

from __future__ import annotations

import pytest
import redis

from servers import RedisServer, programs
from support.cache_callers import WAYS, Caller

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
