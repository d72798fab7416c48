"""Every kind of cache client behind one coroutine, `run(command)`: the twins of `_cache_clients`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from retrysafe.persistence._cache_clients import GLIDE_MARGIN_MS, GlideScripts, Options, PlainCalls, kind_of
from retrysafe.persistence._cache_errors import explained
from retrysafe.persistence._cache_replicas import (
    GlideBatches,
    carry_out_async,
    confirmed,
    is_unknown_script,
    seeking,
    send_pair_async,
)

if TYPE_CHECKING:
    from retrysafe.persistence._cache_commands import Command
    from retrysafe.persistence._cache_plain import Plain
    from retrysafe.persistence._cache_replicas import Pair


class AsyncBackend(Protocol):
    """A client, as the layer uses it."""

    client: Any

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

    __slots__ = ("_execute", "_options", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
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
        client, key = self.client, command.key
        return await carry_out_async(
            confirmed(command, self._options),
            lambda pair: send_pair_async(client, key, pair),
            lambda: self.run(seeking(key)),
        )


class AsyncGlideBackend:
    """valkey-glide, standalone and cluster."""

    __slots__ = ("_batches", "_options", "_scripts", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._options = options
        self._scripts = GlideScripts(client)
        self._batches = GlideBatches(client, self._scripts.module, options.replica_timeout_ms + GLIDE_MARGIN_MS)

    async def run(self, command: Command) -> Any:
        """See `AsyncBackend`."""
        try:
            if command.replicated:
                return await self._run_replicated(command)
            return await self.client.invoke_script(
                self._scripts.of(command.script), keys=[command.key], args=list(command.arguments)
            )
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error

    async def _run_replicated(self, command: Command) -> list[Any]:
        batches, key = self._batches, command.key

        async def send(pair: Pair) -> list[Any]:
            return batches.replies(await batches.send(key, pair))

        return await carry_out_async(
            confirmed(command, self._options),
            send,
            lambda: self.run(seeking(key)),
        )


class AsyncPlainBackend:
    """Anything with the coroutines `get(name)`, `set(name, value, px=, nx=)` and `delete(name)`."""

    __slots__ = ("_calls", "_options", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._calls = PlainCalls(client)
        self._options = options

    async def run(self, command: Plain) -> Any:
        """See `AsyncBackend`."""
        try:
            return await self._calls.make(command)
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error
