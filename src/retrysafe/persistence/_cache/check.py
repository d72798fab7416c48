"""What a cache may lose or refuse, read from what its servers say about themselves: pure, no I/O.

| code | means |
|---|---|
| `plain_client` | the client has only get, set and delete, so that a late call can overwrite a later one's record |
| `version` | the server is older than what the scripts are made for |
| `not_a_master` | the server is a replica, which takes no writes |
| `evicting` | `maxmemory-policy` lets the server throw records away when memory is short |
| `memory_full` | `maxmemory` is reached: new claims are refused, or records thrown away |
| `no_persistence` | nothing is written to a disk: a restart forgets every record |
| `snapshots_only` | a restart forgets what was written since the last snapshot |
| `delayed_fsync` | the loss of power forgets the last second or more |
| `disk_failing` | the server could not write its file |
| `asynchronous_replicas` | a failover can forget what was acknowledged; `min_replicas` is 0 |
| `unconfirmed_replicas` | the same, where a replica that need not have confirmed becomes the master |
| `too_few_replicas` | fewer replicas than `min_replicas`: every claim is refused |
| `not_permitted` | the user may not run a command that is needed |
| `not_told` | the user may not publish, so waiting calls have to look for themselves |
| `not_known` | the server does not tell, so the above may be so |
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST_REDIS: Final = (6, 2)

Found: TypeAlias = "list[tuple[str, str]]"
"""Codes and messages."""


class CacheFinding:
    """One thing that `check()` found.

    Attributes:
        code: What it is, for programs; docs/cache.md has all codes.
        message: What it means and what to do, for people.
        where: Host and port of the server, or what is known of it.
    """

    __slots__ = ("code", "message", "where")

    def __init__(self, code: str, message: str, where: str) -> None:
        self.code = code
        self.message = message
        self.where = where

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CacheFinding):
            return NotImplemented
        return (self.code, self.message, self.where) == (other.code, other.message, other.where)

    def __hash__(self) -> int:
        return hash((self.code, self.message, self.where))

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"

    def __repr__(self) -> str:
        return f"CacheFinding({self.code!r}, {self.message!r}, {self.where!r})"


def fields(reply: Any) -> dict[str, str]:
    """The reply of INFO or CONFIG GET as names and values: a text, or what a client makes of it."""
    if isinstance(reply, bytes | str):
        lines = _text(reply).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
    if isinstance(reply, list | tuple):
        flat = cast("list[Any]", reply)
        return {_text(name): _text(value) for name, value in zip(flat[::2], flat[1::2], strict=False)}
    return {_text(name): _text(value) for name, value in _items(reply)}


def judged(
    where: str, info: Mapping[str, str], config: Mapping[str, str] | None, *, min_replicas: int
) -> list[CacheFinding]:
    """What one server's INFO and CONFIG tell.

    Args:
        where: The server.
        info: Its INFO.
        config: `appendfsync` and `save`; None where it does not tell them.
        min_replicas: What the layer is set to.
    """
    found = [
        *_version(info),
        *_role(info),
        *_memory(info),
        *_persistence(info, config),
        *_replication(info, min_replicas),
    ]
    return [CacheFinding(code, message, where) for code, message in found]


def _version(info: Mapping[str, str]) -> Found:
    if "valkey_version" in info:  # the first Valkey is newer than the oldest Redis
        return []
    version = info.get("redis_version", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return [("not_known", "INFO names no version")]
    if (int(numbers[1]), int(numbers[2])) >= OLDEST_REDIS:
        return []
    return [("version", f"Redis {version} is too old: it must be 6.2 or newer")]


def _role(info: Mapping[str, str]) -> Found:
    role = info.get("role")
    if role == "master":
        return []
    if role is None:
        return [("not_known", "INFO does not tell whether this is a master and what follows it")]
    return [("not_a_master", "this is a replica, which takes no writes: connect to its master")]


def _memory(info: Mapping[str, str]) -> Found:
    policy, limit = info.get("maxmemory_policy"), _number(info, "maxmemory")
    if policy is None or limit is None:
        return [("not_known", "INFO does not tell maxmemory and maxmemory-policy: records may be evicted")]
    found: Found = []
    full = "records are thrown away"
    if policy == "noeviction":
        full = "new claims are refused"
    else:
        when = f"once memory is short (maxmemory={limit})" if limit else "once a maxmemory is set (there is none now)"
        found.append(
            ("evicting", f"maxmemory-policy is {policy}: {when}, records are thrown away unseen; set noeviction")
        )
    if limit and (_number(info, "used_memory") or 0) >= limit:
        found.append(("memory_full", f"maxmemory={limit} is reached: {full}"))
    return found


def _persistence(info: Mapping[str, str], config: Mapping[str, str] | None) -> Found:
    found: Found = []
    for name in ("aof_last_write_status", "rdb_last_bgsave_status"):
        if info.get(name, "ok") != "ok":
            found.append(("disk_failing", f"{name} is {info[name]}: the server could not write its file"))
    log = info.get("aof_enabled")
    if log is None:
        return [*found, ("not_known", "INFO does not tell about persistence: a restart may forget records")]
    if log == "0":
        if config is None:
            message = "appendonly is no, and CONFIG is refused: a restart forgets all or what no snapshot has"
            return [*found, ("no_persistence", message)]
        if config.get("save"):
            message = f"appendonly is no: a restart forgets what was written since the last snapshot ({config['save']})"
            return [*found, ("snapshots_only", message)]
        return [*found, ("no_persistence", "appendonly is no, and no snapshots are taken: a restart forgets all")]
    if config is None or "appendfsync" not in config:
        return [*found, ("not_known", "CONFIG is refused: appendfsync may be other than always")]
    fsync = config["appendfsync"]
    if fsync != "always":
        lost = "about the last second" if fsync == "everysec" else "as much as the system has not written yet"
        found.append(("delayed_fsync", f"appendfsync is {fsync}: the loss of power forgets {lost}"))
    return found


def _replication(info: Mapping[str, str], min_replicas: int) -> Found:
    if info.get("role") != "master":
        return []
    online = sum(",state=online" in value for value in _replicas(info))
    attached = max(_number(info, "connected_slaves") or 0, online)
    if min_replicas > online:
        message = f"min_replicas={min_replicas}, and {online} replicas follow: every claim is refused"
        return [("too_few_replicas", message)]
    if attached and not min_replicas:
        message = (
            f"{attached} replicas follow asynchronously: a failover can forget claims and answers that were "
            "acknowledged; set min_replicas"
        )
        return [("asynchronous_replicas", message)]
    if attached > min_replicas:
        message = (
            f"{attached} replicas follow, and min_replicas={min_replicas}: if another one than those that confirmed "
            f"becomes the master, what was acknowledged is forgotten; set min_replicas={attached}"
        )
        return [("unconfirmed_replicas", message)]
    return []


def _replicas(info: Mapping[str, str]) -> list[str]:
    """One text for each replica: `ip=..,port=..,state=online,..`, or the dict that a client makes of it."""
    return ["," + value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]


def _number(info: Mapping[str, str], name: str) -> int | None:
    value = info.get(name, "")
    return int(value) if value.isdecimal() else None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{_text(name)}={_text(part)}" for name, part in _items(value))
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _items(pairs: Any) -> list[tuple[Any, Any]]:
    return list(cast("Mapping[Any, Any]", pairs).items())
