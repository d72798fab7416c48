"""What a cache client raises, as this library's errors: told by class names and by the server's error codes.

No client library is imported for it, so one table serves all of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNREACHABLE: Final = frozenset(
    {
        "BusyLoadingError",
        "CircuitBreakerError",
        "ClosingError",
        "ClusterDownError",
        "ClusterError",
        "ConnectionError",
        "InvalidResponse",
        "MasterNotFoundError",
        "OSError",
        "RedisClusterException",
        "SlaveNotFoundError",
        "SlotNotCoveredError",
        "TimeoutError",
        "TryAgainError",
        "ValkeyClusterException",
    }
)
"""Classes, of which one is among the error's own, for a server that gave no answer or cannot at the moment."""

_KINDS: Final[Mapping[str, tuple[type[IdempotencyBaseError], str]]] = {
    "WRONGTYPE": (IdempotencyPersistenceConsistencyError, "holds something under the key that is no record"),
    "OOM": (IdempotencyPersistenceLayerError, "has no memory left (maxmemory) and took nothing"),
    "NOAUTH": (IdempotencyPersistenceConfigError, "wants a password: give username and password"),
    "WRONGPASS": (IdempotencyPersistenceConfigError, "refuses the username or the password"),
    "NOPERM": (
        IdempotencyPersistenceConfigError,
        "does not permit this user the commands EVALSHA, EVAL, GET, SET, DEL, PEXPIRE, TIME (and WAIT, if it waits)",
    ),
    "READONLY": (IdempotencyPersistenceConnectionError, "is a replica, which takes no writes"),
    "LOADING": (IdempotencyPersistenceConnectionError, "is still loading its data"),
    "MASTERDOWN": (IdempotencyPersistenceConnectionError, "has lost its master"),
    "CLUSTERDOWN": (IdempotencyPersistenceConnectionError, "is down: the cluster does not serve this key"),
    "MOVED": (
        IdempotencyPersistenceConnectionError,
        "has this key on another node; if it says so again and again, it is a cluster: mode='cluster' or +cluster",
    ),
    "ASK": (IdempotencyPersistenceConnectionError, "is moving this key to another node"),
    "TRYAGAIN": (IdempotencyPersistenceConnectionError, "is moving this key to another node"),
    "MISCONF": (IdempotencyPersistenceLayerError, "cannot save to its disk and takes no writes"),
    "NOREPLICAS": (IdempotencyPersistenceConnectionError, "has too few replicas to take writes"),
    "BUSY": (IdempotencyPersistenceConnectionError, "is busy with somebody's script"),
}
"""By the first word of the server's answer."""

_OWN_WORDS: Final[Mapping[str, tuple[type[IdempotencyBaseError], str]]] = {
    "no connection": (
        IdempotencyPersistenceConnectionError,
        "was not asked: all connections that the client may open are busy (max_connections)",
    ),
    "no request": (
        IdempotencyPersistenceConnectionError,
        "was not asked: as many requests are under way as the client may have (inflight_requests_limit)",
    ),
    "no cluster": (IdempotencyPersistenceConfigError, "is not part of a cluster: neither mode='cluster' nor +cluster"),
    "no Sentinel": (IdempotencyPersistenceConfigError, "is no Sentinel: give the server itself, without +sentinel"),
}
"""By a word of our own."""

_BY_NAME: Final[Mapping[str, str]] = {
    # redis-py and valkey-py take the word off for those that they have a class for.
    "AskError": "ASK",
    "AuthenticationError": "WRONGPASS",
    "AuthenticationWrongNumberOfArgsError": "WRONGPASS",
    "AuthorizationError": "NOPERM",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MaxConnectionsError": "no connection",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}

GLIDE_SAYS: Final = "An error was signalled by the server: - "
_GLIDE_WORDS: Final[Mapping[str, str]] = {
    "Ask": "ASK",
    "ClusterDown": "CLUSTERDOWN",
    "Moved": "MOVED",
    "PermissionDenied": "NOPERM",
}
"""valkey-glide spells some of the server's words in its own way."""


_BY_TEXT: Final = (
    # Where the word is missing, or another one says more. HELLO is the first command of a connection.
    ("Authentication required", "NOAUTH"),
    ("HELLO must be called with the client already authenticated", "NOAUTH"),
    ("invalid username-password pair", "WRONGPASS"),
    ("user executing the script can't", "NOPERM"),
    ("ACL failure in script", "NOPERM"),
    ("while the cluster is down", "CLUSTERDOWN"),
    # valkey-glide has words of its own.
    ("BusyLoading", "LOADING"),
    ("ClusterDown:", "CLUSTERDOWN"),
    ("MasterDown:", "MASTERDOWN"),
    ("PermissionDenied:", "NOPERM"),
    ("ReadOnly:", "READONLY"),
    ("TryAgain:", "TRYAGAIN"),
    ("Too many connections", "no connection"),
    ("No connection available", "no connection"),
    ("Reached maximum inflight requests", "no request"),
    ("Cluster mode is not enabled", "no cluster"),
    ("unknown command 'SENTINEL'", "no Sentinel"),
)

_LIBRARIES: Final = ("redis.", "valkey.", "glide")


def shown(error: BaseException, password: str = "") -> str:
    """What the client said, without passwords: some show all options of their connections, those to Sentinels too."""
    said = str(error)
    if password:
        said = said.replace(password, "...")
    return re.sub(r"password=.*?(?=,\w+=|\)>|$)", "password=...", said, flags=re.DOTALL)


def _hide_passwords(error: BaseException, password: str) -> None:
    """Take passwords out of the error itself, and of what it came from: a traceback shows these too.

    It may also have come while the caller handled an error of its own, which is left as it is.
    """
    for each in _chain(error):
        if each is error or type(each).__module__.startswith(_LIBRARIES):
            said = shown(each, password)
            if said != str(each):
                each.args = (said,)


def _denied(error: BaseException) -> BaseException | None:
    """The refusal of a command that the user may not run, where the error came from one."""
    return next((each for each in _chain(error) if type(each).__name__ == "NoPermissionError"), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def explained(error: Exception, where: str, password: str = "") -> Exception:
    """The error to raise instead, to be chained to its cause.

    Args:
        error: What the client raised.
        where: The server, as a person knows it: host and port.
        password: What must not be shown.
    """
    if isinstance(error, IdempotencyBaseError):
        return error
    said = shown(error, password)
    _hide_passwords(error, password)
    if isinstance(error, UnicodeDecodeError):
        return IdempotencyPersistenceConsistencyError("what stands under the key is no text; it is left as it is")
    names = [cls.__name__ for cls in type(error).__mro__]
    word = next((word for text, word in _BY_TEXT if text in said), None)
    word = word or next((_BY_NAME[name] for name in names if name in _BY_NAME), None)
    if word is None:
        found = re.search(r"\b(" + "|".join(_KINDS) + r")\b", said)
        word = found[1] if found else _GLIDE_WORDS.get(said.removeprefix(GLIDE_SAYS).partition(":")[0])
    if word == "no cluster" and (denied := _denied(error)) is not None:
        word, said = "NOPERM", shown(denied, password)  # these clients say so of any refusal of CLUSTER SLOTS
    if word is not None:
        kind, what = (_OWN_WORDS if word in _OWN_WORDS else _KINDS)[word]
        return kind(f"the cache at {where} {what}", said)
    if not _UNREACHABLE.isdisjoint(names):
        return IdempotencyPersistenceConnectionError(f"the cache at {where} cannot be reached or did not answer", said)
    return IdempotencyPersistenceLayerError(f"the cache at {where} refused the command", said)
