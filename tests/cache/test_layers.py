"""The one suite over the cache layer, with any client on any server.

| | Valkey 9.1 | Valkey 8.1 | Redis 7.0 | Redis 6.2 | cluster | Sentinel |
|---|---|---|---|---|---|---|
| redis-py | sync, async | sync, async, decoding | sync, async | sync, async | sync, async | sync, async |
| redis-py, of the layer, by URL | | | | sync, async, threads | sync, async | sync, async |
| valkey-py | sync, async | | | | sync, async | sync, async |
| valkey-py, of the layer, by URL | sync, async | | | | threads | |
| valkey-glide | sync, async | | | | sync, async | (has none) |
| no more than `get`, `set`, `delete` | | | sync, async, as both name the arguments | | | |

The servers' clocks stand still until a check moves them, so that nothing waits: where they can show a moment exactly,
the caller's (`SameClock`), elsewhere seven seconds later. That of Redis 7.0 cannot be moved: leases are short there,
and checks of what takes longer are left out.
"""

from __future__ import annotations

from support.any_client import Glide, Least, RedisPy
from support.cache_contract import CacheContract, LeastContract, RealTimeContract, SameClock, UrlContract

# --- Valkey 9.1 -------------------------------------------------------------------------------------------------------


class TestRedisPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy()
    rivals, rounds = 32, 4


class TestAsyncRedisPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy(asynchronous=True)
    rivals, rounds = 32, 4


class TestValkeyPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy("valkey")


class TestAsyncValkeyPyOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", RedisPy("valkey", asynchronous=True)


class TestGlideOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", Glide()
    rivals, rounds = 32, 4


class TestAsyncGlideOnValkey91(CacheContract):
    server_name, client = "valkey_91_clock", Glide(asynchronous=True)
    rivals, rounds = 32, 4


class TestUrlOnValkey91(UrlContract):
    server_name, scheme, flavour = "valkey_91_clock", "valkey", "sync"


class TestAsyncUrlOnValkey91(UrlContract):
    server_name, scheme, flavour = "valkey_91_clock", "valkey", "async"


# --- Valkey 8.1 -------------------------------------------------------------------------------------------------------


class TestDecodingRedisPyOnValkey81(SameClock, CacheContract):
    server_name, client = "valkey_81_clock", RedisPy(decode_responses=True)


class TestAsyncDecodingRedisPyOnValkey81(SameClock, CacheContract):
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


class TestRedisPyOnRedis62(SameClock, CacheContract):
    server_name, client = "redis_62_clock", RedisPy()


class TestAsyncRedisPyOnRedis62(SameClock, CacheContract):
    server_name, client = "redis_62_clock", RedisPy(asynchronous=True)


class TestUrlOnRedis62(SameClock, UrlContract):
    server_name, scheme, flavour = "redis_62_clock", "redis", "sync"


class TestAsyncUrlOnRedis62(SameClock, UrlContract):
    server_name, scheme, flavour = "redis_62_clock", "redis", "async"


class TestUrlInThreadsOnRedis62(SameClock, UrlContract):
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


class TestRedisPyOnSentinel(SameClock, CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy()


class TestAsyncRedisPyOnSentinel(SameClock, CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy(asynchronous=True)


class TestValkeyPyOnSentinel(SameClock, CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy("valkey")


class TestAsyncValkeyPyOnSentinel(SameClock, CacheContract):
    server_name, client = "valkey_sentinel_clock", RedisPy("valkey", asynchronous=True)


class TestUrlOnSentinel(SameClock, UrlContract):
    server_name, scheme, flavour = "valkey_sentinel_clock", "redis", "sync"


class TestAsyncUrlOnSentinel(SameClock, UrlContract):
    server_name, scheme, flavour = "valkey_sentinel_clock", "redis", "async"
