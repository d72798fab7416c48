"""A reply that comes after its client has given up waiting belongs to nobody: no other command takes it for its own."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import async_layer_from_url, layer_from_url
from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord

LATER = 4_000_000_000
TIMEOUT_SECONDS = 0.4
# The first client has given up by then, and the second one waits.
PAUSE_MS = 600


def places(request):
    """The URLs of all kinds of servers, with a server that can be told to reply late."""
    sentinel, valkey = (request.getfixturevalue(name) for name in ("redis_sentinel", "valkey_91"))
    hosts = ",".join(f"{host}:{port}" for host, port in sentinel.addresses)
    return {"sentinel": (f"redis+sentinel://{hosts}/{sentinel.name}", sentinel.master), "alone": (valkey.url, valkey)}


@pytest.mark.parametrize("place", ["sentinel", "alone"])
@pytest.mark.parametrize("library", ["redis", "valkey"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_next_command_does_not_get_it(request, place, library, asynchronous):
    url, server = places(request)[place]
    scheme = library + url[url.index("+" if "+" in url else ":") :]
    options = f"?socket_timeout={TIMEOUT_SECONDS}&max_connections=1"

    async def ask():
        make = async_layer_from_url if asynchronous else layer_from_url
        layer = make(scheme + options)

        async def done(method, argument):
            result = method(argument)
            return await result if asynchronous else result

        try:
            for key in ("a", "b"):
                await done(layer._put_record, record(key, INPROGRESS))
                await done(layer._update_record, record(key, COMPLETED, f'"{key}"'))
            server.command("CLIENT", "PAUSE", PAUSE_MS, "ALL")
            with pytest.raises(IdempotencyPersistenceConnectionError):
                await done(layer._get_record, "a")
            found = await done(layer._get_record, "b")
        finally:
            server.command("CLIENT", "UNPAUSE")
            closed = layer.close()
            if asynchronous:
                await closed
        assert found.response_data == '"b"'

    server.command("FLUSHALL")
    asyncio.run(ask())


def record(key, status, answer=""):
    lease = LATER * 1000 if status == INPROGRESS else None
    return DataRecord(key, status, LATER, lease, answer, owner="owner")
