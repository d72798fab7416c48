"""The SQLite layer: records in a file, shared by any number of threads and processes of one machine.

It needs no server and nothing that Python does not bring along. What a power failure can do depends on
`synchronous`:

- `"full"`: what was acknowledged is on the disk. A claim or an answer survives the loss of power.
- `"normal"`: survives the death of the process. The loss of power can undo the last moments, so that work
  done in them is run again by a retry.
- `"off"`: as `"normal"`, and the loss of power can damage the file. For tests, and for records of little
  worth.

The file must stand on a local disk: SQLite's write-ahead log does not work across machines. To look inside,
use the `sqlite3` tool; the columns have the names of the record's attributes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence._shared_reads import AsyncSharedReads
from retrysafe.persistence._sqlite.batches import for_each
from retrysafe.persistence._sqlite.connections import Connections
from retrysafe.persistence._sqlite.errors import UnstorableValueError
from retrysafe.persistence._sqlite.opening import Synchronous, check_library
from retrysafe.persistence._sqlite.schema import DEFAULT_TABLE, check_table_name, prepare_table
from retrysafe.persistence._sqlite.statements import Statements, record_of
from retrysafe.persistence._urls import looks_like_url, shown_in_place_of
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.clock import Clock
    from retrysafe.persistence._sqlite.statements import Command
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

# Of how many writes one is followed by a sweep, and how many records that deletes at most. A call makes two
# writes and leaves one record, so sweeping keeps ahead.
_SWEEP_EVERY: Final = 64
_SWEEP_LIMIT: Final = 100

# How often a claim is tried while others write and remove the same record between its look and its write.
_CLAIM_ROUNDS: Final = 10

# What SQLite takes as an integer.
_LONGEST_SWEEP: Final = 2**63 - 1

# SQLite counts in milliseconds, in an int.
_LONGEST_TIMEOUT_SECONDS: Final = 2_147_483


class SQLitePersistenceLayer(BasePersistenceLayer):
    """Records in an SQLite file, for synchronous callers.

    A first call costs one read and two writes, a replay one read and no lock. Expired records are deleted in
    small steps while others are written. The file can hold other tables. It must not be removed while it is
    in use.

    The layer may be made before a fork; each process opens the file for itself.

    Args:
        path: The file. It is created if it does not exist; its directory must exist.
        table: The table, created if it does not exist. Default: `"retrysafe"`.
        synchronous: How far a write waits for the disk: `"full"`, `"normal"` or `"off"`; see the module. Default:
            `"full"`.
        busy_timeout_seconds: For how many seconds a write waits for other processes that write; where it stands behind
            another thread of its own process, for up to about twice as many. Default: 5.
        clock: What judges windows and leases. Default: SQLite's own reading of the machine's clock, taken
            when the write has its turn.

    Raises:
        IdempotencyPersistenceConfigError: An option is wrong; the file cannot be opened or written; the
            table is another's, or of a newer version; Python's SQLite is older than 3.24.
        IdempotencyPersistenceConnectionError: The file stayed locked.
        IdempotencyPersistenceConsistencyError: The file is no database, or is damaged.
        IdempotencyPersistenceLayerError: The disk is full or fails.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str = DEFAULT_TABLE,
        synchronous: Synchronous = "full",
        busy_timeout_seconds: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        checked = _checked_path(path)
        check_table_name(table)
        if synchronous not in get_args(Synchronous):
            raise IdempotencyPersistenceConfigError(
                f"synchronous={synchronous!r}: must be one of {', '.join(map(repr, get_args(Synchronous)))}"
            )
        _check_timeout(busy_timeout_seconds)
        check_library()
        self._statements = Statements(table)
        self._connections = Connections(
            checked,
            synchronous=synchronous,
            busy_timeout_seconds=busy_timeout_seconds,
            prepare=lambda connection: prepare_table(connection, table, self._statements),
        )
        # Begun anywhere, so that processes which make only a few writes sweep in turn as well.
        self._turns = itertools.count(os.urandom(1)[0])

    def _get_record(self, idempotency_key: str) -> DataRecord:
        found = self._look(idempotency_key)
        if found is None:
            raise IdempotencyItemNotFoundError(f"no record stands under {idempotency_key!r}")
        return found

    def _put_record(self, data_record: DataRecord) -> None:
        for _ in range(_CLAIM_ROUNDS):
            # Looked at first without a lock, as most of what is found is to be replayed or waited for.
            self._refuse_if_held(data_record)
            if self._write(self._statements.claim(data_record, self._now_ms())):
                return
        raise IdempotencyItemAlreadyExistsError(
            f"the record under {data_record.idempotency_key!r} comes and goes too fast to be seen"
        )

    def _update_record(self, data_record: DataRecord) -> None:
        try:
            completed = self._write(self._statements.complete(data_record, self._now_ms()))
        except UnstorableValueError as error:
            raise IdempotencyResponseUnavailableError("SQLite cannot store this answer", error) from error
        if not completed:
            raise self._lost(data_record)

    def _delete_record(self, data_record: DataRecord) -> None:
        self._write(self._statements.release(data_record))

    def _renew_record(self, data_record: DataRecord) -> None:
        if not self._write(self._statements.renew(data_record, self._now_ms())):
            raise self._lost(data_record)

    def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        return for_each(self, operation, arguments)

    def sweep(self, limit: int = 1000) -> int:
        """Delete expired records now; nothing needs this, as writes do it by the way.

        Args:
            limit: How many at most, in one transaction that others wait for.

        Returns:
            How many were deleted; fewer than `limit` when no more are left.

        Raises:
            IdempotencyPersistenceConfigError: `limit` is no whole number from 1.
            IdempotencyPersistenceLayerError: The database failed; nothing was deleted.
        """
        given: object = limit
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _LONGEST_SWEEP:
            raise IdempotencyPersistenceConfigError(f"limit={limit!r}: must be a whole number from 1")
        return self._connections.write(self._statements.sweep(limit, self._now_ms()))

    def close(self) -> None:
        """Close the file. It may be called twice; all others then raise `IdempotencyPersistenceConnectionError`."""
        self._connections.close()

    def _now_ms(self) -> int | None:
        return None if self.clock is SYSTEM_CLOCK else self.clock.now_ms()

    def _refuse_if_held(self, claim: DataRecord) -> None:
        self._refuse_for(claim, self._look(claim.idempotency_key))

    def _refuse_for(self, claim: DataRecord, found: DataRecord | None) -> None:
        if found is not None and not _makes_way(found, claim):
            raise IdempotencyItemAlreadyExistsError(
                f"a live record stands under {claim.idempotency_key!r}", old_data_record=found
            )

    def _look(self, idempotency_key: str) -> DataRecord | None:
        rows = self._connections.read(self._statements.look(idempotency_key, self._now_ms()))
        return record_of(idempotency_key, rows[0]) if rows else None

    def _write(self, command: Command, records: int = 1) -> int:
        changed = self._connections.write(command)
        for _ in range(records):
            if next(self._turns) % _SWEEP_EVERY == 0:
                # The call's own write has succeeded, whatever becomes of this.
                with contextlib.suppress(IdempotencyPersistenceLayerError):
                    self._connections.write_unless_locked(self._statements.sweep(_SWEEP_LIMIT, self._now_ms()))
        return changed

    def _lost(self, data_record: DataRecord) -> IdempotencyLeaseLostError:
        try:
            standing = self._look(data_record.idempotency_key)
        except IdempotencyPersistenceLayerError:
            standing = None  # that the lease is lost is certain without it
        return IdempotencyLeaseLostError(
            f"the record under {data_record.idempotency_key!r} is no longer this call's", record=standing
        )


class AsyncSQLitePersistenceLayer(ThreadedPersistenceLayer):
    """Records in an SQLite file, for asynchronous callers: `SQLitePersistenceLayer` in worker threads.

    Args:
        path: See `SQLitePersistenceLayer`, as for all others. The constructor itself opens the file, without
            a thread.
        table: See there.
        synchronous: See there.
        busy_timeout_seconds: See there.
        clock: See there.

    Raises:
        IdempotencyPersistenceConfigError: See there.
        IdempotencyPersistenceLayerError: See there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        table: str = DEFAULT_TABLE,
        synchronous: Synchronous = "full",
        busy_timeout_seconds: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._sqlite = SQLitePersistenceLayer(
            path, table=table, synchronous=synchronous, busy_timeout_seconds=busy_timeout_seconds, clock=clock
        )
        super().__init__(self._sqlite)
        self._reads = AsyncSharedReads(super()._get_record)

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        # Only calls that wait ask, and a thousand of them would keep all the threads from those who write.
        return await self._reads.read(idempotency_key)

    async def sweep(self, limit: int = 1000) -> int:
        """See `SQLitePersistenceLayer.sweep`."""
        return await self._call("get", self._sqlite.sweep, limit)


def _makes_way(found: DataRecord, claim: DataRecord) -> bool:
    """Whether what was found is gone, or exactly what the claim replaces."""
    if claim.replaces is not None and found.same_claim(claim.replaces):
        return True
    return found.read_at_ms is not None and found.window_over(found.read_at_ms)


def _checked_path(path: str | os.PathLike[str]) -> str:
    """The absolute path, so that it stays the same file if the process changes its directory."""
    try:
        text = os.fspath(path)
        text.encode()
    except (TypeError, AttributeError, UnicodeEncodeError):  # bytes are a path too, for os
        text = None
    if text is None or "\0" in text:
        raise IdempotencyPersistenceConfigError(
            f"path={shown_in_place_of(path)}: must be the path of a file, as a str or a Path"
        )
    if looks_like_url(text):
        raise IdempotencyPersistenceConfigError(
            f"path={shown_in_place_of(text)}: must be the path of a file; layer_from_url() makes a layer of a URL"
        )
    if text in ("", ":memory:") or text.startswith("file:"):
        raise IdempotencyPersistenceConfigError(
            f"path={path!r}: must be the path of a file; for records in memory use MemoryPersistenceLayer"
        )
    if os.path.isdir(text):  # noqa: PTH112  # a Path would raise for a name that is too long
        raise IdempotencyPersistenceConfigError(f"path={path!r}: is a directory; it must be the path of a file")
    try:
        return str(Path(text).absolute())
    except OSError as error:
        raise IdempotencyPersistenceConfigError(
            f"path={path!r}: is relative to this process's working directory, which is not there any more", error
        ) from error


def _check_timeout(seconds: object) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 <= seconds <= _LONGEST_TIMEOUT_SECONDS
    ):
        raise IdempotencyPersistenceConfigError(
            f"busy_timeout_seconds={seconds!r}: must be a number from 0 to {_LONGEST_TIMEOUT_SECONDS}"
        )
