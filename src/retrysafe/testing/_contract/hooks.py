"""What the author of a layer tells the suite: how to make one, what it promises, and how its time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from retrysafe.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from typing import TypeAlias

    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

    AnyLayer: TypeAlias = BasePersistenceLayer | AsyncBasePersistenceLayer


class Hooks:
    """The hooks and capability flags of `PersistenceLayerContract`, which documents them."""

    fenced: ClassVar[bool] = True
    renews: ClassVar[bool] = True
    compares_takeovers: ClassVar[bool] = True
    keeps_every_field: ClassVar[bool] = True
    window_spares_leases: ClassVar[bool] = True
    tells_rivals: ClassVar[bool] = True
    compares_in_one_step: ClassVar[bool] = True
    own_clock: ClassVar[bool] = False

    lease_seconds: ClassVar[float] = 30.0
    window_seconds: ClassVar[int] = 3600
    rivals: ClassVar[int] = 32
    rounds: ClassVar[int] = 4

    clock: ManualClock = ManualClock()
    """The clock of the check under way; each check has one of its own."""

    def make_layer(self, clock: ManualClock) -> AnyLayer | Awaitable[AnyLayer]:
        """Make the layer, on a store without records. The one hook that must be written.

        It may be a coroutine function, for an asynchronous layer that is made inside a running event loop.

        Args:
            clock: What the layer is to judge windows and leases by, where its store has no clock of its own.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how to make the layer: write make_layer()")

    def second_layer(self, layer: AnyLayer) -> AnyLayer | Awaitable[AnyLayer]:
        """Another layer object on the same store, as another process would have. Default: the same object."""
        return layer

    def close_layer(self, layer: AnyLayer) -> Awaitable[None] | None:
        """Put away a layer that `make_layer` or `second_layer` made. Default: `layer.close()`."""
        return layer.close()

    def advance(self, seconds: float) -> Awaitable[None] | None:
        """Let time pass for the layer. Default: moves `self.clock`; with `own_clock`, really wait."""
        self.clock.advance(seconds)
        return None

    def plant(self, layer: Any, data_record: DataRecord) -> Awaitable[None] | None:
        """Put a record of a status that nobody knows into the store. Default: the layer's own `_put_record`."""
        answer: Awaitable[None] | None = layer._put_record(data_record)
        return answer

    def plant_unreadable(self, layer: Any, idempotency_key: str) -> Awaitable[bool] | bool:  # noqa: ARG002  # a hook
        """Put something under this key that is no record, and return True. Default: not done, returns False."""
        return False
