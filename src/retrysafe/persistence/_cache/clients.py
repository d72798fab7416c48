"""Every kind of cache client behind one method, `run(command)`, for synchronous callers; and what kind a client is.

| kind | told by | carries out |
|---|---|---|
| redis-py, valkey-py (Sentinel, Cluster too), and what is made like them | `execute_command`, `evalsha` | scripts |
| valkey-glide | `invoke_script` | scripts |
| anything else with `get`, `set`, `delete` | | plain commands |
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final, Literal

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.inspecting import signature_of
from retrysafe.persistence._cache.backends import GlideScripts
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence._cache.interruptions import close_if_interrupted
from retrysafe.persistence._cache.one_address import Shards
from retrysafe.persistence._cache.pipelines import glide_together, pipelined, run_all
from retrysafe.persistence._cache.replicas import (
    GlideBatches,
    confirmed,
    is_unknown_script,
    seeking,
    send_pair,
)
from retrysafe.persistence._courses import carried_out
from retrysafe.persistence.many import outcome

if TYPE_CHECKING:
    from retrysafe.persistence._cache.backends import Backend, Options
    from retrysafe.persistence._cache.commands import Command
    from retrysafe.persistence._cache.plain import Plain

Kind = Literal["scripts", "glide", "plain"]

PLAIN_METHODS: Final = ("get", "set", "delete")

_ASYNC_MODULES: Final = ("redis.asyncio.", "valkey.asyncio.")

GLIDE_MARGIN_MS: Final = 250
"""What valkey-glide is given on top of WAIT's own time; as long as it waits for a reply by default."""


def kind_of(client: Any) -> Kind:
    """What the client can do.

    Raises:
        IdempotencyPersistenceConfigError: It is no client.
    """
    if isinstance(client, type):
        raise IdempotencyPersistenceConfigError(f"client={client.__name__} is a class: pass an object of it")
    if hasattr(client, "execute_command") and hasattr(client, "evalsha"):
        if not _takes_words(client.execute_command):
            library = type(client).__module__.partition(".")[0]
            raise IdempotencyPersistenceConfigError(
                f"client={type(client).__name__} of {library} takes commands in a form of its own: "
                "pass a client of redis-py, valkey-py or valkey-glide"
            )
        return "scripts"
    if hasattr(client, "invoke_script"):
        return "glide"
    missing = [name for name in PLAIN_METHODS if not callable(getattr(client, name, None))]
    if missing:
        hint = ""
        if hasattr(client, "master_for"):
            hint = "; of a Sentinel, pass what master_for(...) gives"
        raise IdempotencyPersistenceConfigError(
            f"client={type(client).__name__} is no cache client: it has no {', '.join(missing)}{hint}"
        )
    return "plain"


def _takes_words(method: Any) -> bool:
    """Whether it takes a command as words, however many; also where it does not tell."""
    try:
        parameters = signature_of(method).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(each.kind is each.VAR_POSITIONAL for each in parameters)


def is_async_client(client: Any) -> bool | None:
    """Whether the client's methods are to be awaited; None where only their replies tell.

    A plain function may give what is to be awaited, as `get` of redis-py's client for asyncio does, and as a subclass
    may that traces what goes through `execute_command`.
    """
    if any(cls.__module__.startswith(_ASYNC_MODULES) for cls in type(client).__mro__):
        return True
    method = next(
        getattr(client, name) for name in ("execute_command", "invoke_script", "get") if hasattr(client, name)
    )
    is_async = inspect.iscoroutinefunction(inspect.unwrap(method))
    return None if not is_async and kind_of(client) == "plain" else is_async


def wrong_colour(client: Any, *, asynchronous: bool) -> IdempotencyPersistenceConfigError:
    """The refusal of a client that is asynchronous, or is not, by a layer of the other kind."""
    is_what = (
        "asynchronous: use AsyncCachePersistenceLayer" if asynchronous else "synchronous: use CachePersistenceLayer"
    )
    return IdempotencyPersistenceConfigError(f"client={type(client).__name__} is {is_what}")


def sync_backend(client: Any, options: Options) -> Backend:
    """The backend over this client."""
    kind = kind_of(client)
    if kind == "scripts":
        return ScriptBackend(client, options)
    return GlideBackend(client, options) if kind == "glide" else PlainBackend(client, options)


class ScriptBackend:
    """redis-py, valkey-py, and clients made like them."""

    __slots__ = ("_options", "_shards", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._options = options
        self._shards = Shards()

    def run(self, command: Command) -> Any:
        """See `Backend`."""
        script = command.script
        try:
            if command.replicated:
                return self._run_replicated(command)
            try:
                return self.client.execute_command("EVALSHA", script.sha, 1, command.key, *command.arguments)
            except Exception as error:
                if not is_unknown_script(error):
                    raise
            return self.client.execute_command("EVAL", script.text, 1, command.key, *command.arguments)
        except Exception as error:
            close_if_interrupted(self.client, error)
            raise explained(error, self._options.where, self._options.password) from error
        except BaseException as error:
            close_if_interrupted(self.client, error)
            raise

    def run_all(self, commands: list[Command]) -> list[Any]:
        """See `Backend`."""
        return run_all(commands, self._options, self.run, lambda several: pipelined(self.client, several, self._shards))

    def _run_replicated(self, command: Command) -> list[Any]:
        client, key = self.client, command.key
        return carried_out(
            confirmed(command, self._options),
            lambda pair: self.run(seeking(key)) if pair is None else send_pair(client, key, pair),
        )


class GlideBackend:
    """valkey-glide-sync, standalone and cluster."""

    __slots__ = ("_batches", "_options", "_scripts", "_shards", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._options = options
        self._scripts = GlideScripts(client)
        self._shards = Shards()
        self._batches = GlideBatches(client, self._scripts.module, options.replica_timeout_ms + GLIDE_MARGIN_MS)

    def run(self, command: Command) -> Any:
        """See `Backend`."""
        try:
            if command.replicated:
                return self._run_replicated(command)
            return self.client.invoke_script(
                self._scripts.of(command.script), keys=[command.key], args=list(command.arguments)
            )
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error

    def run_all(self, commands: list[Command]) -> list[Any]:
        """See `Backend`."""
        return run_all(commands, self._options, self.run, self._together)

    def _together(self, commands: list[Command]) -> list[Any]:
        return glide_together(self.client, self._scripts, commands, self._shards)

    def _run_replicated(self, command: Command) -> list[Any]:
        batches, key = self._batches, command.key
        return carried_out(
            confirmed(command, self._options),
            lambda pair: self.run(seeking(key)) if pair is None else batches.replies(batches.send(key, pair)),
        )


class PlainBackend:
    """Anything with `get(name)`, `set(name, value, px=, nx=)` and `delete(name)`, or with valkey-glide's arguments.

    A `set` that has `ex=` and no `px=` will do.
    """

    __slots__ = ("_calls", "_options", "client")

    def __init__(self, client: Any, options: Options) -> None:
        self.client = client
        self._calls = PlainCalls(client, "glide_sync")
        self._options = options

    def run(self, command: Plain) -> Any:
        """See `Backend`."""
        try:
            reply = self._calls.make(command)
        except Exception as error:
            raise explained(error, self._options.where, self._options.password) from error
        if inspect.isawaitable(reply):
            # Taken for a reply it would be a claim that got through, and nothing was sent.
            if inspect.iscoroutine(reply):
                reply.close()
            raise wrong_colour(self.client, asynchronous=True)
        return reply

    def run_all(self, commands: list[Plain]) -> list[Any]:
        """See `Backend`."""
        return [outcome(self.run, command) for command in commands]


class PlainCalls:
    """The calls of a plain client, in the style that its `set` shows.

    Args:
        client: The client.
        glide: The module of valkey-glide whose arguments it takes, if it takes those.
    """

    __slots__ = ("_client", "_glide", "_takes_seconds")

    def __init__(self, client: Any, glide: str) -> None:
        self._client = client
        self._glide = None
        self._takes_seconds = False
        try:
            parameters = signature_of(client.set).parameters
        except (TypeError, ValueError):
            return
        # Fakes that were written for Powertools know no other time.
        self._takes_seconds = (
            "ex" in parameters
            and "px" not in parameters
            and not any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        )
        if "conditional_set" in parameters:
            self._glide = importlib.import_module(glide)

    def make(self, command: Plain) -> Any:
        """Call the client: its reply, or what is to be awaited for it."""
        client, glide = self._client, self._glide
        if command.name == "get":
            return client.get(command.key)
        if command.name == "delete":
            return client.delete(command.key) if glide is None else client.delete([command.key])
        if glide is None:
            times = {} if command.px is None else {"px": command.px}
            if times and self._takes_seconds:
                times = {"ex": -(-times["px"] // 1000)}
            return client.set(command.key, command.value, **times, **({"nx": True} if command.nx else {}))
        return client.set(
            command.key,
            command.value,
            conditional_set=glide.ConditionalChange.ONLY_IF_DOES_NOT_EXIST if command.nx else None,
            expiry=None if command.px is None else glide.ExpirySet(glide.ExpiryType.MILLSEC, command.px),
        )
