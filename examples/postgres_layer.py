"""A persistence layer for PostgreSQL, as an example of a layer of one's own: synchronous, judged by the server's clock.

Each method is one statement, which commits by itself. So it is right at any isolation level, behind a pooler too, and
takes no part in a transaction of the application's. Rows that are over are claimed anew in place; those that nobody
asks for again are removed by `sweep()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg_pool import ConnectionPool

from retrysafe import BasePersistenceLayer, DataRecord
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)

if TYPE_CHECKING:
    from typing import LiteralString

TABLE: Final = """
    CREATE TABLE IF NOT EXISTS idempotency (
        id text COLLATE "C" PRIMARY KEY, status text NOT NULL, window_end bigint NOT NULL, lease_end bigint,
        data text NOT NULL, payload_hash text NOT NULL, owner text, attempt int NOT NULL, types text NOT NULL
    )"""

# Times are those of the server. A record was dated by its maker's clock, so they are moved by what that is off.
NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
WINDOW_END: Final[LiteralString] = f"%(window_end)s::bigint + ceil(({NOW} - %(made_at)s::bigint) / 1000.0)::bigint"
LEASE_END: Final[LiteralString] = f"%(lease_end)s::bigint + {NOW} - %(made_at)s::bigint"

COLUMNS: Final = "status, window_end, lease_end, data, payload_hash, owner, attempt, types"
VALUES: Final[LiteralString] = f"""
    %(status)s, {WINDOW_END}, {LEASE_END}, %(data)s, %(payload_hash)s, %(owner)s, %(attempt)s, %(types)s"""

# A window counts until its last second has passed, and never cuts a running lease short. What a later version wrote,
# with a status that is not known here, is its own to judge.
IS_OVER: Final[LiteralString] = f"""
    standing.status IN ('INPROGRESS', 'COMPLETED', 'FAILED', 'UNAVAILABLE') AND standing.window_end < {NOW} / 1000
    AND (standing.status <> 'INPROGRESS' OR standing.lease_end IS NULL OR standing.lease_end < {NOW})"""
# A takeover replaces exactly the claim that was seen.
IS_REPLACED: Final = """
    standing.status = %(seen_status)s AND standing.attempt = %(seen_attempt)s
    AND standing.owner IS NOT DISTINCT FROM %(seen_owner)s::text
    AND standing.lease_end IS NOT DISTINCT FROM %(seen_lease_end)s::bigint"""

GET: Final[LiteralString] = f"SELECT {COLUMNS}, {NOW} FROM idempotency WHERE id = %(id)s"
PUT: Final[LiteralString] = f"""
    INSERT INTO idempotency AS standing (id, {COLUMNS}) VALUES (%(id)s, {VALUES})
    ON CONFLICT (id) DO UPDATE SET ({COLUMNS}) = ({VALUES}) WHERE ({IS_OVER}) OR ({IS_REPLACED})"""
UPDATE: Final[LiteralString] = f"""
    UPDATE idempotency SET ({COLUMNS}) = ({VALUES}) WHERE id = %(id)s AND owner = %(owner)s"""
RENEW: Final[LiteralString] = f"""
    UPDATE idempotency SET window_end = {WINDOW_END}, lease_end = {LEASE_END}
    WHERE id = %(id)s AND owner = %(owner)s AND status = 'INPROGRESS'"""
DELETE: Final = "DELETE FROM idempotency WHERE id = %(id)s AND owner = %(owner)s AND status = 'INPROGRESS'"
SWEEP: Final[LiteralString] = f"""
    DELETE FROM idempotency WHERE id IN (
        SELECT id FROM idempotency AS standing WHERE {IS_OVER} LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )"""


class PostgresPersistenceLayer(BasePersistenceLayer):
    """Records in the table `idempotency`, which is made where it is missing.

    Make one in each process: connections cannot be shared with a forked child.

    Args:
        conninfo: How to connect, as libpq takes it: `postgresql://user@host/database`.
        max_connections: How many statements may be under way at once; further ones wait for up to 30 s. Default: 10.

    Raises:
        psycopg.Error: The database cannot be reached, or refuses the user. From a call it is the `__cause__` of an
            `IdempotencyPersistenceLayerError`.
    """

    def __init__(self, conninfo: str, *, max_connections: int = 10) -> None:
        super().__init__()
        self._pool = ConnectionPool(
            conninfo, kwargs={"autocommit": True}, min_size=1, max_size=max_connections, open=True
        )
        with self._pool.connection() as connection:
            connection.execute(TABLE)

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._pool.connection() as connection:
            row = connection.execute(GET, {"id": idempotency_key}).fetchone()
        if row is None:
            raise IdempotencyItemNotFoundError("no record under this key", idempotency_key)
        status, window_end, lease_end, data, payload_hash, owner, attempt, types, now_ms = row
        return DataRecord(
            idempotency_key,
            status,
            window_end,
            lease_end,
            data,
            payload_hash,
            owner=owner,
            attempt=attempt,
            types=types,
            read_at_ms=now_ms,
        )

    def _put_record(self, data_record: DataRecord) -> None:
        if self._write(PUT, data_record):
            return
        try:
            standing = self._get_record(data_record.idempotency_key)
        except IdempotencyItemNotFoundError:  # it went meanwhile, and the call asks again
            standing = None
        raise IdempotencyItemAlreadyExistsError("a live record stands", old_data_record=standing)

    def _update_record(self, data_record: DataRecord) -> None:
        if not self._write(UPDATE, data_record):
            raise IdempotencyLeaseLostError("the record is no longer this owner's")

    def _renew_record(self, data_record: DataRecord) -> None:
        if not self._write(RENEW, data_record):
            raise IdempotencyLeaseLostError("the record is no longer this owner's")

    def _delete_record(self, data_record: DataRecord) -> None:
        self._write(DELETE, data_record)

    def sweep(self, limit: int = 1000) -> int:
        """Remove records that are over, as a job that runs now and then.

        Args:
            limit: How many at most. Default: 1000.

        Returns:
            How many were removed.
        """
        with self._pool.connection() as connection:
            return connection.execute(SWEEP, {"limit": limit}).rowcount

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _write(self, statement: LiteralString, record: DataRecord) -> bool:
        """Whether a row was written."""
        seen = record.replaces
        values: dict[str, Any] = {
            "id": record.idempotency_key,
            "status": record.stored_status,
            "window_end": record.expiry_timestamp,
            "lease_end": record.in_progress_expiry_timestamp,
            "made_at": record.made_at_ms,
            "data": record.response_data,
            "payload_hash": record.payload_hash,
            "owner": record.owner,
            "attempt": record.attempt,
            "types": record.types,
            "seen_status": None if seen is None else seen.stored_status,
            "seen_owner": None if seen is None else seen.owner,
            "seen_attempt": None if seen is None else seen.attempt,
            "seen_lease_end": None if seen is None else seen.in_progress_expiry_timestamp,
        }
        with self._pool.connection() as connection:
            return connection.execute(statement, values).rowcount > 0
