"""The persistence contract: five methods that store records and know nothing else.

Each method is one atomic step of the store. A layer knows no function, no config, no hashing and no policy, and
keeps nothing about a call, so one object serves any number of functions, threads and tasks at once.
`retrysafe.testing.PersistenceLayerContract` checks a layer against this page.

A layer written for Powertools, with the first four methods and no idea of owners, works unchanged: its records
have no owner, so it promises what it promised there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from retrysafe.clock import SYSTEM_CLOCK, Clock
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._peers_methods import overridden
from retrysafe.persistence.datarecord import STATUS_CONSTANTS as STATUS_CONSTANTS  # noqa: PLC0414  # for peers' layers
from retrysafe.persistence.datarecord import DataRecord as DataRecord  # noqa: PLC0414, TC001  # the same

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from retrysafe.persistence.many import Operation, Outcome
    from retrysafe.persistence.watch import AsyncWatch, Watch


class _Layer(ABC):  # noqa: B024  # the two contracts below have the abstract methods
    """What the sync and the async contract share: constants, the clock, no state of a call."""

    # For layers written for Powertools, which look here whether to store the payload hash. It is stored whenever
    # the record has one; the window is on each record.
    payload_validation_enabled: bool = True
    expires_after_seconds: int = 3600

    clock: Clock = SYSTEM_CLOCK
    """What judges windows and leases where the store has no clock of its own."""

    reachable_by_others: ClassVar[bool] = True
    """Whether another service can stand on the same store, so that keys must not be shared by accident."""

    blocking: ClassVar[bool] = True
    """Whether a call may wait for a disk or a network; an async function then calls it through a thread."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        """Make the layer.

        Args:
            clock: What judges windows and leases, where the store has no clock of its own. Default: the
                machine's.

        Raises:
            IdempotencyPersistenceConfigError: The clock has no `now_ms()`, or is a class.
        """
        if clock is None:
            return
        if isinstance(clock, type) or not callable(getattr(clock, "now_ms", None)):
            raise IdempotencyPersistenceConfigError(f"clock={clock!r}: must be an object with now_ms()")
        self.clock = clock

    @property
    def can_renew(self) -> bool:
        """Whether the layer can move a lease on, so that a heartbeat makes sense."""
        return False

    def _peek_record(self, idempotency_key: str) -> DataRecord | None:  # noqa: ARG002  # for those that override it
        """The record under the key, where telling it takes no I/O at all; None where it would, or where none stands.

        It spares duplicates the claim. Nothing is ever decided on None.
        """
        return None

    @property
    def can_peek(self) -> bool:
        """Whether `_peek_record` was written for this layer."""
        return type(self)._peek_record is not _Layer._peek_record


# As in inspect, which takes long to import.
_CO_VARARGS: Final = 0x04
_CO_VARKEYWORDS: Final = 0x08
_CO_COROUTINE: Final = 0x80

_STEPS: Final = ("_get_record", "_put_record", "_update_record", "_delete_record", "_renew_record", "_for_each")


class BasePersistenceLayer(_Layer):
    """A store of records, for synchronous callers.

    Raises:
        IdempotencyPersistenceConfigError: When a subclass is defined that overrides what only Powertools calls, or
            that has one of the methods as `async def`, or with an argument that is passed by name only.
    """

    _peers_own: ClassVar[frozenset[str]] = frozenset()
    """What else the layer of this name has in Powertools for subclasses to override, and is not called here."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Nobody would await them, so each claim would seem to get through.
        awaited = [name for name in _STEPS if _is_coroutine_function(getattr(cls, name))]
        if awaited:
            raise IdempotencyPersistenceConfigError(
                f"{cls.__qualname__} has {', '.join(awaited)} as `async def`: inherit from AsyncBasePersistenceLayer"
            )
        # Of such a layer the claim may get through and the completion not, with the work done.
        by_name = [name for name in _STEPS if _takes_names_only(getattr(cls, name))]
        if by_name:
            raise IdempotencyPersistenceConfigError(
                f"{cls.__qualname__} takes the argument of {', '.join(by_name)} by name only: it is passed by position"
            )
        dead = overridden(cls, BasePersistenceLayer, cls._peers_own)
        if dead:
            raise IdempotencyPersistenceConfigError(
                f"{cls.__qualname__} overrides {', '.join(dead)}, which only Powertools calls and retrysafe does not: "
                "layers store records alone; docs/powertools.md says what to use instead"
            )

    @abstractmethod
    def _get_record(self, idempotency_key: str) -> DataRecord:
        """The record that stands under the key, whatever its status.

        Raises:
            IdempotencyItemNotFoundError: None does.
            IdempotencyPersistenceConsistencyError: What stands there cannot be read.
        """

    @abstractmethod
    def _put_record(self, data_record: DataRecord) -> None:
        """Store a claim if no live record stands: in one atomic step, so that one of any rivals wins.

        Nothing is live once its window is over and no lease runs (`DataRecord.window_over`). A record whose
        lease is over is *not* overwritten, except by a claim that names it: where `data_record.replaces` is set,
        store if exactly that claim (`DataRecord.same_claim`) still stands.

        Raises:
            IdempotencyItemAlreadyExistsError: A live record stands; carries it as `old_data_record`.
            IdempotencyPersistenceConsistencyError: What stands there cannot be read; it is left as it is.
        """

    @abstractmethod
    def _update_record(self, data_record: DataRecord) -> None:
        """Complete: store the outcome, if the owner is still `data_record.owner`. Doing it twice is harmless.

        Raises:
            IdempotencyLeaseLostError: Another owner's record stands, or none.
            IdempotencyResponseUnavailableError: The store cannot take an answer like this one, ever.
        """

    @abstractmethod
    def _delete_record(self, data_record: DataRecord) -> None:
        """Release: remove the record, if it is INPROGRESS and the owner is still `data_record.owner`."""

    def _renew_record(self, data_record: DataRecord) -> None:
        """Move lease and window of an INPROGRESS record on, if the owner is still `data_record.owner`.

        A layer without this method has no heartbeat; its lease is then as long as the window.

        Raises:
            IdempotencyLeaseLostError: Another owner's record stands, or none, or it is not INPROGRESS.
        """
        raise NotImplementedError

    @property
    def can_renew(self) -> bool:
        """Whether `_renew_record` was written for this layer."""
        return type(self)._renew_record is not BasePersistenceLayer._renew_record

    def _validate_payload(self, data_payload: Any, stored_data_record: DataRecord) -> None:
        """Nothing, for layers written after Powertools' own, which call it: payloads are compared by the rules."""

    def _save_to_cache(self, data_record: DataRecord) -> None:
        """Nothing, for the same layers: the local cache is the config's."""

    def _watch_record(self, idempotency_key: str) -> Watch | None:  # noqa: ARG002  # for those that override it
        """A watch on the record under the key, for a call that waits for it; None, the default: it looks now and then.

        It is asked for when a call begins to wait, and closed when that call has waited. Opening it must not wait for
        the store: until the watch is told of changes, its caller looks now and then.
        """
        return None

    def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        """One of the five methods for many records, each a step of its own; see `retrysafe.persistence.many`.

        The default calls the method for one after the other. Override it where the store takes many in fewer round
        trips. The arguments belong to different keys.

        Args:
            operation: "put" for `_put_record`, and so on.
            arguments: What the method takes, for each: a record, or for "get" a key.

        Returns:
            For each, in order, what the method would return, or the exception that it would raise.

        Raises:
            Exception: What is not known of any: which of them were carried out is not known either.
        """
        from retrysafe.persistence.many import one_by_one  # noqa: PLC0415  # needed by batches alone

        return one_by_one(self, operation, arguments)

    def close(self) -> None:
        """Close what the layer itself opened. It may be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_coroutine_function(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def _takes_names_only(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    if code is None or code.co_argcount > 1 or code.co_flags & _CO_VARARGS:
        return False
    return bool(code.co_kwonlyargcount or code.co_flags & _CO_VARKEYWORDS)


class AsyncBasePersistenceLayer(_Layer):
    """A store of records, for asynchronous callers: the same methods and promises as coroutines."""

    blocking: ClassVar[bool] = False

    _in_threads: BasePersistenceLayer | None = None
    """What can renew leases in a thread, for all runs at once, even while their event loop is blocked; if anything."""
    _opens_in_each_loop = False
    """Whether it opens a client of its own in any event loop that it is used in, until it is closed there."""

    @abstractmethod
    async def _get_record(self, idempotency_key: str) -> DataRecord:
        """See `BasePersistenceLayer._get_record`."""

    @abstractmethod
    async def _put_record(self, data_record: DataRecord) -> None:
        """See `BasePersistenceLayer._put_record`."""

    @abstractmethod
    async def _update_record(self, data_record: DataRecord) -> None:
        """See `BasePersistenceLayer._update_record`."""

    @abstractmethod
    async def _delete_record(self, data_record: DataRecord) -> None:
        """See `BasePersistenceLayer._delete_record`."""

    async def _renew_record(self, data_record: DataRecord) -> None:
        """See `BasePersistenceLayer._renew_record`."""
        raise NotImplementedError

    @property
    def can_renew(self) -> bool:
        """Whether `_renew_record` was written for this layer."""
        return type(self)._renew_record is not AsyncBasePersistenceLayer._renew_record

    def _watch_record(self, idempotency_key: str) -> AsyncWatch | None:  # noqa: ARG002  # for those that override it
        """See `BasePersistenceLayer._watch_record`. Not a coroutine, since it must not wait."""
        return None

    async def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        """See `BasePersistenceLayer._for_each`. The default calls the method for some of them at the same time."""
        from retrysafe.persistence.many import side_by_side  # noqa: PLC0415  # needed by batches alone

        return await side_by_side(self, operation, arguments)

    async def close(self) -> None:
        """Close what the layer itself opened. It may be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
