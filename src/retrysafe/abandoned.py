"""What a person says of a run that never ended, where `on_abandoned="raise"` asks for it: it happened, or it did not.

Both ask the store first, and leave alone what has another owner by now, has ended, or still runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from retrysafe.checks import checked_config, checked_layer, checked_serializer
from retrysafe.drivers import drive, drive_async
from retrysafe.endings import store_failure
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyConfigError,
    IdempotencyLeaseLostError,
)
from retrysafe.handler import awaitable_layer
from retrysafe.pauses import seconds_until
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.ports import AsyncPorts, SyncPorts
from retrysafe.serialization.base import serializer_for
from retrysafe.wishes import Complete, Fetch, Flow, Lost, Release, StoreFailed, Unstorable

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.checks import AnyLayer
    from retrysafe.clock import Clock
    from retrysafe.config import IdempotencyConfig
    from retrysafe.idempotency import Serializer


def complete_abandoned(
    record: DataRecord,
    answer: Any,
    *,
    persistence_store: BasePersistenceLayer,
    function: Callable[..., Any] | None = None,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
) -> None:
    """It did happen: from now on each call with that key gets this answer, for a window that starts now.

    Args:
        record: The run's record, as `IdempotencyAbandonedError.record` has it.
        answer: What the run would have returned.
        persistence_store: Where the record is; no URL.
        function: The function, for an answer with classes that its return annotation names. Default: none.
        config: The function's rules, for `expires_after_seconds`. Default: `IdempotencyConfig()`.
        output_serializer: The function's; a class takes its model from the annotation of `function`. Default: none.

    Raises:
        IdempotencyConfigError: An argument is wrong, the record has no owner, or the answer cannot be stored as it is.
        IdempotencyNoSerializationModelError: `output_serializer` is a class, and `function` has no return annotation.
        IdempotencyModelTypeError: `output_serializer` is a class, and the annotation is no model of its kind.
        IdempotencyAlreadyInProgressError: The run goes on after all, or another one does.
        IdempotencyLeaseLostError: The record is another's by now, has ended, or is gone; with what stands instead.
        IdempotencyResponseUnavailableError: The store cannot take this answer; nothing was changed.
        IdempotencyPersistenceLayerError: The store failed; whether the answer is stored is not known.
    """
    store = _sync(persistence_store)
    outcome = _outcome(answer, function, config, output_serializer)
    _done(drive(_completing(_checked(record), outcome, store.clock), SyncPorts(store)))


async def complete_abandoned_async(
    record: DataRecord,
    answer: Any,
    *,
    persistence_store: AnyLayer,
    function: Callable[..., Any] | None = None,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
) -> None:
    """`complete_abandoned` for asynchronous code, on a layer of either kind."""
    store = awaitable_layer(checked_layer(persistence_store))
    outcome = _outcome(answer, function, config, output_serializer)
    _done(await drive_async(_completing(_checked(record), outcome, store.clock), AsyncPorts(store)))


def release_abandoned(record: DataRecord, *, persistence_store: BasePersistenceLayer) -> None:
    """It did not happen: the key is free, and the next call runs.

    Args:
        record: The run's record, as `IdempotencyAbandonedError.record` has it.
        persistence_store: Where the record is; no URL.

    Raises:
        IdempotencyConfigError: An argument is wrong, or the record has no owner.
        IdempotencyAlreadyInProgressError: The run goes on after all, or another one does.
        IdempotencyLeaseLostError: The record is another's by now, has ended, or is gone; with what stands instead.
        IdempotencyPersistenceLayerError: The store failed; whether the key is free is not known.
    """
    store = _sync(persistence_store)
    _done(drive(_releasing(_checked(record), store.clock), SyncPorts(store)))


async def release_abandoned_async(record: DataRecord, *, persistence_store: AnyLayer) -> None:
    """`release_abandoned` for asynchronous code, on a layer of either kind."""
    store = awaitable_layer(checked_layer(persistence_store))
    _done(await drive_async(_releasing(_checked(record), store.clock), AsyncPorts(store)))


# --- the steps ----------------------------------------------------------------------------------------------------


def _completing(record: DataRecord, outcome: tuple[str, str, int], clock: Clock) -> Flow[BaseException | None]:
    found = yield from Fetch(record.idempotency_key)
    refusal = _refusal(record, found, clock)
    if refusal is not None or not isinstance(found, DataRecord):
        return refusal
    now_ms = clock.now_ms()
    data, types, window_seconds = outcome
    completed = found.replaced(
        status=COMPLETED,
        response_data=data,
        types=types,
        in_progress_expiry_timestamp=None,
        expiry_timestamp=now_ms // 1000 + window_seconds,
        made_at_ms=now_ms,
    )
    refused = yield from Complete(completed)
    if isinstance(refused, Lost):
        return _lost(record, refused.record)
    if isinstance(refused, Unstorable):
        return refused.error
    return None if refused is None else _failed(refused)


def _releasing(record: DataRecord, clock: Clock) -> Flow[BaseException | None]:
    found = yield from Fetch(record.idempotency_key)
    refusal = _refusal(record, found, clock)
    if refusal is not None:
        return refusal
    failed = yield from Release(record)
    if failed is not None:
        return _failed(failed)
    # A layer leaves what is no longer to be removed, and does not say so.
    left = yield from Fetch(record.idempotency_key)
    return _lost(record, left) if isinstance(left, DataRecord) and left.owner == record.owner else None


def _refusal(record: DataRecord, found: DataRecord | StoreFailed | None, clock: Clock) -> BaseException | None:
    """Why the record that stands is not to be touched."""
    if isinstance(found, StoreFailed):
        return _failed(found)
    if found is None or found.stored_status != INPROGRESS:
        return _lost(record, found)
    now_ms = clock.now_ms() if found.read_at_ms is None else found.read_at_ms
    if not found.lease_over(now_ms):
        until = found.in_progress_expiry_timestamp
        return IdempotencyAlreadyInProgressError(
            "a run holds this idempotency key and its lease is not over; nothing was changed",
            found.shown_key,
            record=found,
            retry_after=None if until is None else seconds_until(until, now_ms),
        )
    return None if found.owner == record.owner else _lost(record, found)


def _lost(record: DataRecord, standing: DataRecord | None) -> IdempotencyLeaseLostError:
    what = "nothing" if standing is None else f"a record that is {standing.stored_status}, of owner {standing.owner},"
    return IdempotencyLeaseLostError(
        f"{what} stands in the place of the abandoned record; nothing was changed", record.shown_key, record=standing
    )


def _failed(answer: StoreFailed) -> BaseException:
    return store_failure("the abandoned record could not be resolved for certain", answer.error)


def _done(error: BaseException | None) -> None:
    if error is not None:
        raise error


# --- what is refused before anything is asked ---------------------------------------------------------------------


def _sync(store: object) -> BasePersistenceLayer:
    if not isinstance(store, BasePersistenceLayer):
        checked_layer(store)  # type: ignore[arg-type]  # it refuses what is no layer
        raise IdempotencyConfigError(
            f"persistence_store={type(store).__name__} is asynchronous: await the function whose name ends in _async"
        )
    return store


def _checked(record: object) -> DataRecord:
    if not isinstance(record, DataRecord):
        raise IdempotencyConfigError(
            f"record must be the DataRecord that IdempotencyAbandonedError.record has; it is a {type(record).__name__}"
        )
    if record.owner is None:
        raise IdempotencyConfigError(
            f"the record {record.shown_key} has no owner, as a peer wrote it: change it with the store's own tools"
        )
    return record


def _outcome(
    answer: object,
    function: Callable[..., Any] | None,
    config: IdempotencyConfig | None,
    serializer: Serializer | None,
) -> tuple[str, str, int]:
    """The answer's two texts, and the seconds of its window."""
    if isinstance(serializer, type) and function is not None:
        serializer = serializer_for(serializer, function)
    codec = AnswerCodec(function, checked_serializer(serializer))  # type: ignore[arg-type]  # refused, if still a class
    window_seconds = checked_config(config).expires_after_seconds
    try:
        data, types, plain = codec.texts(answer)
    except UnstorableAnswerError as error:
        raise IdempotencyConfigError(f"the answer cannot be stored: {error}") from error
    if plain:
        raise IdempotencyConfigError(
            f"the answer would come back as plain values in the place of {', '.join(plain)}: pass the function whose "
            "return annotation names the class, or its output_serializer"
        )
    return data, types, window_seconds
