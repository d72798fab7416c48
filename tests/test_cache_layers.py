"""The one suite over the cache layer, with any client on any server.

| | Valkey 9.1 | Valkey 8.1 | Redis 7.0 | Redis 6.2 | cluster | Sentinel |
|---|---|---|---|---|---|---|
| redis-py | sync, async | sync, async, decoding | sync, async | sync, async | sync, async | sync, async |
| redis-py, of the layer, by URL | | | | sync, async, threads | sync, async | sync, async |
| valkey-py | sync, async | | | | sync, async | sync, async |
| valkey-py, of the layer, by URL | sync, async | | | | threads | |
| valkey-glide | sync, async | | | | sync, async | (has none) |
| no more than `get`, `set`, `delete` | | | sync, async, as both name the arguments | | | |

The servers' clocks are moved, so that nothing waits, save that of Redis 7.0, which cannot be: there leases are short, and
checks that need more are left out, which they hold elsewhere.
"""

from __future__ import annotations

from support.any_client import Glide, Least, RedisPy
from support.cache_contract import CacheContract, LeastContract, RealTimeContract, UrlContract

# --- Valkey 9.1 -------------------------------------------------------------------------------------------------------


class TestRedisPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy()


class TestAsyncRedisPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy(asynchronous=True)


class TestValkeyPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy("valkey")


class TestAsyncValkeyPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy("valkey", asynchronous=True)


class TestGlideOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", Glide()


class TestAsyncGlideOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", Glide(asynchronous=True)


class TestUrlOnValkey91(UrlContract):
    server_name, scheme, flavour = "valkey_91_clock", "valkey", "sync"


class TestAsyncUrlOnValkey91(UrlContract):
    server_name, scheme, flavour = "valkey_91_clock", "valkey", "async"


# --- Valkey 8.1 -------------------------------------------------------------------------------------------------------


class TestDecodingRedisPyOnValkey81(CacheContract):
    server_name, client = "valkey_81_clock", RedisPy(decode_responses=True)


class TestAsyncDecodingRedisPyOnValkey81(CacheContract):
    server_name, client = "valkey_81_clock", RedisPy(asynchronous=True, decode_responses=True)


# --- Redis 7.0, in real time ------------------------------------------------------------------------------------------


class TestRedisPyOnRedis70(RealTimeContract):
    server_name, client = "redis_70", RedisPy()


class TestAsyncRedisPyOnRedis70(RealTimeContract):
    server_name, client, waits = "redis_70", RedisPy(asynchronous=True), False


class TestLeastOfRedisPy(LeastContract):
    server_name, client = "redis_70", Least(RedisPy())


class TestLeastOfAsyncRedisPy(LeastContract):
    server_name, client = "redis_70", Least(RedisPy(asynchronous=True, decode_responses=True))


class TestLeastOfGlide(LeastContract):
    server_name, client = "redis_70", Least(Glide())


class TestLeastOfAsyncGlide(LeastContract):
    server_name, client = "redis_70", Least(Glide(asynchronous=True))


# --- Redis 6.2 --------------------------------------------------------------------------------------------------------


class TestRedisPyOnRedis62(CacheContract):
    server_name, client = "redis_62_clock", RedisPy()


class TestAsyncRedisPyOnRedis62(CacheContract):
    server_name, client = "redis_62_clock", RedisPy(asynchronous=True)


class TestUrlOnRedis62(UrlContract):
    server_name, scheme, flavour = "redis_62_clock", "redis", "sync"


class TestAsyncUrlOnRedis62(UrlContract):
    server_name, scheme, flavour = "redis_62_clock", "redis", "async"


class TestUrlInThreadsOnRedis62(UrlContract):
    server_name, scheme, flavour = "redis_62_clock", "redis", "threads"


# --- a cluster of three -----------------------------------------------------------------------------------------------


class TestRedisPyOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", RedisPy()


class TestAsyncRedisPyOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", RedisPy(asynchronous=True)


class TestValkeyPyOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", RedisPy("valkey")


class TestAsyncValkeyPyOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", RedisPy("valkey", asynchronous=True)


class TestGlideOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", Glide()


class TestAsyncGlideOnCluster(CacheContract):
    server_name, client = "valkey_cluster_clock", Glide(asynchronous=True)


class TestUrlOnCluster(UrlContract):
    server_name, scheme, flavour = "valkey_cluster_clock", "redis", "sync"


class TestAsyncUrlOnCluster(UrlContract):
    server_name, scheme, flavour = "valkey_cluster_clock", "redis", "async"


class TestUrlInThreadsOnCluster(UrlContract):
    server_name, scheme, flavour = "valkey_cluster_clock", "valkey", "threads"


# --- a master under Sentinel ------------------------------------------------------------------------------------------


class TestRedisPyOnSentinel(CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy()


class TestAsyncRedisPyOnSentinel(CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy(asynchronous=True)


class TestValkeyPyOnSentinel(CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy("valkey")


class TestAsyncValkeyPyOnSentinel(CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy("valkey", asynchronous=True)


class TestUrlOnSentinel(UrlContract):
    server_name, scheme, flavour = "valkey_sentinel_clock", "redis", "sync"


class TestAsyncUrlOnSentinel(UrlContract):
    server_name, scheme, flavour = "valkey_sentinel_clock", "redis", "async"
