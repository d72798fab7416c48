"""Real servers for the tests, each a process of its own on 127.0.0.1, and a proxy to break their connections.

A test takes a running server from a fixture of `servers.fixtures`, and uses keys of its own there, as all tests of a
session share it. A test that stops, kills or configures a server asks the fixture `start` for one of its own.
"""

from servers.clocks import ServerClock
from servers.cluster import RedisCluster
from servers.dynamodb import DynamoDBLocal, DynamoDBServer, Dynoxide, Moto
from servers.processes import ServerFailedError, ServerProcess, wait_until
from servers.proxies import Fault, Proxy
from servers.resp import ReplyError
from servers.sentinel import RedisSentinel
from servers.standalone import RedisServer

__all__ = [
    "DynamoDBLocal",
    "DynamoDBServer",
    "Dynoxide",
    "Fault",
    "Moto",
    "Proxy",
    "RedisCluster",
    "RedisSentinel",
    "RedisServer",
    "ReplyError",
    "ServerClock",
    "ServerFailedError",
    "ServerProcess",
    "wait_until",
]
