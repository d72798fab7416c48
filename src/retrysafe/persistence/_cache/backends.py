"""What a cache client of any kind becomes, a `Backend`; what that is told beside its client; valkey-glide's scripts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from retrysafe.persistence._cache.commands import Script


class Backend(Protocol):
    """A client, as the layer uses it."""

    client: Any

    def run(self, command: Any) -> Any:
        """Carry out a command: one round trip. Raises this library's errors."""
        ...

    def run_all(self, commands: list[Any]) -> list[Any]:
        """Carry out many, in few round trips: the reply to each, or the error that `run` would raise."""
        ...


class Options:
    """What a backend is told beside its client.

    Args:
        where: Host and port, for errors.
        password: What errors must not show.
        min_replicas: For how many replicas a replicated command waits.
        replica_timeout_ms: For how long it waits, in milliseconds.
    """

    __slots__ = ("min_replicas", "password", "replica_timeout_ms", "where")

    def __init__(self, where: str, password: str, min_replicas: int, replica_timeout_ms: int) -> None:
        self.where = where
        self.password = password
        self.min_replicas = min_replicas
        self.replica_timeout_ms = replica_timeout_ms


def glide_of(client: Any) -> Any:
    """The library of a client of valkey-glide, or of a class derived from one: `glide` or `glide_sync`."""
    names = (cls.__module__.partition(".")[0] for cls in type(client).__mro__)
    return importlib.import_module(next(name for name in names if name in ("glide", "glide_sync")))


class GlideScripts:
    """Scripts as valkey-glide's own objects, each made once.

    Attributes:
        module: The library, `glide` or `glide_sync`.
    """

    __slots__ = ("_made", "module")

    def __init__(self, client: Any) -> None:
        self.module = glide_of(client)
        self._made: dict[str, Any] = {}

    def of(self, script: Script) -> Any:
        """The client library's object for the script."""
        made = self._made.get(script.name)
        if made is None:
            made = self._made[script.name] = self.module.Script(script.text)
        return made
