"""Which clients a layer takes: of either library, none of the other kind, none that threads share unguarded, none with
keys of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
import redis.asyncio
import valkey
import valkey.asyncio

from retrysafe import idempotent_function
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from support.bodies import counted
from support.cache_steps import once

# --- a client that turns out to be of the other kind ------------------------------------------------------------------


class GivesAwaitables:
    """Plain functions, whose replies are to be awaited: nothing but a reply tells."""

    def __init__(self, values):
        self.values = values

    def get(self, name):
        return self._get(name)

    async def _get(self, name):
        return self.values.get(name)

    def set(self, name, value, px=None, nx=False):
        return self._set(name, value)

    async def _set(self, name, value):
        return self.values.setdefault(name, value) is value

    def delete(self, keys):
        return self._get(keys)


class GivesValues(GivesAwaitables):
    """Plain functions, whose replies are there at once."""

    def get(self, name):
        return self.values.get(name)

    def set(self, name, value, px=None, nx=False):
        return self.values.setdefault(name, value) is value

    def delete(self, keys):
        return self.values.pop(keys, None)


@pytest.mark.filterwarnings("ignore:client=Gives")
def test_what_is_to_be_awaited_is_never_taken_for_a_reply():
    body = counted()
    call = once(CachePersistenceLayer(client=GivesAwaitables({})), body, "colours")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is asynchronous: use AsyncCachePersistenceLayer"):
        call(1)
    assert body.body.runs == 0


class TakesCommandsAsObjects(GivesValues):
    """Named as redis-py's methods, with other arguments, as coredis has them."""

    def execute_command(self, command, callback=None, **options):
        raise AssertionError

    def evalsha(self, sha1, keys=None, args=None):
        raise AssertionError


@pytest.mark.parametrize("layer_class", [CachePersistenceLayer, AsyncCachePersistenceLayer])
def test_a_client_that_takes_commands_in_another_form_is_refused_when_the_layer_is_made(layer_class):
    with pytest.raises(IdempotencyPersistenceConfigError, match="takes commands in a form of its own"):
        layer_class(client=TakesCommandsAsObjects({}))


def telling_nothing(method):
    """The method without a signature, like one that is written in C."""
    method = partial(method)
    method.__signature__ = "none"
    return method


def test_one_that_does_not_tell_in_which_form_is_taken(valkey_91):
    with redis.Redis(host=valkey_91.host, port=valkey_91.port) as client:
        client.execute_command = telling_nothing(client.execute_command)
        call = once(CachePersistenceLayer(client=client), counted(), "untold")
        assert [call(1), call(1)] == [1, 1]


@pytest.mark.filterwarnings("ignore:client=Gives")
def test_an_asynchronous_layer_refuses_a_client_that_blocks():
    runs = []

    async def charge(order):
        runs.append(order)

    call = once(AsyncCachePersistenceLayer(client=GivesValues({})), charge, "colours")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is synchronous: use CachePersistenceLayer"):
        asyncio.run(call(1))
    assert runs == []


class CountsSeconds(GivesValues):
    """A fake as tests of Powertools have it: with the one time that is used there."""

    def __init__(self, values):
        super().__init__(values)
        self.times = {}

    def set(self, name, value, ex=0, nx=False):
        if nx and name in self.values:
            return None
        self.values[name] = value
        self.times[name] = ex
        return True


class CountsSecondsAwaited(CountsSeconds):
    async def get(self, name):
        return super().get(name)

    async def set(self, name, value, ex=0, nx=False):
        return super().set(name, value, ex=ex, nx=nx)

    async def delete(self, keys):
        return super().delete(keys)


@pytest.mark.filterwarnings("ignore:client=Counts")
def test_a_client_that_counts_in_seconds_keeps_each_record_for_its_window(flavour):
    client = (CountsSecondsAwaited if flavour.is_async else CountsSeconds)({})
    layer = (AsyncCachePersistenceLayer if flavour.is_async else CachePersistenceLayer)(client=client)
    body = counted()
    call = flavour.function(body, persistence_store=layer, key_prefix="seconds")
    assert [call(1), call(1), call(2)] == [1, 1, 2]
    assert len(client.values) == 2
    assert all(3600 <= seconds <= 3605 and isinstance(seconds, int) for seconds in client.times.values())


class CountsMilliseconds(GivesValues):
    """It notes for how long; the subclasses show it in their ways."""

    def __init__(self, values):
        super().__init__(values)
        self.times = []

    def set(self, name, value, ex=None, px=None, nx=False):
        self.times.append(px)
        if nx and name in self.values:
            return None
        self.values[name] = value
        return True


class TakesOptions(CountsMilliseconds):
    def set(self, name, value, ex=None, **options):
        return super().set(name, value, ex, **options)


class TakesAnything(CountsMilliseconds):
    def set(self, *given, **options):
        return super().set(*given, **options)


class TellsNothing(CountsMilliseconds):
    @property
    def set(self):
        return telling_nothing(super().set)


@pytest.mark.filterwarnings("ignore:client=T", "ignore:client=C")
@pytest.mark.parametrize("kind", [CountsMilliseconds, TakesOptions, TakesAnything, TellsNothing])
def test_one_that_may_know_milliseconds_is_given_those(kind):
    client = kind({})
    call = once(CachePersistenceLayer(client=client), counted(), "both")
    assert [call(1), call(1)] == [1, 1]
    assert all(milliseconds > 3_600_000 for milliseconds in client.times)


class Traced(redis.asyncio.Redis):
    """A subclass whose method hands on what is to be awaited, without being a coroutine function."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def execute_command(self, *words, **options):
        self.seen.append(words[0])
        return super().execute_command(*words, **options)


def test_an_asynchronous_client_is_known_also_where_a_subclass_traces_its_commands(valkey_81):
    async def check():
        async with Traced(host=valkey_81.host, port=valkey_81.port) as client:
            with pytest.raises(IdempotencyPersistenceConfigError, match="is asynchronous: use AsyncCachePersistence"):
                CachePersistenceLayer(client=client)

            async def charge(order):
                return order

            call = once(AsyncCachePersistenceLayer(client=client), charge, "traced")
            assert [await call(1), await call(1)] == [1, 1]
            assert "EVALSHA" in client.seen

    asyncio.run(check())


# --- a single connection ----------------------------------------------------------------------------------------------


def test_a_single_connection_that_threads_would_share_unguarded_is_refused(redis_70):
    with (
        valkey.Valkey(host=redis_70.host, port=redis_70.port, single_connection_client=True) as client,
        pytest.raises(IdempotencyPersistenceConfigError, match="client=Valkey has single_connection_client=True"),
    ):
        CachePersistenceLayer(client=client)


def test_one_that_is_guarded_gives_each_thread_its_own_answers(redis_70):
    redis_70.command("FLUSHALL")
    with redis.Redis(host=redis_70.host, port=redis_70.port, single_connection_client=True) as client:
        ran = []

        @idempotent_function(persistence_store=CachePersistenceLayer(client=client), key_prefix="p")
        def pay(order):
            ran.append(order)
            return f"receipt {order}"

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(pay, range(200))) == [f"receipt {order}" for order in range(200)]
        assert sorted(ran) == list(range(200))


# --- keys that are spelled in another way -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"encoding": "latin-1"}, {"encoding": "ascii", "encoding_errors": "replace"}, {"encoding": "none"}]
)
@pytest.mark.parametrize("library", [redis, valkey, redis.asyncio, valkey.asyncio], ids=lambda each: each.__name__)
def test_a_client_whose_keys_are_not_those_of_others_is_refused(library, options):
    name = library.__name__.partition(".")[0].capitalize()
    layer_class = AsyncCachePersistenceLayer if "asyncio" in library.__name__ else CachePersistenceLayer
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"client={name} has encoding='{options['encoding']}'"):
        layer_class(client=getattr(library, name)(**options))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8"])
def test_one_that_spells_them_alike_is_taken_however_that_is_called(encoding):
    CachePersistenceLayer(client=redis.Redis(encoding=encoding, decode_responses=True))


def test_so_is_one_of_a_cluster(redis_cluster):
    node = redis_cluster.nodes[0]
    with (
        valkey.ValkeyCluster(host=node.host, port=node.port, encoding="latin-1") as client,
        pytest.raises(IdempotencyPersistenceConfigError, match="client=ValkeyCluster has encoding='latin-1'"),
    ):
        CachePersistenceLayer(client=client)


# --- without a library ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "extra"), [("redis://cache", "redis"), ("valkey://cache", "valkey")])
def test_a_missing_library_is_named_with_what_installs_it(url, extra):
    program = (
        "import sys; sys.modules.update(redis=None, valkey=None)\n"
        "from retrysafe import idempotent_function\n"
        f"try: idempotent_function(lambda order: order, persistence_store={url!r}, key_prefix='p')\n"
        "except ValueError as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("IdempotencyPersistenceConfigError neither redis-py nor valkey-py is installed")
    assert f"pip install 'retrysafe[{extra}]'" in ran.stdout


@pytest.mark.parametrize(("url", "library"), [("redis://cache", "valkey"), ("valkey://cache", "redis")])
def test_either_library_serves_either_name(url, library):
    program = (
        f"import sys; sys.modules[{({'redis', 'valkey'} - {library}).pop()!r}] = None\n"
        "from retrysafe.persistence.cache import CacheConnection\n"
        f"print(type(CacheConnection({url!r}).open()[0]).__module__)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(library)
