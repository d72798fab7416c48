"""The cache layer under the names that it has in Powertools' module for Redis."""

from __future__ import annotations

from retrysafe.persistence.cache import (
    AsyncCachePersistenceLayer,
    CacheClientProtocol,
    CacheConnection,
    CachePersistenceLayer,
)

__all__ = ["AsyncRedisCachePersistenceLayer", "RedisCachePersistenceLayer", "RedisClientProtocol", "RedisConnection"]

AsyncRedisCachePersistenceLayer = AsyncCachePersistenceLayer
RedisCachePersistenceLayer = CachePersistenceLayer
RedisClientProtocol = CacheClientProtocol
RedisConnection = CacheConnection
