"""Every kind of cache client behind one coroutine, `run(command)`: the twins of `clients`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol

from retrysafe.persistence._cache.backends import GlideScripts, Options
from retrysafe.persistence._cache.clients import GLIDE_MARGIN_MS, PlainCalls, kind_of, wrong_colour
from retrysafe.persistence._cache.commands import CLAIM
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence._cache.interruptions import close_if_demoted
from retrysafe.persistence._cache.one_address import Shards
from retrysafe.persistence._cache.pipelines import glide_together_async, pipelined_async, run_all_async
from retrysafe.persistence._cache.replicas import (
    GlideBatches,
    confirmed,
    is_unknown_script,
    seeking,
    send_pair_async,
)
from retrysafe.persistence._courses import carried_out_async
from retrysafe.persistence.many import outcome_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from retrysafe.persistence._cache.commands import Command
    from retrysafe.persistence._cache.plain import Plain
    from retrysafe.persistence._cache.replicas import Pair


class AsyncBackend(Protocol):
    """A client, as the layer uses it."""

    client: Any

    async def run(self, command: Any) -> Any:
        """Carry out a command: one round trip. Raises this library's errors."""
        ...

    async def run_all(self, commands: list[Any]) -> list[Any]:
        """Carry out many, in few round trips: the reply to each, or the error that `run` would raise."""
        ...


def async_backend(client: Any, options: Options) -> AsyncBackend:
    """The backend over this client."""
    kind = kind_of(client)
    if kind == "scripts":
        return AsyncScriptBackend(client, options)
    return AsyncGlideBackend(client, options) if kind == "glide" else AsyncPlainBackend(client, options)


class AsyncScriptBackend:
    """The asyncio clients of redis-py and valkey-py, and clients made like them."""

    __slots__ = ("_options", "_prepare", "_run", "_shards", "_to_the_end", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._options = options
        self._shards = Shards()
        # A cluster's client looks by itself which node has which keys. But redis-py sends commands that are given
        # before then just anywhere, and closes the connections of all where too many of them are sent elsewhere.
        self._prepare = client.initialize if hasattr(client, "nodes_manager") else None
        from retrysafe.persistence._to_the_end import to_the_end  # noqa: PLC0415  # imports asyncio

        self._to_the_end = to_the_end
        self._run = self._by_itself
        if hasattr(client, "connection_pool"):  # a cluster's client has one for each node, and no such pipelines
            from retrysafe.persistence._cache.gathering import Gathering  # noqa: PLC0415  # imports asyncio

            self._run = Gathering(self._by_itself, self._together).run

    async def run(self, command: Command) -> Any:
        """See `AsyncBackend`."""
        try:
            return await (self._to_the_end(self._run_replicated(command)) if command.replicated else self._run(command))
        except Exception as error:
            await close_if_demoted(self.client, error)
            raise explained(error, self._options.where, self._options.password) from error

    async def run_all(self, commands: list[Command]) -> list[Any]:
        """See `AsyncBackend`."""
        return await run_all_async(
            commands, self._options, self.run, lambda several: pipelined_async(self.client, several, self._shards)
        )

    def _by_itself(self, command: Command) -> Coroutine[Any, Any, Any]:
        """A command on a connection of its own. A claim is not given up there: its release could overtake it."""
        return self._to_the_end(self._alone(command)) if command.script is CLAIM else self._alone(command)

    async def _alone(self, command: Command) -> Any:
        script, execute = command.script, self.client.execute_command
        if self._prepare is not None:
            await self._prepare()
        try:
            return await execute("EVALSHA", script.sha, 1, command.key, *command.arguments)
        except Exception as error:
            if not is_unknown_script(error):
                raise
        return await execute("EVAL", script.text, 1, command.key, *command.arguments)

    async def _together(self, commands: list[Command]) -> list[Any]:
        if len(commands) == 1:
            return [await self._alone(commands[0])]
        replies: list[Any]
        try:
            async with self.client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command("EVALSHA", command.script.sha, 1, command.key, *command.arguments)
                replies = await pipeline.execute(raise_on_error=False)
        except UnicodeDecodeError as error:
            replies = [error] * len(commands)  # one record that is no text, and it is not told whose
        for number, reply in enumerate(replies):
            if isinstance(reply, UnicodeDecodeError) or (isinstance(reply, Exception) and is_unknown_script(reply)):
                replies[number] = await self._outcome(commands[number])
        return replies

    async def _outcome(self, command: Command) -> Any:
        try:
            return await self._alone(command)
        except Exception as error:  # noqa: BLE001  # for this command's caller, and nobody else's
            return error

    async def _run_replicated(self, command: Command) -> list[Any]:
        client, key = self.client, command.key
        return await carried_out_async(
            confirmed(command, self._options),
            lambda pair: self.run(seeking(key)) if pair is None else send_pair_async(client, key, pair),
        )


class AsyncGlideBackend:
    """valkey-glide, standalone and cluster. It goes on with the request of a task that was cancelled."""

    __slots__ = ("_batches", "_options", "_scripts", "_shards", "_to_the_end", "client")

    def __init__(self, client: Any, options: Options) -> None:
        from retrysafe.persistence._to_the_end import to_the_end  # noqa: PLC0415  # imports asyncio

        self._to_the_end = to_the_end
        self.client = client
        self._options = options
        self._scripts = GlideScripts(client)
        self._shards = Shards()
        self._batches = GlideBatches(client, self._scripts.module, options.replica_timeout_ms + GLIDE_MARGIN_MS)

    async def run(self, command: Command) -> Any:
        """See `AsyncBackend`."""
        try:
            return await self._to_the_end(self._run_replicated(command) if command.replicated else self._alone(command))
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error

    async def run_all(self, commands: list[Command]) -> list[Any]:
        """See `AsyncBackend`."""
        return await run_all_async(commands, self._options, self.run, self._together)

    async def _alone(self, command: Command) -> Any:
        script = self._scripts.of(command.script)
        return await self.client.invoke_script(script, keys=[command.key], args=list(command.arguments))

    async def _together(self, commands: list[Command]) -> list[Any]:
        return await glide_together_async(self.client, self._scripts, commands, self._shards)

    async def _run_replicated(self, command: Command) -> list[Any]:
        batches, key = self._batches, command.key

        async def send(pair: Pair) -> list[Any]:
            return batches.replies(await batches.send(key, pair))

        return await carried_out_async(
            confirmed(command, self._options), lambda pair: self.run(seeking(key)) if pair is None else send(pair)
        )


class AsyncPlainBackend:
    """Anything whose `get(name)`, `set(name, value, px=, nx=)` and `delete(name)` are to be awaited."""

    __slots__ = ("_calls", "_options", "_to_the_end", "client")

    def __init__(self, client: Any, options: Options) -> None:
        from retrysafe.persistence._to_the_end import to_the_end  # noqa: PLC0415  # imports asyncio

        self._to_the_end = to_the_end
        self.client = client
        self._calls = PlainCalls(client, "glide")
        self._options = options

    async def run(self, command: Plain) -> Any:
        """See `AsyncBackend`."""
        try:
            reply = self._calls.make(command)
            if inspect.isawaitable(reply):
                return await self._to_the_end(_coroutine(reply))
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error
        raise wrong_colour(self.client, asynchronous=False)

    async def run_all(self, commands: list[Plain]) -> list[Any]:
        """See `AsyncBackend`."""
        return [await outcome_async(self.run, command) for command in commands]


async def _coroutine(reply: Awaitable[Any]) -> Any:
    return await reply
