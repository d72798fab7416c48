"""Many scripts for a server with a single address: as one script for many keys, or else as a pipeline.

One script takes client and server the least. But behind a single address there may be a cluster, which clients take for
one server: a managed service, or a proxy. It refuses a script whose keys are in several slots, and takes the same
scripts with one key each.

`sharing(...)` is the course of it, without I/O; the clients of each kind carry it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retrysafe.persistence._cache.errors import GLIDE_SAYS
from retrysafe.persistence._cache.interruptions import unbroken
from retrysafe.persistence._cache.replicas import (
    is_glide_cluster,
    is_unknown_script,
    send_over_one,
    send_over_one_async,
)
from retrysafe.persistence._cache.together import Together, together
from retrysafe.persistence._courses import carried_out, carried_out_async
from retrysafe.persistence.many import outcome, outcome_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from retrysafe.persistence._cache.backends import GlideScripts
    from retrysafe.persistence._cache.commands import Command

GLIDE_TIMEOUT_MS: Final = 250
GLIDE_COMMAND_MS: Final = 5
"""How long valkey-glide waits by default, and what each command of a batch adds to that."""

Course: TypeAlias = "Generator[Together | list[Command], Any, list[Any]]"
"""Yields a script for many keys, or commands for a pipeline; is sent the reply, or the replies, or an error instead."""


class Shards:
    """What is known of the server behind a client.

    Attributes:
        are_there: Whether it has refused a script because of its keys' slots. It is given pipelines from then on.
    """

    __slots__ = ("are_there",)

    def __init__(self) -> None:
        self.are_there = False


def sharing(commands: list[Command], shards: Shards) -> Course:
    """The replies to the commands, errors among them."""
    replies: list[Any] = [None] * len(commands)
    numbers = list(range(len(commands)))
    if not shards.are_there:
        for each in together(commands):
            each.put((yield each), replies)
        # None of these was carried out.
        numbers = [number for number, reply in enumerate(replies) if _is_cross_slot(reply)]
    if numbers:
        shards.are_there = True
        got = yield [commands[number] for number in numbers]
        each_of = [got] * len(numbers) if isinstance(got, Exception) else got
        for number, reply in zip(numbers, each_of, strict=True):
            replies[number] = reply
    return replies


def _is_cross_slot(reply: Any) -> bool:
    if not isinstance(reply, Exception):
        return False
    said = str(reply).removeprefix(GLIDE_SAYS)
    return type(reply).__name__ == "ClusterCrossSlotError" or said.startswith(("CROSSSLOT", "CrossSlot"))


def _carry_out(
    course: Course, one: Callable[[Together], Any], several: Callable[[list[Command]], list[Any]]
) -> list[Any]:
    return carried_out(
        course, lambda asked: outcome(one, asked) if isinstance(asked, Together) else outcome(several, asked)
    )


async def _carry_out_async(
    course: Course, one: Callable[[Together], Awaitable[Any]], several: Callable[[list[Command]], Awaitable[list[Any]]]
) -> list[Any]:
    return await carried_out_async(
        course,
        lambda asked: outcome_async(one, asked) if isinstance(asked, Together) else outcome_async(several, asked),
    )


# --- redis-py and valkey-py ---------------------------------------------------------------------------------------


def as_one(client: Any, commands: list[Command], shards: Shards) -> list[Any]:
    """The replies to the commands, errors among them."""

    def one(each: Together) -> Any:
        try:
            return unbroken(client, client.execute_command, "EVALSHA", each.script.sha, *each.words)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return unbroken(client, client.execute_command, "EVAL", each.script.text, *each.words)

    def several(commands: list[Command]) -> list[Any]:
        return send_over_one(client, [words_of(each) for each in commands])

    return _carry_out(sharing(commands, shards), one, several)


async def as_one_async(client: Any, commands: list[Command], shards: Shards) -> list[Any]:
    """The twin of `as_one`."""

    async def one(each: Together) -> Any:
        try:
            return await client.execute_command("EVALSHA", each.script.sha, *each.words)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return await client.execute_command("EVAL", each.script.text, *each.words)

    async def several(commands: list[Command]) -> list[Any]:
        return await send_over_one_async(client, [words_of(each) for each in commands])

    return await _carry_out_async(sharing(commands, shards), one, several)


def words_of(command: Command) -> tuple[Any, ...]:
    """The command as it is sent by itself."""
    return ("EVALSHA", command.script.sha, 1, command.key, *command.arguments)


# --- valkey-glide -------------------------------------------------------------------------------------------------


def glide_as_one(client: Any, scripts: GlideScripts, commands: list[Command], shards: Shards) -> list[Any]:
    """The replies to the commands, errors among them."""

    def one(each: Together) -> Any:
        return client.invoke_script(scripts.of(each.script), keys=each.keys, args=list(each.arguments))

    def several(commands: list[Command]) -> Any:
        return glide_batch(client, scripts.module, commands)

    return _carry_out(sharing(commands, shards), one, several)


async def glide_as_one_async(client: Any, scripts: GlideScripts, commands: list[Command], shards: Shards) -> list[Any]:
    """The twin of `glide_as_one`."""

    async def one(each: Together) -> Any:
        return await client.invoke_script(scripts.of(each.script), keys=each.keys, args=list(each.arguments))

    async def several(commands: list[Command]) -> Any:
        return await glide_batch(client, scripts.module, commands)

    return await _carry_out_async(sharing(commands, shards), one, several)


def glide_batch(client: Any, module: Any, commands: list[Command]) -> Any:
    """The replies, errors among them, or what is to be awaited for them."""
    config = getattr(client, "config", None) or getattr(client, "_config", None)
    timeout = (getattr(config, "request_timeout", None) or GLIDE_TIMEOUT_MS) + GLIDE_COMMAND_MS * len(commands)
    is_cluster = is_glide_cluster(client)
    batch = (module.ClusterBatch if is_cluster else module.Batch)(is_atomic=False)
    for command in commands:
        batch.custom_command([str(word) for word in words_of(command)])
    options = (module.ClusterBatchOptions if is_cluster else module.BatchOptions)(timeout=timeout)
    return client.exec(batch, raise_on_error=False, options=options)
