"""Every kind of cache client behind one coroutine, `run(command)`: the twins of `_cache_clients`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from retrysafe.persistence._cache_clients import GlideScripts, Options, PlainCalls, is_unknown_script, kind_of
from retrysafe.persistence._cache_errors import explained

if TYPE_CHECKING:
    from retrysafe.persistence._cache_commands import Command
    from retrysafe.persistence._cache_plain import Plain


class AsyncBackend(Protocol):
    """A client, as the layer uses it."""

    async def run(self, command: Any) -> Any:
        """Carry out a command: one round trip. Raises this library's errors."""
        ...


def async_backend(client: Any, options: Options) -> AsyncBackend:
    """The backend over this client."""
    kind = kind_of(client)
    if kind == "scripts":
        return AsyncScriptBackend(client, options)
    return AsyncGlideBackend(client, options) if kind == "glide" else AsyncPlainBackend(client, options)


class AsyncScriptBackend:
    """The asyncio clients of redis-py and valkey-py, and clients made like them."""

    __slots__ = ("_client", "_execute", "_options")

    def __init__(self, client: Any, options: Options) -> None:
        self._client = client
        self._execute = client.execute_command
        self._options = options

    async def run(self, command: Command) -> Any:
        """See `AsyncBackend`."""
        script = command.script
        try:
            if command.replicated:
                return await self._run_replicated(command)
            try:
                return await self._execute("EVALSHA", script.sha, 1, command.key, *command.arguments)
            except Exception as error:
                if not is_unknown_script(error):
                    raise
            return await self._execute("EVAL", script.text, 1, command.key, *command.arguments)
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error

    async def _run_replicated(self, command: Command) -> list[Any]:
        # WAIT counts what its own connection has written; a pipeline has one, and makes both one round trip.
        script = command.script
        replies: list[Any] = []
        for name, body in (("EVALSHA", script.sha), ("EVAL", script.text)):
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.execute_command(name, body, 1, command.key, *command.arguments)
                pipeline.execute_command("WAIT", self._options.min_replicas, self._options.replica_timeout_ms)
                replies = await pipeline.execute(raise_on_error=False)
            if not (isinstance(replies[0], Exception) and is_unknown_script(replies[0])):
                break
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


class AsyncGlideBackend:
    """valkey-glide, standalone and cluster."""

    __slots__ = ("_client", "_options", "_scripts")

    def __init__(self, client: Any, options: Options) -> None:
        self._client = client
        self._options = options
        self._scripts = GlideScripts(client)

    async def run(self, command: Command) -> Any:
        """See `AsyncBackend`."""
        try:
            reply = await self._client.invoke_script(
                self._scripts.of(command.script), keys=[command.key], args=list(command.arguments)
            )
            if not command.replicated:
                return reply
            # One connection to each node carries all commands, so WAIT counts this write.
            return [reply, await self._client.wait(*self._scripts.wait_arguments(command.key, self._options))]
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error


class AsyncPlainBackend:
    """Anything with the coroutines `get(name)`, `set(name, value, px=, nx=)` and `delete(name)`."""

    __slots__ = ("_calls", "_options")

    def __init__(self, client: Any, options: Options) -> None:
        self._calls = PlainCalls(client)
        self._options = options

    async def run(self, command: Plain) -> Any:
        """See `AsyncBackend`."""
        try:
            return await self._calls.make(command)
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error
