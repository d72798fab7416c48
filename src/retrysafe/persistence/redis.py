"""The cache layer under the names that it has in Powertools' module for Redis."""

from __future__ import annotations

from retrysafe.persistence._cache_connection import CacheConnection
from retrysafe.persistence.cache import CacheClientProtocol, CachePersistenceLayer

RedisCachePersistenceLayer = CachePersistenceLayer
RedisClientProtocol = CacheClientProtocol
RedisConnection = CacheConnection
