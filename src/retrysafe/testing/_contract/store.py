"""A layer as a check sees it: the same awaited steps over a synchronous and an asynchronous one.

Each step carries one method of the contract out and fails, with a sentence, if it goes otherwise than promised. It
raises instead of using `assert`, so that the suite also judges under `python -O`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import SkipTest

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.testing._contract.driving import StuckError, in_tasks, in_threads, settled
from retrysafe.testing._contract.records import Records
from retrysafe.testing._contract.times import wrong_times

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from retrysafe.testing._contract.hooks import Hooks

T = TypeVar("T")


class Store(Records):
    """One layer under check.

    Args:
        hooks: What the author of the layer says.
        layer: The layer, of either kind.
        promise: What is being checked, for the sentence of a failure.
        namespace: What stands before `#` in keys. Default: a random one, which no other check uses.
    """

    def __init__(self, hooks: Hooks, layer: Any, promise: str, namespace: str | None = None) -> None:
        super().__init__(hooks, layer, namespace)
        self.is_async = isinstance(layer, AsyncBasePersistenceLayer)
        self._promise = promise
        self._second: Store | None = None
        self._taken_ms: dict[str, int] = {}  # by key: the longest step, within which the store's clock went on

    # --- the five methods ------------------------------------------------------------------------------------------

    async def put(self, record: DataRecord) -> DataRecord | None:
        """Claim: None if it won, else the record that stands."""
        refusal = await self.do("_put_record", record, IdempotencyItemAlreadyExistsError)
        if not isinstance(refusal, IdempotencyItemAlreadyExistsError):
            return None
        standing = refusal.old_data_record
        if standing is None and not self.hooks.tells_rivals:
            standing = await self.get(record)
        if standing is None:
            raise self.broken("the refused claim does not carry the record that stands, as old_data_record")
        told: object = standing
        if not isinstance(told, DataRecord):
            raise self.broken(f"the refused claim carries {told!r} as old_data_record, which is no DataRecord")
        return standing

    async def get(self, record: DataRecord) -> DataRecord | None:
        """What stands under the record's key, or None."""
        found = await self.do("_get_record", record.idempotency_key, IdempotencyItemNotFoundError)
        if isinstance(found, IdempotencyItemNotFoundError):
            return None
        if not isinstance(found, DataRecord):
            raise self.broken(f"_get_record returned {found!r}; for a key without a record, it must raise")
        return found

    async def complete(self, record: DataRecord) -> IdempotencyLeaseLostError | None:
        """Complete: None if it is stored, else the refusal."""
        return self._refusal(await self.do("_update_record", record, IdempotencyLeaseLostError))

    async def release(self, record: DataRecord) -> None:
        """Release, whatever that does."""
        await self.do("_delete_record", record)

    async def renew(self, record: DataRecord) -> IdempotencyLeaseLostError | None:
        """Renew: None if it is stored, else the refusal."""
        if not self.layer.can_renew:
            raise self.broken("the layer has no _renew_record; if that is meant, declare renews = False")
        return self._refusal(await self.do("_renew_record", record, IdempotencyLeaseLostError))

    def _refusal(self, answer: Any) -> IdempotencyLeaseLostError | None:
        return answer if isinstance(answer, IdempotencyLeaseLostError) else None

    async def do(self, method: str, argument: Any, *expected: type[Exception]) -> Any:
        """Call a method of the layer; what it returns, or the exception if it is one of those expected."""
        started = self.now_ms()
        try:
            return await settled(getattr(self.layer, method)(argument))
        except expected as error:
            return error
        except Exception as error:
            raise self.broken(f"{method} raised {error!r}, which the contract does not name here") from error
        finally:
            if isinstance(argument, DataRecord):
                key = argument.idempotency_key
                self._taken_ms[key] = max(self.now_ms() - started, self._taken_ms.get(key, 0))

    # --- steps that must go as promised ----------------------------------------------------------------------------

    async def wins(self, record: DataRecord) -> None:
        """The claim is stored."""
        standing = await self.put(record)
        if standing is not None:
            raise self.broken(f"the claim was refused, though it must win; the layer says that {standing!r} stands")

    async def refuses(self, record: DataRecord, standing: DataRecord) -> None:
        """The claim is refused, the layer tells which record stands, and that is left as it is."""
        told = await self.put(record)
        if told is None:
            raise self.broken(f"the claim won, though {standing!r} must stand in its way")
        self.check_equal(told, standing, "the record that the refusal carries")
        await self.stands(standing)

    async def stands(self, record: DataRecord) -> DataRecord:
        """Exactly this record stands; as it was read."""
        found = await self.get(record)
        if found is None:
            raise self.broken(f"nothing stands under the key, though {record!r} must")
        self.check_equal(found, record, "the record that stands")
        return found

    async def gone(self, record: DataRecord) -> None:
        """Nothing stands under the record's key."""
        found = await self.get(record)
        if found is not None:
            raise self.broken(f"{found!r} stands under the key, though nothing must")

    async def completes(self, record: DataRecord) -> None:
        """The outcome is stored."""
        if await self.complete(record) is not None:
            raise self.broken("completing was refused with IdempotencyLeaseLostError, though the owner is the same")

    async def refuses_completion(self, record: DataRecord, standing: DataRecord | None) -> None:
        """The outcome is refused, and what stands is left as it is."""
        refusal = await self.complete(record)
        if refusal is None:
            raise self.broken("completing did not raise IdempotencyLeaseLostError")
        await self._left_alone(record, standing, refusal)

    async def renews(self, record: DataRecord) -> None:
        """The lease is moved on."""
        if await self.renew(record) is not None:
            raise self.broken("renewing was refused with IdempotencyLeaseLostError, though the owner is the same")

    async def refuses_renewal(self, record: DataRecord, standing: DataRecord | None) -> None:
        """The renewal is refused, and what stands is left as it is."""
        refusal = await self.renew(record)
        if refusal is None:
            raise self.broken("renewing did not raise IdempotencyLeaseLostError")
        await self._left_alone(record, standing, refusal)

    async def _left_alone(
        self, record: DataRecord, standing: DataRecord | None, refusal: IdempotencyLeaseLostError
    ) -> None:
        if standing is None:
            await self.gone(record)
            return
        await self.stands(standing)
        if refusal.record is not None:
            self.check_equal(refusal.record, standing, "the record that IdempotencyLeaseLostError carries")

    def check_peek(self, record: DataRecord, standing: DataRecord | None) -> None:
        """A peek tells this record, or nothing."""
        told = self.layer._peek_record(record.idempotency_key)
        if told is None:
            return
        if standing is None:
            raise self.broken(f"a peek tells {told!r}, though nothing stands under the key")
        self.check_equal(told, standing, "the record that a peek tells")

    async def overtaken(self) -> tuple[DataRecord, DataRecord]:
        """A claim whose lease ended, and the claim that took it over and stands."""
        late = self.claim(payload_hash="9f2c")
        await self.wins(late)
        await self.outlive_lease(late)
        current = self.takeover(await self.stands(late))
        await self.wins(current)
        return late, current

    # --- judging ---------------------------------------------------------------------------------------------------

    def broken(self, seen: str) -> AssertionError:
        """The failure of the check under way, to be raised: what is promised, and what was seen instead."""
        return AssertionError(f"{type(self.layer).__name__} breaks its contract. {self._promise} But {seen}.")

    def check(self, holds: bool, otherwise: str) -> None:
        """Fail with this sentence if it does not hold."""
        if not holds:
            raise self.broken(otherwise)

    def check_equal(self, found: DataRecord, written: DataRecord, what: str) -> None:
        """Both are the same record, in everything that is stored."""
        fields = ["idempotency_key", "stored_status", "payload_hash", "response_data"]
        if self.hooks.keeps_every_field:
            fields += ["owner", "attempt", "types"]
        for field in fields:
            expected, seen = getattr(written, field), getattr(found, field)
            self.check(seen == expected, f"{what} has {field}={_short(seen)} instead of {_short(expected)}")
        slack_ms = self._taken_ms.get(written.idempotency_key, 0) if self.hooks.own_clock else None
        for field, seen in wrong_times(found, written, self.now_ms(), slack_ms):
            if field == "expiry_timestamp" or written.stored_status == INPROGRESS or self.hooks.keeps_every_field:
                raise self.broken(f"{what} has {seen}")  # a peer's layer may leave the claim's lease beside an outcome

    # --- several at once, and several layers --------------------------------------------------------------------------

    async def together(self, *rivals: Callable[[], Coroutine[Any, Any, T]]) -> list[T]:
        """Carry all out at the same time, in threads or in tasks; their answers in order."""
        try:
            return await in_tasks(rivals) if self.is_async else in_threads(rivals)
        except StuckError as error:
            raise self.broken(
                "some of them never came back: a lock is held over, or a transaction was left open"
            ) from error

    async def breathe(self) -> None:
        """Let others go on for a moment."""
        if self.is_async:
            await asyncio.sleep(0.001)
        else:
            time.sleep(0.001)  # noqa: ASYNC251  # a synchronous layer has no loop

    async def second(self) -> Store:
        """Another layer object on the same store."""
        if self._second is None:
            layer = checked_layer("second_layer", await settled(self.hooks.second_layer(self.layer)))
            self._second = Store(self.hooks, layer, self._promise, self._namespace)
            self._second._taken_ms = self._taken_ms
        return self._second

    async def plant_unreadable(self, record: DataRecord) -> None:
        """Put what is no record under the record's key; where the hook is left out, so is the check."""
        planted: object = await settled(self.hooks.plant_unreadable(self.layer, record.idempotency_key))
        if planted is None:
            raise TypeError("plant_unreadable() must return True once it has stored something; it gave None")
        if not planted:
            raise SkipTest(f"{type(self.hooks).__name__} has no plant_unreadable()")

    async def close(self) -> None:
        """Close what was made."""
        try:
            if self._second is not None and self._second.layer is not self.layer:
                await settled(self.hooks.close_layer(self._second.layer))
        finally:
            await settled(self.hooks.close_layer(self.layer))


def checked_layer(hook: str, layer: Any) -> Any:
    """What a hook gave as a layer.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(layer, BasePersistenceLayer | AsyncBasePersistenceLayer):
        raise TypeError(f"{hook}() must give a persistence layer; it gave {layer!r}")
    return layer


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"  # noqa: PLR2004  # a line's length
