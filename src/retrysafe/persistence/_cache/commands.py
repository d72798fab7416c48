"""Records as commands for a cache server and replies as records: pure functions, shared by every client.

Each command is one server-side script, kept in lua/, on one key. The server's clock judges: a command tells how much of
window and lease is left, and the script adds that to the server's time.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, cast

from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.persistence.wire import JsonText, from_attributes

if TYPE_CHECKING:
    from retrysafe.clock import Clock
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.wire import AttributeNames


@cache
def _text(name: str) -> str:
    return files("retrysafe.persistence._cache").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


# Whether texts of numbers are kept: those of one record hardly ever come again.
_NO_TEXTS, _TEXTS = "local texts = nil\n", "local texts = {}\n"


def _for_one(step: str) -> str:
    """The script for its key; what it needs is made where it needs it."""
    return step.replace("-- now\n", _text("now")).replace("-- common\n", _NO_TEXTS + _text("common"))


def _for_many(step: str) -> str:
    """The same script for each of many keys; what it needs is made once."""
    shared = _text("now") + _TEXTS + _text("common")
    step = step.replace("-- now\n", "").replace("-- common\n", "")
    return _text("many").replace("-- shared\n", shared).replace("-- step\n", step)


class Script:
    """A server-side script.

    Args:
        name: Its file's name.
        for_many: Whether it is carried out for each of many keys.

    Attributes:
        name: By what it is told from the others.
        text: What the server runs.
        sha: By what the server knows it once it has run.
        lines: How many lines its first argument has.
    """

    __slots__ = ("_file", "lines", "name", "sha", "text")

    def __init__(self, name: str, *, lines: int = 1, for_many: bool = False) -> None:
        self._file = name
        self.lines = lines
        self.name = f"{name} for many" if for_many else name
        self.text = _for_many(_text(name)) if for_many else _for_one(_text(name))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    @cache  # noqa: B019  # there are six scripts, which live as long as the process
    def for_many(self) -> Script:
        """The same for many keys."""
        return Script(self._file, lines=self.lines, for_many=True)


RECORD_LINES: Final = 5
"""A record to store is as many lines; see lua/common.lua."""

CLAIM: Final = Script("claim", lines=RECORD_LINES)
COMPLETE: Final = Script("complete", lines=RECORD_LINES)
RELEASE: Final = Script("release")
RENEW: Final = Script("renew", lines=RECORD_LINES)
READ: Final = Script("read")
LOCK: Final = Script("lock")

LOCK_SUFFIX: Final = ":lock"
LOCK_VALUE: Final = "retrysafe"
LOCK_MS: Final = 10_000
"""The lock of Powertools workers, which neither compare what they overwrite nor look again once they hold it."""


class Command:
    """One script on one key.

    Args:
        script: The script.
        key: The idempotency key.
        arguments: What the script is told.
        replicated: Whether to wait for replicas; the reply is then a pair, with how many have the write.
    """

    __slots__ = ("arguments", "key", "replicated", "script")

    def __init__(self, script: Script, key: str, arguments: tuple[str, ...], *, replicated: bool = False) -> None:
        self.script = script
        self.key = key
        self.arguments = arguments
        self.replicated = replicated


class Commands:
    """Makes commands of records, and records of replies.

    Args:
        names: What the attributes are called.
        clock: The caller's clock, for records that do not say when their times were set.
    """

    __slots__ = ("_clock", "_json", "_names")

    def __init__(self, names: AttributeNames, clock: Clock) -> None:
        self._names = names
        self._clock = clock
        self._json = JsonText(names)

    def claim(self, record: DataRecord, named: DataRecord | None, *, replicated: bool) -> Command:
        """Claim the key if nothing stands, or exactly the record `named`."""
        arguments: tuple[str, ...] = (self._text(record),)
        if named is not None:
            names = self._names
            arguments += (
                *(names.status, names.in_progress_expiry, names.expiry),
                *(named.stored_status, named.owner or "", str(named.attempt)),
                *(_number(named.in_progress_expiry_timestamp), _number(named.expiry_timestamp)),
            )
        return Command(CLAIM, record.idempotency_key, arguments, replicated=replicated)

    def lock(self, record: DataRecord) -> Command:
        """Keep Powertools workers from taking the key over at the same moment."""
        return Command(LOCK, record.idempotency_key + LOCK_SUFFIX, (LOCK_VALUE, str(LOCK_MS)))

    def complete(self, record: DataRecord, *, replicated: bool) -> Command:
        """Store the outcome, if the owner is still the same."""
        arguments = (self._text(record), record.owner or "")
        return Command(COMPLETE, record.idempotency_key, arguments, replicated=replicated)

    def renew(self, record: DataRecord, *, replicated: bool) -> Command:
        """Move window and lease on, if the owner is still the same."""
        arguments = (self._text(record), record.owner or "", self._names.status)
        return Command(RENEW, record.idempotency_key, arguments, replicated=replicated)

    def release(self, record: DataRecord) -> Command:
        """Remove the claim, if the owner is still the same."""
        return Command(RELEASE, record.idempotency_key, (record.owner or "", self._names.status))

    def undo(self, claim: DataRecord) -> Command:
        """Give a claim back that nothing ran for.

        One that has taken over from a run that never ended lapses, instead of being removed with all that the record
        tells about that run.
        """
        if claim.replaces is None:
            return self.release(claim)
        made_at = self._clock.now_ms() if claim.made_at_ms is None else claim.made_at_ms
        return self.renew(
            claim.replaced(in_progress_expiry_timestamp=made_at - 1, made_at_ms=made_at), replicated=False
        )

    def read(self, idempotency_key: str) -> Command:
        """Look what stands."""
        return Command(READ, idempotency_key, ())

    def standing(self, idempotency_key: str, reply: str | bytes) -> DataRecord | None:
        """The record of a reply that tells the time and, on the next line, what stands; None without that line.

        Raises:
            IdempotencyPersistenceConsistencyError: It cannot be read.
        """
        now_ms, stands, text = (reply if isinstance(reply, str) else _decoded(idempotency_key, reply)).partition("\n")
        if not stands:
            return None
        record = read_record(idempotency_key, text, self._names)
        record.read_at_ms = int(now_ms)
        return record

    def _text(self, record: DataRecord) -> str:
        """The record as the scripts take one: how much is left of its times, and its text with gaps for them."""
        made_at = record.made_at_ms
        if made_at is None:
            made_at = self._clock.now_ms()
        window_end, lease_end = record.expiry_timestamp, record.in_progress_expiry_timestamp
        window_left = "" if window_end is None else window_end * 1000 - made_at
        lease_left = "" if lease_end is None else lease_end - made_at
        before, between, after = self._json.parts(record)
        return f"{window_left}\n{lease_left}\n{before}\n{between}\n{after}"


_JSON: Final = json.JSONDecoder()


def read_record(idempotency_key: str, text: str | bytes, names: AttributeNames) -> DataRecord:
    """The record that a cache holds as this text.

    Raises:
        IdempotencyPersistenceConsistencyError: It is none; its text is not repeated, as it may be private.
    """
    if not isinstance(text, str):
        text = _decoded(idempotency_key, text)
    attributes: Any
    try:
        # As `json.loads`, without its search for white space around the value, of which none of the peers writes any.
        attributes, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        raise unreadable(idempotency_key) from None
    if type(attributes) is not dict or end != len(text):
        raise unreadable(idempotency_key)
    return from_attributes(idempotency_key, cast("dict[str, Any]", attributes), names)


def _decoded(idempotency_key: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise unreadable(idempotency_key) from None


def unreadable(idempotency_key: str) -> IdempotencyPersistenceConsistencyError:
    """What stands under the key is no record."""
    return IdempotencyPersistenceConsistencyError(
        f"what stands under {idempotency_key} is no record that can be read; it is left as it is"
    )


def _number(value: int | None) -> str:
    return "" if value is None else str(value)
