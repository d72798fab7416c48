"""How `check()` asks the servers: one course for all clients, which a sync and an async layer carry out.

Each master of a cluster is asked. A server that refuses a question is a finding; one that is not reached is an error.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceConnectionError
from retrysafe.persistence._cache.backends import glide_of
from retrysafe.persistence._cache.check import CacheFinding, fields, judged
from retrysafe.persistence._cache.clients import is_async_client, kind_of
from retrysafe.persistence._cache.commands import Command, Script
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence._cache.interruptions import unbroken
from retrysafe.persistence._cache.plain import CANNOT_KEEP
from retrysafe.persistence._cache.replicas import is_cluster, is_glide_cluster
from retrysafe.persistence._courses import carried_out, carried_out_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.persistence._cache.backends import Options
    from retrysafe.persistence._cache.clients import Kind

Question: TypeAlias = "tuple[Any, ...] | Command | None"
"""A server with a command for it; the probing script, for any server; None, for the servers to ask."""

Asking: TypeAlias = Generator[Question, Any, list[CacheFinding]]

NEEDED: Final = ("GET", "SET", "PEXPIRE", "DEL", "TIME", "PUBLISH")
"""What the scripts run; the last one they can do without."""


_TEACHING: Final = {"scripts": ("EVAL", "return(1)", 0), "glide": ("SCRIPT LOAD", "return(1)")}
"""By kind of client: what teaches a server a script, which one that has been started anew has to be."""


def asking(options: Options, kind: Kind) -> Asking:
    """What is asked, and what was found. An answer may be an error."""
    where = options.where
    if kind == "plain":
        hidden = "INFO cannot be asked for: all else that may be wrong is not known"
        return [CacheFinding("plain_client", CANNOT_KEEP, where), CacheFinding("not_known", hidden, where)]
    found: list[CacheFinding] = []
    servers = yield None
    if isinstance(servers, Exception):
        return [CacheFinding("not_known", f"the cluster's nodes cannot be found out: {servers}", where)]
    for server in servers:
        at = where if server is None else _name_of(server)
        info = yield (server, "INFO")
        if isinstance(info, Exception):
            message = f"INFO is refused, so what the server may lose cannot be found out: {info}"
            found.append(CacheFinding("not_known", message, at))
        else:
            known = fields(info)
            found += judged(at, known, (yield from _config(server)), min_replicas=options.min_replicas)
        if options.min_replicas:
            reply = yield (server, "WAIT", 0, 1)
            if isinstance(reply, Exception):
                found.append(CacheFinding("not_permitted", f"WAIT, which min_replicas needs, is refused: {reply}", at))
    found += yield from _probe(where, _TEACHING[kind])
    return found


def _config(server: Any) -> Generator[Question, Any, dict[str, str] | None]:
    """What only CONFIG tells; None where it is refused, as managed services do."""
    known: dict[str, str] = {}
    for name in ("appendfsync", "save"):
        reply = yield (server, "CONFIG GET", name)
        if isinstance(reply, Exception):
            return None
        known |= fields(reply)
    return known


def _probe(where: str, teaching: tuple[Any, ...]) -> Asking:
    """Whether the user may run what the scripts run, by doing it on a key that nobody else has."""
    command = Command(Script("probe"), f"retrysafe:check:{os.urandom(8).hex()}", NEEDED)
    reply = yield command
    if isinstance(reply, IdempotencyPersistenceConfigError) and "access" not in reply.details:
        return [CacheFinding("not_permitted", str(reply), where)]
    if isinstance(reply, Exception):
        return [
            CacheFinding("not_known", f"whether the user may run what is needed cannot be tried out: {reply}", where)
        ]
    found: list[CacheFinding] = []
    refused = [name.decode() if isinstance(name, bytes) else str(name) for name in reply]
    if needed := [name for name in refused if name != "PUBLISH"]:
        message = f"the user may not run {', '.join(needed)}: every call is refused"
        found.append(CacheFinding("not_permitted", message, where))
    elif "PUBLISH" in refused:
        message = "the user may not PUBLISH to retrysafe:*, so calls that wait for another have to look for themselves"
        found.append(CacheFinding("not_told", message, where))
    # The server may have known the script that tried it out.
    reply = yield (None, *teaching)
    if isinstance(reply, IdempotencyPersistenceConfigError):
        message = f"the user may not run {teaching[0]}: every call is refused once the server has been started anew"
        found.append(CacheFinding("not_permitted", message, where))
    return found


def _name_of(server: Any) -> str:
    return server if isinstance(server, str) else f"{server.host}:{server.port}"


# --- who asks -----------------------------------------------------------------------------------------------------


class Asker:
    """Puts the questions to a client. Its methods give the answer, or what is to be awaited for it.

    Args:
        client: The client.
        run: What carries out a script.
        options: The layer's.
    """

    __slots__ = ("_cluster", "_kind", "_run", "client", "options")

    def __init__(self, client: Any, run: Callable[[Command], Any], options: Options) -> None:
        self.client = client
        self._run = run
        self.options = options
        self._kind: Kind = kind_of(client)
        self._cluster = is_cluster(client) or is_glide_cluster(client)

    def course(self) -> Asking:
        """What to ask this client."""
        return asking(self.options, self._kind)

    def answer(self, question: Question) -> Any:
        """Ask."""
        if question is None:
            return self._servers()
        if isinstance(question, Command):
            return self._run(question)
        server, *command = question
        if self._kind == "scripts":
            return self.client.execute_command(*command, **({} if server is None else {"target_nodes": server}))
        words = " ".join(map(str, command)).split(" ")
        if server is None:
            return self.client.custom_command(words)
        host, _, port = server.rpartition(":")
        return self.client.custom_command(words, glide_of(self.client).ByAddressRoute(host, int(port)))

    def heard(self, question: Question, answer: Any) -> Any:
        """The answer as the course wants it."""
        if question is not None:
            return answer
        if not self._cluster:
            return [None]
        if self._kind == "scripts":
            return self.client.get_primaries()
        return [address.decode() for address in cast("dict[bytes, bytes]", answer)]

    def failed(self, error: Exception) -> Exception:
        """The error as an answer.

        Raises:
            IdempotencyPersistenceConnectionError: The server cannot be reached.
        """
        told = explained(error, self.options.where, self.options.password)
        if isinstance(told, IdempotencyPersistenceConnectionError):
            raise told from error
        return told

    def _servers(self) -> Any:
        if not self._cluster:
            return None
        if self._kind == "glide":
            return self.client.custom_command(["INFO", "server"], glide_of(self.client).AllPrimaries())
        return self.client.initialize() if is_async_client(self.client) else None  # the others know them by now


def ask(asker: Asker) -> list[CacheFinding]:
    """Carry the course out."""

    def answer(question: Question) -> Any:
        try:
            return asker.heard(question, unbroken(asker.client, asker.answer, question))
        except Exception as error:  # noqa: BLE001  # becomes an answer
            return asker.failed(error)

    return carried_out(asker.course(), answer)


async def ask_async(asker: Asker) -> list[CacheFinding]:
    """Carry the course out, awaiting the answers."""

    async def answer(question: Question) -> Any:
        try:
            given = asker.answer(question)
            return asker.heard(question, await given if hasattr(given, "__await__") else given)
        except Exception as error:  # noqa: BLE001  # becomes an answer
            return asker.failed(error)

    return await carried_out_async(asker.course(), answer)
