"""Where a cache is: every form of a URL and of the arguments, what is refused, and that no password is ever shown."""

from __future__ import annotations

import asyncio
import gc

import pytest

from retrysafe import async_layer_from_url, idempotent_function, layer_from_url
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.addresses import address_of, parse_url
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CacheConnection, CachePersistenceLayer

SECRET = "pa55-w0rd"  # noqa: S105 - of nothing


def texts_of(error):
    """All that an error can show of itself and of what it came from."""
    seen = []
    while error is not None:
        seen += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(seen)


# --- what URLs name -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "where", "topology"),
    [
        ("redis://cache", "cache:6379", "standalone"),
        ("redis://cache:6380/2", "cache:6380", "standalone"),
        ("rediss://cache", "cache:6379 (TLS)", "standalone"),
        ("valkey://cache", "cache:6379", "standalone"),
        ("valkeys://cache/", "cache:6379 (TLS)", "standalone"),
        ("Redis://cache", "cache:6379", "standalone"),
        ("redis://me:\u2100@cache", "cache:6379", "standalone"),
        ("redis://[::1]:7000/0", "[::1]:7000", "standalone"),
        ("redis://[fe80::1]", "[fe80::1]:6379", "standalone"),
        ("redis+cluster://a:1,b,[::1]:3", "a:1,b:6379,[::1]:3", "cluster"),
        ("rediss+cluster://a", "a:6379 (TLS)", "cluster"),
        ("valkeys+cluster://a/0", "a:6379 (TLS)", "cluster"),
        ("redis+sentinel://a,b:2/mymaster", "a:26379,b:2 (master 'mymaster')", "sentinel"),
        ("valkeys+sentinel://a/my%20master/3", "a:26379 (master 'my master') (TLS)", "sentinel"),
    ],
)
def test_each_form_of_a_url_names_its_servers(url, where, topology):
    address = parse_url(url)
    assert (address.where, address.topology) == (where, topology)


def test_user_and_password_are_percent_decoded():
    address = parse_url("redis://us%40er:p%40ss%3A%2F%23%3Fword+1@cache:1/4")
    assert (address.username, address.password, address.db_index) == ("us@er", "p@ss:/#?word+1", 4)


def test_a_password_needs_no_user():
    address = parse_url("redis://:secret@cache")
    assert (address.username, address.password) == ("", "secret")


def test_options_of_the_connection_stand_in_the_query():
    address = parse_url("rediss://cache?socket_timeout=0.5&client_name=pay+ments&ssl_check_hostname=false&protocol=3")
    assert address.options == {
        "socket_timeout": 0.5,
        "socket_connect_timeout": 2.0,
        "client_name": "pay ments",
        "protocol": 3,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": False,
    }


def test_timeouts_tls_and_its_checks_are_on_by_default():
    address = address_of("", "cache", 6379, "", "", 0, "standalone", ssl=True)
    assert address.tls
    assert address.options == {
        "socket_timeout": 5.0,
        "socket_connect_timeout": 2.0,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
    }


def test_a_host_needs_no_url():
    address = address_of("", "::1", "6380", "me", SECRET, 3, "standalone", ssl=False)
    assert (address.where, address.username, address.password, address.db_index) == ("[::1]:6380", "me", SECRET, 3)
    assert not address.tls


def test_mode_makes_a_cluster_of_a_host_and_of_a_url():
    assert address_of("", "cache", 6379, "", "", 0, "cluster", ssl=True).topology == "cluster"
    assert address_of("redis://a,b", "", 6379, "", "", 0, "cluster", ssl=True).topology == "cluster"


# --- what is refused ----------------------------------------------------------------------------------------------

WRONG_URLS = {
    "http://cache": r"its scheme is none of redis://, redis\+cluster://",
    "cache:6379": "its scheme",
    "redis://": "names no host",
    "redis:///0": "names no host",
    "redis://:6379": "names no host",
    f"redis://me:{SECRET}@": "names no host",
    f"redis://me:{SECRET}@/0": "names no host",
    "redis+cluster://a,,b": "names no host",
    "redis://cache:0": "cache:0.*the port of 'cache' is no number from 1 to 65535",
    "redis://cache:65536": "cache:65536.*the port",
    "redis://cache:-1": "the port",
    "redis://cache:": "the port",
    "redis://cache:" + "9" * 5000: "the port",
    f"redis://me:{SECRET}": "the port of 'me'",
    f"redis://cache:{SECRET}/0": "the port",
    "redis://[::1]6379": "the port",
    "redis://[::1": r"begins with \[ and has no \]",
    "redis://::1": "names no host",
    "redis://a,b": "several hosts",
    "redis://cache/x": "'x' in its path is no number of a database",
    "redis://cache/-1": "no number",
    "redis://cache/0/1": "'0/1' in its path",
    "redis+cluster://cache/2": "a cluster has no database but 0, and it names 2",
    "redis+sentinel://cache": "names no master",
    "redis+sentinel://cache/": "names no master",
    "redis+sentinel://cache/mymaster/x": "'x' in its path",
    "redis://cache#x": "fragment",
    f"redis://me:{SECRET}/x@cache": "write them in a password as %2F %3F %23 %40",
    f"redis://me:1?{SECRET}@cache": "%3F",
    f"redis://me:1#{SECRET}@cache": "%23",
    f"redis://me:{SECRET}%ff@cache": "percent signs",
    f"redis://me:{SECRET}@cache\n": "no URL",
    f"redis://me:{SECRET}@cache:{SECRET}": "the port of 'cache'",
    f"me:{SECRET}@cache": "its scheme",
    f"redsi://me:{SECRET}@cache": "'redsi://...@cache'.*its scheme",
    f"redis://me:1?{SECRET}": "an option has no value",
    "redis://cache?nope=1": "unknown option 'nope'; known: client_name, health_check_interval",
    f"redis://cache?password={SECRET}": "unknown option 'password'",
    "redis://cache?socket_timeout=soon": "socket_timeout='soon': must be a number of seconds above 0",
    "redis://cache?socket_timeout=0": "socket_timeout='0'",
    "redis://cache?socket_timeout=nan": "socket_timeout='nan'",
    "redis://cache?socket_connect_timeout=inf": "socket_connect_timeout='inf'",
    "redis://cache?socket_timeout=1&socket_timeout=2": "'socket_timeout' is given twice",
    "redis://cache?max_connections=0": "max_connections='0': must be a whole number from 1",
    "redis://cache?protocol=4": "protocol='4': must be 2 or 3",
    "redis://cache?socket_keepalive=perhaps": "socket_keepalive='perhaps': must be true or false",
    "redis://cache?ssl_ca_certs=ca.pem": "'ssl_ca_certs' is for TLS: rediss://",
    "rediss://cache?ssl_cert_reqs=maybe": "ssl_cert_reqs='maybe': must be required, optional or none",
    "rediss://cache?ssl_cert_reqs=none&ssl_check_hostname=true": "no name to check",
    f"redis://cache?sentinel_password={SECRET}": "'sentinel_password' is for Sentinel",
}


@pytest.mark.parametrize("url", WRONG_URLS, ids=lambda url: url[:40])
def test_a_wrong_url_is_refused_when_the_layer_is_made(url):
    for make in (CachePersistenceLayer, AsyncCachePersistenceLayer, CacheConnection):
        with pytest.raises(IdempotencyPersistenceConfigError, match=WRONG_URLS[url]) as refused:
            make(url=url)
        assert SECRET not in texts_of(refused.value)


@pytest.mark.parametrize("url", WRONG_URLS, ids=lambda url: url[:40])
def test_a_wrong_url_in_the_place_of_a_layer_is_refused_when_decorating(url):
    with pytest.raises(IdempotencyPersistenceConfigError) as refused:
        idempotent_function(lambda order: order, persistence_store=url, key_prefix="p")
    assert SECRET not in texts_of(refused.value)


@pytest.mark.parametrize("url", [5, b"redis://:%b@cache" % SECRET.encode()])
def test_what_is_no_text_is_no_url(url):
    with pytest.raises(IdempotencyPersistenceConfigError, match="no URL") as refused:
        CachePersistenceLayer(url=url)
    assert SECRET not in texts_of(refused.value)


WRONG_ARGUMENTS = [
    ({}, "host='': give url, host or client"),
    ({"host": None}, "host=None"),
    ({"host": f"redis://:{SECRET}@cache"}, "host='redis://...@cache'.*a URL is url="),
    ({"host": "cache", "port": 0}, "port=0: must be a port"),
    ({"host": "cache", "port": "x"}, "port='x'"),
    ({"host": "cache", "port": True}, "port=True"),
    ({"host": "cache", "port": 6379.5}, "port=6379.5"),
    ({"host": "cache", "db_index": -1}, "db_index=-1: must be a whole number"),
    ({"host": "cache", "db_index": "1"}, "db_index='1'"),
    ({"host": "cache", "db_index": 1, "mode": "cluster"}, "db_index=1: a cluster has no database but 0"),
    ({"host": "cache", "mode": "nope"}, "mode='nope': must be 'standalone' or 'cluster'"),
    ({"host": "cache", "ssl": "no"}, "ssl='no': must be True or False"),
    ({"host": "cache", "username": 5}, "username: must be a text, not int"),
    ({"host": "cache", "password": SECRET.encode()}, "password: must be a text, not bytes"),
    ({"url": "redis://cache/2", "mode": "cluster"}, "a cluster has no database but 0, and it names 2"),
    ({"url": "redis+sentinel://cache/m", "mode": "cluster"}, "mode='cluster' is not for Sentinels"),
    ({"client": f"redis://:{SECRET}@cache"}, "client=.* is no cache client: it has no get, set, delete"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS, ids=lambda value: str(value)[:50])
def test_a_wrong_argument_is_refused_when_the_layer_is_made(arguments, message):
    for make in (CachePersistenceLayer, AsyncCachePersistenceLayer):
        with pytest.raises(IdempotencyPersistenceConfigError, match=message) as refused:
            make(**arguments)
        assert SECRET not in texts_of(refused.value)


# --- layers from URLs ---------------------------------------------------------------------------------------------


def test_a_url_opens_the_layer_of_either_kind():
    assert type(layer_from_url("redis://cache")) is CachePersistenceLayer
    assert type(async_layer_from_url("valkeys+cluster://cache")) is AsyncCachePersistenceLayer


def test_the_layers_own_options_stand_in_the_query_too():
    layer = layer_from_url(
        "redis://cache?status_attr=state&socket_timeout=1&min_replicas=2&replica_timeout_seconds=0.5"
    )
    assert (layer._settings.options.min_replicas, layer._settings.options.replica_timeout_ms) == (2, 500)
    assert layer._settings.steps._commands._names.status == "state"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("min_replicas=two", "min_replicas='two' is not a whole number"),
        ("min_replicas=-1", "min_replicas=-1"),
        ("min_replicas=1&min_replicas=2", "'min_replicas' is given twice|unknown option 'min_replicas'"),
        ("replica_timeout_seconds=long", "replica_timeout_seconds='long' is not a number"),
        ("data_attr=", "data_attr='': must be a name"),
        ("data_attr=status", "the name is taken"),
        ("client=x", "unknown option 'client'"),
    ],
)
def test_a_wrong_option_of_the_layer_is_refused(query, message):
    with pytest.raises(IdempotencyPersistenceConfigError, match=message):
        layer_from_url(f"redis://cache?{query}")


# Nobody can close what a decorator opened, and an event loop that ends leaves its connections to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_decorated_function_takes_a_url(redis_62, valkey_91):
    @idempotent_function(persistence_store=f"{redis_62.url}?data_attr=answer", key_prefix="by-url")
    def charge(order):
        return order * 2

    assert [charge(3), charge(3)] == [6, 6]
    (key,) = redis_62.command("KEYS", "by-url#*")
    assert b'"answer": "6"' in redis_62.command("GET", key)

    assert twice_async(valkey_91.url.replace("redis://", "valkey://")) == [8, 8]
    assert valkey_91.command("KEYS", "by-url#*")
    gc.collect()


def twice_async(url):
    @idempotent_function(persistence_store=url, key_prefix="by-url")
    async def charge(order):
        return order * 2

    async def twice():
        return [await charge(4), await charge(4)]

    return asyncio.run(twice())


# --- what is shown ------------------------------------------------------------------------------------------------


def test_nothing_that_can_be_printed_shows_the_password():
    url = f"redis://me:{SECRET}@cache:1/0"
    connection = CacheConnection(url=url)
    assert repr(connection) == "CacheConnection('cache:1')"
    assert connection.where == "cache:1"
    for shown in (CachePersistenceLayer(url=url), AsyncCachePersistenceLayer(url=url), connection, parse_url(url)):
        assert SECRET not in f"{shown!r} {shown}"
