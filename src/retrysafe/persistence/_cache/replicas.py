"""Writes that replicas confirm: the write and its WAIT in one round trip, for clients that run scripts.

WAIT counts what its own connection has written, and answers for any other that all is well. So both are sent together
on one connection, and where that breaks, both are sent again. In a cluster it must be a connection to the key's own
node: a cluster client would send a WAIT, which names no key, to anyone.

`confirmed(...)` is the course of it, without I/O; the four kinds of clients carry it out.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retrysafe.persistence._cache.commands import READ, Command
from retrysafe.persistence._cache.errors import GLIDE_SAYS, explained
from retrysafe.persistence._cache.interruptions import unbroken

if TYPE_CHECKING:
    from retrysafe.persistence._cache.backends import Options
    from retrysafe.persistence._cache.commands import Script

Pair: TypeAlias = "list[tuple[Any, ...]]"
"""Commands to be sent together on one connection, mostly two."""

Course: TypeAlias = Generator["Pair | None", Any, "list[Any]"]
"""Yields what to send, or None for finding the key's node anew; is sent the replies, errors among them."""

_GONE: Final = frozenset({"MovedError", "ConnectionError"})
"""Of a cluster's node: the key is not, or no longer, to be had there."""


def is_unknown_script(error: Exception) -> bool:
    """Whether the server has forgotten the script, or never knew it: after a restart, a flush or a failover."""
    said = str(error).removeprefix(GLIDE_SAYS)
    return type(error).__name__ == "NoScriptError" or said.startswith(("NOSCRIPT", "NoScriptError"))


def is_gone(error: Exception) -> bool:
    """Whether the node that was asked has not, or no longer, the key."""
    said = str(error).removeprefix(GLIDE_SAYS)
    return any(cls.__name__ in _GONE for cls in type(error).__mro__) or said.startswith("Moved")


def confirmed(command: Command, options: Options) -> Course:
    """The script and its WAIT: by the script's digest, then by its text; and once more where the key has moved.

    Returns:
        The script's reply, and how many replicas have what it wrote; an error in the place of that, where WAIT failed.
    """
    script: Script = command.script
    name, body = "EVALSHA", script.sha
    wait = ("WAIT", options.min_replicas, options.replica_timeout_ms)
    sought = False
    while True:
        replies = yield [(name, body, 1, command.key, *command.arguments), wait]
        reply, replicas = replies
        if not isinstance(reply, Exception):
            if isinstance(replicas, Exception):
                replicas = explained(replicas, options.where, options.password)
            return [reply, replicas]
        if name == "EVALSHA" and is_unknown_script(reply):
            name, body = "EVAL", script.text
        elif not sought and is_gone(reply):
            sought = True
            yield None
        else:
            raise reply


def is_cluster(client: Any) -> bool:
    """Whether it is a cluster client of redis-py or valkey-py."""
    return hasattr(client, "get_node_from_key")


def is_glide_cluster(client: Any) -> bool:
    """Whether it is a cluster client of valkey-glide."""
    return any(cls.__name__ == "GlideClusterClient" for cls in type(client).__mro__)


# --- redis-py and valkey-py ---------------------------------------------------------------------------------------


def send_pair(client: Any, key: str, pair: Pair) -> list[Any]:
    """The replies to both commands, sent over one connection."""
    if not is_cluster(client):
        return send_over_one(client, pair)
    try:
        node = client.get_node_from_key(key)
        connected = getattr(client, "get_redis_connection", None) or client.get_valkey_connection
        return send_over_one(connected(node), pair)
    except Exception as error:  # noqa: BLE001  # for the course to judge
        return [error, error]


def send_over_one(client: Any, pair: Pair) -> list[Any]:
    """The replies to commands that are sent over one connection, errors among them."""
    return unbroken(client, _send_over_one, client, pair)


def _send_over_one(client: Any, pair: Pair) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for command in pair:
            pipeline.execute_command(*command)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies


async def send_pair_async(client: Any, key: str, pair: Pair) -> list[Any]:
    """The twin of `send_pair`."""
    if is_cluster(client):
        try:
            await client.initialize()
            return await send_to_node(client.get_node_from_key(key), pair)
        except Exception as error:  # noqa: BLE001  # for the course to judge
            return [error, error]
    return await send_over_one_async(client, pair)


async def send_over_one_async(client: Any, pair: Pair) -> list[Any]:
    """The twin of `send_over_one`."""
    async with client.pipeline(transaction=False) as pipeline:
        for command in pair:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


async def send_to_node(node: Any, pair: Pair) -> list[Any]:
    """The replies to commands that a cluster's node is sent over one connection, errors among them."""
    # The libraries' asyncio clusters have no client of one node, but the part of their pipelines that serves one.
    made = importlib.import_module(type(node).__module__).PipelineCommand
    commands = [made(position, *command) for position, command in enumerate(pair)]
    await node.execute_pipeline(commands)
    return [command.result for command in commands]


def seeking(key: str) -> Command:
    """What a cluster client does in its own way, so that it learns which node has the key now."""
    return Command(READ, key, ())


# --- valkey-glide -------------------------------------------------------------------------------------------------

_IS_HERE: Final = "return redis.call('GET', ARGV[1]) and 1 or 0"
"""Declares no key, so that nobody is sent elsewhere for it: a node that does not serve the key fails."""


class GlideBatches:
    """A pair as a batch of valkey-glide: one request, which is written to one connection.

    Where a cluster's client is told by a node that the key has moved, it follows with the write alone, and WAIT then
    speaks for a node that has nothing to do with it. So a command between the two has that node show that it has the
    key.

    Args:
        client: The client.
        module: The library, `glide` or `glide_sync`.
        reply_timeout_ms: For how long the client is to wait for the replies; its own limit may be shorter than WAIT's.
    """

    __slots__ = ("_client", "_cluster", "_module", "_timeout_ms")

    def __init__(self, client: Any, module: Any, reply_timeout_ms: int) -> None:
        self._client = client
        self._module = module
        self._cluster = is_glide_cluster(client)
        self._timeout_ms = reply_timeout_ms

    def send(self, key: str, pair: Pair) -> Any:
        """The replies, or what is to be awaited for them; see `replies`."""
        module = self._module
        if self._cluster:
            batch = module.ClusterBatch(is_atomic=False)
            route = module.SlotKeyRoute(module.SlotType.PRIMARY, key)
            options = module.ClusterBatchOptions(timeout=self._timeout_ms, route=route)
            pair = [pair[0], ("EVAL", _IS_HERE, 0, key), pair[1]]
        else:
            batch = module.Batch(is_atomic=False)
            options = module.BatchOptions(timeout=self._timeout_ms)
        for command in pair:
            batch.custom_command([str(part) for part in command])
        return self._client.exec(batch, raise_on_error=False, options=options)

    def replies(self, got: list[Any]) -> list[Any]:
        """The pair's replies."""
        if not self._cluster:
            return got
        reply, is_here, replicas = got
        if is_here != 1:
            replicas = is_here if isinstance(is_here, Exception) else ConnectionError("the key has moved")
        return [reply, replicas]
