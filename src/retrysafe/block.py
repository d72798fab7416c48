"""The `with` form: a block of code that is safe to retry, where there is no function to decorate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from weakref import ref

from retrysafe import switch
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.checks import checked_config, checked_layer, checked_prefix, checked_serializer
from retrysafe.drivers import conclude, drive, drive_async
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.handler import awaitable_layer
from retrysafe.heartbeat import heart
from retrysafe.heartbeat_async import start_async
from retrysafe.owed import interrupted
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.plan import plan_on
from retrysafe.ports import AsyncPorts, SyncPorts
from retrysafe.protocol import idempotent_call, known_answer
from retrysafe.running import Running
from retrysafe.wishes import Ending, Flow, Invoke, Raised

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from retrysafe.call import Call
    from retrysafe.checks import AnyLayer
    from retrysafe.config import IdempotencyConfig
    from retrysafe.heartbeat import Beat
    from retrysafe.serialization.base import BaseIdempotencySerializer


class idempotent_block:  # noqa: N801  # reads as a statement: `with idempotent_block(...) as block:`
    """A block that is safe to retry: its body does the work only where the key is new.

    ```python
    with idempotent_block(order, key_prefix="shop.charge", persistence_store=store) as block:
        if block.is_first:
            block.answer = charge(order)
    print(block.answer)
    ```

    Python cannot skip the body of a `with`, so the body asks `is_first`. Leaving it stores `answer`; an exception that
    leaves it is treated as one that leaves an idempotent function. `async with` does the same for async code.

    Args:
        payload: What the key and the payload hash are made of.
        key_prefix: What stands before `#` in the key; it takes the place of the function's name.
        persistence_store: Where records are kept: a layer, sync or async.
        config: The rules. Default: `IdempotencyConfig()`.
        output_serializer: How the answer becomes a dict and comes back. Default: as it is.

    Raises:
        IdempotencyConfigError: The options don't fit together. Later: `answer` is set outside of the block, where
            nothing would store it, or in one that has its answer.
        IdempotencyBaseError: On entering and leaving: see `retrysafe.exceptions`.
    """

    # Without a dict, so that a misspelt `answer` is no attribute that nobody stores.
    __slots__ = ("__weakref__", "_answer", "_is_entered", "_is_first", "_payload", "_plan", "_run", "_store")

    def __init__(
        self,
        payload: Any,
        *,
        key_prefix: str,
        persistence_store: AnyLayer,
        config: IdempotencyConfig | None = None,
        output_serializer: BaseIdempotencySerializer | None = None,
    ) -> None:
        if not checked_prefix(key_prefix):
            raise IdempotencyConfigError("key_prefix of idempotent_block must name the work; it is empty")
        rules = checked_config(config)
        self._store = checked_layer(persistence_store)
        self._payload = payload
        codec = AnswerCodec(None, checked_serializer(output_serializer))
        self._plan = plan_on(self._store, key_prefix, key_prefix, rules, codec)
        self._is_first = True
        self._is_entered = False
        self._answer: Any = None
        self._run: _Run | None = None

    @property
    def is_first(self) -> bool:
        """Whether the body is to do the work; False where the answer of an earlier run is at hand."""
        return self._is_first

    @property
    def answer(self) -> Any:
        """What the block gives: set by the body that does the work, else the first run's."""
        return self._answer

    @answer.setter
    def answer(self, value: Any) -> None:
        if not self._is_first:
            raise IdempotencyConfigError(
                "this block has its answer from an earlier run; do the work only `if block.is_first`"
            )
        if not self._is_entered:
            raise IdempotencyConfigError(
                f"the answer of the block {self._plan.key_prefix!r} is set outside of it, where nothing stores it; set "
                "it inside"
            )
        self._answer = value

    def __enter__(self) -> Self:
        if not isinstance(self._store, BasePersistenceLayer):
            raise IdempotencyConfigError(
                f"persistence_store={type(self._store).__name__} is asynchronous: write `async with`"
            )
        call = self._begin()
        if call is None:
            return self
        flow, ports = idempotent_call(call), SyncPorts(self._store)
        step: Any = None
        try:
            step = known_answer(call) or drive(flow, ports, call=call)
            self._entered(step, flow, ports, self._store, heart.start)
            return self
        except BaseException as error:
            if not isinstance(step, Invoke):
                raise
            end = drive(flow, ports, self._abandoned(error))  # as where no function could begin
        conclude(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        run = self._run
        if run is None:
            return
        if error is None:
            run.op.came = self._answer
        step: Ending | None = None
        try:
            step = run.ended(error)
            end = drive(run.flow, run.ports, step)
        except BaseException:  # a signal struck, or a listener raised more than an Exception
            run.running.stop()
            drive(interrupted(run.op.call, run.op, step), run.ports)
            raise
        finally:
            self._run = None
        _left(end, error)

    async def __aenter__(self) -> Self:
        call = self._begin()
        if call is None:
            return self
        store = awaitable_layer(self._store)
        flow, ports = idempotent_call(call), AsyncPorts(store)
        step: Any = None
        try:
            step = known_answer(call) or await drive_async(flow, ports, call=call)
            self._entered(step, flow, ports, store, start_async)
            return self
        except BaseException as error:
            if not isinstance(step, Invoke):
                raise
            end = await drive_async(flow, ports, self._abandoned(error))
        conclude(end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_entered = False
        run, self._run = self._run, None
        if run is None:
            return
        if error is None:
            run.op.came = self._answer
        step: Ending | None = None
        try:
            if isinstance(error, GeneratorExit):
                run.running.stop()  # nothing may be awaited any more; the key is free when the lease ends
                return
            step = run.ended(error)
            run.ports.interrupted = error is not None and not isinstance(error, Exception)
            end = await drive_async(run.flow, run.ports, step)
        except GeneratorExit:
            raise  # as above
        except BaseException:  # as in `__exit__`
            run.running.stop()
            await drive_async(interrupted(run.op.call, run.op, step), run.ports)
            raise
        _left(end, error)

    def _begin(self) -> Call | None:
        """Begin anew: one object may be entered again, but not while it is entered."""
        if self._run is not None:
            raise IdempotencyConfigError(f"this block {self._plan.key_prefix!r} is entered already; make another one")
        self._is_first, self._is_entered, self._answer = True, True, None
        return None if switch.is_off() else begin_call(self._plan, self._payload)

    def _entered(
        self, step: Any, flow: Flow[Ending], ports: Any, store: AnyLayer, start_beat: Callable[[Running], Beat]
    ) -> None:
        if isinstance(step, Invoke):
            self._run = run = _Run(flow, step, ports)
            run.running.start(step, store, start_beat)
        else:
            self._is_first = False
            self._answer = conclude(step)

    def _abandoned(self, error: BaseException) -> Raised:
        """Its body cannot begin: no thread for the heartbeat, or a signal struck."""
        run, self._run = self._run, None
        if run is not None:
            run.running.abandon()
        return Raised(error)


def _left(end: Ending, error: BaseException | None) -> None:
    if isinstance(end, Raised) and end.error is not error:
        conclude(end)


class _Entered(Running):
    """A run that ends when its block is left.

    The context holds it too, though nobody may be there to leave it any more: a signal struck where `__exit__` begins,
    say. Its key must not be kept for as long as the process lives then. The heartbeat looks whether it is so, since a
    signal that strikes in a `__del__` is lost.
    """

    __slots__ = ("block",)

    block: ref[_Run]

    def is_deserted(self) -> bool:
        return self.block() is None or super().is_deserted()


class _Run:
    """The block's run under way."""

    __slots__ = ("__weakref__", "flow", "op", "ports", "running")

    def __init__(self, flow: Flow[Ending], op: Invoke, ports: Any) -> None:
        self.flow = flow
        self.op = op
        self.ports = ports  # sync ones or async ones, as it was entered
        self.running = _Entered()
        self.running.block = ref(self)

    def ended(self, error: BaseException | None) -> Ending:
        self.running.stop()
        return self.running.returned(self.op.came) if error is None else self.running.raised(error)
