"""Many scripts in one round trip: one script for many keys, or in a cluster, whose scripts have one key, pipelines.

Each command has its own reply, or its own error. What does not go together is left to the command by itself: to follow
a key to another node, to wait for replicas, to carry what is large. `sending(...)` is the course of it, without I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence._cache.interruptions import is_demoted
from retrysafe.persistence._cache.one_address import (
    as_one,
    as_one_async,
    glide_as_one,
    glide_as_one_async,
    glide_batch,
    words_of,
)
from retrysafe.persistence._cache.replicas import (
    is_cluster,
    is_glide_cluster,
    is_gone,
    is_unknown_script,
    send_over_one,
    send_to_node,
)
from retrysafe.persistence._cache.together import ScriptFailedError
from retrysafe.persistence._courses import carried_out, carried_out_async
from retrysafe.persistence.many import outcome, outcome_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from retrysafe.persistence._cache.backends import GlideScripts, Options
    from retrysafe.persistence._cache.commands import Command
    from retrysafe.persistence._cache.one_address import Shards

MOST_TOGETHER: Final = 128
"""How many commands a pipeline has at most, so that the server is not kept from others for long."""

LARGEST: Final = 65_536
LARGEST_TOGETHER: Final = 1_048_576
"""Characters: of a command that goes with others, and of all that go together."""

_FOLLOWED: Final = frozenset({"AskError", "ClusterDownError", "TryAgainError"})
"""What the client of a cluster does something about; where nodes are asked directly, nobody does."""

Course: TypeAlias = "Generator[list[Command], list[Any], list[Any]]"
"""Yields commands to be sent together, or one by itself; is sent their replies, errors among them."""


def sending(commands: list[Command]) -> Course:
    """The replies to the commands, or the errors in their place, in order."""
    replies: list[Any] = [None] * len(commands)
    for portion in _portions(commands):
        got = yield [commands[number] for number in portion]
        replies_to(portion, got, replies)
        if len(portion) == 1:
            continue
        unknown = [number for number in portion if _is_unknown(replies[number])]
        while unknown:
            # The first one teaches its server the script. In a cluster the others may stand elsewhere.
            first, *others = unknown
            (replies[first],) = yield [commands[first]]
            if others:
                replies_to(others, (yield [commands[number] for number in others]), replies)
            unknown = [number for number in others if _is_unknown(replies[number])]
        # Behind those: what was sent again may have moved meanwhile.
        lost: IdempotencyPersistenceConnectionError | None = None
        for number in portion:
            if isinstance(replies[number], UnicodeDecodeError):
                (replies[number],) = yield [commands[number]]
            elif _is_elsewhere(replies[number]):
                # Where the client does not find its way by itself either, it would look for it as long for each.
                if lost is None:
                    (replies[number],) = yield [commands[number]]
                    lost = (
                        replies[number] if isinstance(replies[number], IdempotencyPersistenceConnectionError) else None
                    )
                else:
                    replies[number] = lost
    return replies


def replies_to(numbers: list[int], got: list[Any], replies: list[Any]) -> None:
    """Put the replies in their places."""
    for number, reply in zip(numbers, got, strict=True):
        replies[number] = reply


def _portions(commands: list[Command]) -> Generator[list[int], None, None]:
    """What goes together, by number."""
    lengths = [len(command.arguments[0]) if command.arguments else 0 for command in commands]
    if len(commands) <= MOST_TOGETHER and sum(lengths) <= LARGEST and not any(each.replicated for each in commands):
        yield list(range(len(commands)))  # as it mostly is
        return
    portion: list[int] = []
    size = 0
    for number, length in enumerate(lengths):
        if commands[number].replicated or length > LARGEST:
            yield [number]
            continue
        if len(portion) == MOST_TOGETHER or size + length > LARGEST_TOGETHER:
            yield portion
            portion, size = [], 0
        portion.append(number)
        size += length
    if portion:
        yield portion


def _is_unknown(reply: Any) -> bool:
    return isinstance(reply, Exception) and is_unknown_script(reply)


def _is_elsewhere(reply: Any) -> bool:
    """Whether the client may find who takes the command, or takes it again, when it is given that by itself."""
    if not isinstance(reply, Exception):
        return False
    if isinstance(reply, ScriptFailedError):
        return is_demoted(reply)  # a client of Sentinels leaves a master of before where it reads this itself
    return is_gone(reply) or any(cls.__name__ in _FOLLOWED for cls in type(reply).__mro__)


# --- who sends ----------------------------------------------------------------------------------------------------


def run_all(
    commands: list[Command],
    options: Options,
    alone: Callable[[Command], Any],
    pipelined: Callable[[list[Command]], list[Any]],
) -> list[Any]:
    """The replies to all, or this library's errors.

    Args:
        commands: The commands.
        options: The layer's.
        alone: Carries out one, and raises this library's errors.
        pipelined: The replies to several, errors among them.
    """

    def replies(together: list[Command]) -> list[Any]:
        if len(together) == 1:
            return [outcome(alone, together[0])]
        try:
            return pipelined(together)
        except Exception as error:  # noqa: BLE001  # the reply to each: which were carried out is not known
            return [error] * len(together)

    return _all_explained(carried_out(sending(commands), replies), options)


async def run_all_async(
    commands: list[Command],
    options: Options,
    alone: Callable[[Command], Awaitable[Any]],
    pipelined: Callable[[list[Command]], Awaitable[list[Any]]],
) -> list[Any]:
    """`run_all`, awaiting both."""

    async def replies(together: list[Command]) -> list[Any]:
        if len(together) == 1:
            return [await outcome_async(alone, together[0])]
        try:
            return await pipelined(together)
        except Exception as error:  # noqa: BLE001  # the reply to each: which were carried out is not known
            return [error] * len(together)

    return _all_explained(await carried_out_async(sending(commands), replies), options)


def _all_explained(replies: list[Any], options: Options) -> list[Any]:
    return [_explained(reply, options) if isinstance(reply, Exception) else reply for reply in replies]


def _explained(reply: Exception, options: Options) -> Exception:
    error = explained(reply, options.where, options.password)
    if error is not reply:
        error.__cause__ = reply
    return error


# --- redis-py and valkey-py ---------------------------------------------------------------------------------------


def pipelined(client: Any, commands: list[Command], shards: Shards) -> list[Any]:
    """The replies to the commands, in one round trip for each node that has some of the keys."""
    if not is_cluster(client):
        return as_one(client, commands, shards)
    connected = getattr(client, "get_redis_connection", None) or client.get_valkey_connection
    replies: list[Any] = [None] * len(commands)
    for node, numbers in _by_node(client, commands, replies):
        words = [words_of(commands[number]) for number in numbers]
        try:
            got = send_over_one(connected(node), words)
        except Exception as error:  # noqa: BLE001  # the reply to each
            got = [error] * len(numbers)
        replies_to(numbers, got, replies)
    return replies


async def pipelined_async(client: Any, commands: list[Command], shards: Shards) -> list[Any]:
    """The twin of `pipelined`; a cluster's nodes are asked at the same time."""
    if not is_cluster(client):
        return await as_one_async(client, commands, shards)
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

    await client.initialize()
    replies: list[Any] = [None] * len(commands)

    async def ask(node: Any, numbers: list[int]) -> None:
        try:
            got = await send_to_node(node, [words_of(commands[number]) for number in numbers])
        except Exception as error:  # noqa: BLE001  # the reply to each
            got = [error] * len(numbers)
        replies_to(numbers, got, replies)

    await asyncio.gather(*(ask(node, numbers) for node, numbers in _by_node(client, commands, replies)))
    return replies


def _by_node(client: Any, commands: list[Command], replies: list[Any]) -> list[tuple[Any, list[int]]]:
    """The nodes, and the numbers of what each is asked. An error is the reply where the client knows no node."""
    found: dict[str, tuple[Any, list[int]]] = {}
    for number, command in enumerate(commands):
        try:
            node = client.get_node_from_key(command.key)
        except Exception as error:  # noqa: BLE001  # the reply to this one: the others have their nodes
            replies[number] = error
        else:
            found.setdefault(node.name, (node, []))[1].append(number)
    return list(found.values())


# --- valkey-glide -------------------------------------------------------------------------------------------------


def glide_together(client: Any, scripts: GlideScripts, commands: list[Command], shards: Shards) -> list[Any]:
    """The replies to the commands; in a cluster the client asks each node."""
    if not is_glide_cluster(client):
        return glide_as_one(client, scripts, commands, shards)
    got: list[Any] = glide_batch(client, scripts.module, commands)
    return got


async def glide_together_async(
    client: Any, scripts: GlideScripts, commands: list[Command], shards: Shards
) -> list[Any]:
    """The twin of `glide_together`."""
    if not is_glide_cluster(client):
        return await glide_as_one_async(client, scripts, commands, shards)
    got: list[Any] = await glide_batch(client, scripts.module, commands)
    return got
