"""One life of a process in a crash test: the points that its call passes, and the one at which it dies.

A life ends the store's part in a call for good: whatever the dead call still asks of the store is refused.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyLeaseLostError
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.testing._crash.user_code import code_of, def_line, with_inner

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType, FrameType
    from typing import TypeAlias

    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

    AnyLayer: TypeAlias = BasePersistenceLayer | AsyncBasePersistenceLayer

Kind = Literal["none", "store", "line", "await"]
Phase = Literal["unclaimed", "running", "completed"]

_STORE_WORDS = {
    "put": "the claim was stored",
    "get": "the record was read",
    "update": "the answer was stored",
    "delete": "the key was released",
}


class Killed(BaseException):
    """Takes a call down where its process dies. Not an Exception, so that few handlers stop it on its way."""


class Spot(NamedTuple):
    """A point at which a process can die.

    Attributes:
        kind: What makes it a point: an operation of the store, a line or an await.
        what: When the process dies, for a reader.
        file: The file of the user's code that is under way; "" where none is known.
        line: The line in it.
        function: The function that it belongs to.
    """

    kind: Kind
    what: str
    file: str = ""
    line: int = 0
    function: str = ""


NOWHERE = Spot("none", "nowhere; a duplicate follows")


class Life:
    """A process from its start to its end, in which the user's function is called once.

    Args:
        layer: Where records are kept, beyond this life.
        kill_at: The number of the point at which it dies, from 0. None: it lives on.
        whole_file: Whether lines of other functions in the same file are points too.
        die: What ends it. Default: raises `Killed`.

    Attributes:
        spots: The points passed so far.
        killed: The point of its death.
        leases: The ends of the leases of claims that it holds, in milliseconds, by key; None where a claim has none.
        keys: The keys that it claimed or tried to.
        abandoned: Those under which an earlier run was abandoned, which it did not take over.
        runs: How often an idempotent function was run.
        ran_on: Whether code of the user's function ran after the death, as it does not in a process that is killed.
        in_store: How many operations of the store are under way.
        on_death: Called when it dies in this process.
    """

    def __init__(
        self,
        layer: AnyLayer,
        *,
        kill_at: int | None = None,
        whole_file: bool = False,
        die: Callable[[Life], NoReturn] | None = None,
    ) -> None:
        self.layer = layer
        self.spots: list[Spot] = []
        self.killed: Spot | None = None
        self.leases: dict[str, int | None] = {}
        self.keys: list[str] = []
        self.abandoned: set[str] = set()
        self.runs = 0
        self.ran_on = False
        self.in_store = 0
        self.on_death: Callable[[], None] | None = None
        self._kill_at = kill_at
        self._whole_file = whole_file
        self._die = die
        self._completed = False
        self._codes: set[CodeType] = set()
        self._files: set[str] = set()
        self._last: Spot = NOWHERE

    @property
    def phase(self) -> Phase:
        """How far its calls have come, as the store knows it."""
        if self.leases:
            return "running"
        return "completed" if self._completed else "unclaimed"

    # --- the user's code ------------------------------------------------------------------------------------------

    def meet(self, function: Any) -> None:
        """A function of the user's is called: its lines are points, unless it is no more than a lambda."""
        code = code_of(function)
        if code is None or code.co_name == "<lambda>":
            return
        self._codes |= with_inner(code)
        if self._whole_file:
            self._files.add(code.co_filename)
        if self._last is NOWHERE:
            self._last = Spot("none", "", code.co_filename, def_line(code), code.co_qualname)

    def watches(self, code: CodeType) -> bool:
        """Whether the lines of this function are points."""
        return code in self._codes or code.co_filename in self._files

    def at(self, kind: Kind, what: str, frame: FrameType | None) -> None:
        """The user's code has come to this point, in this frame."""
        if frame is not None:
            code = frame.f_code
            self._last = Spot(kind, what, code.co_filename, frame.f_lineno, code.co_qualname)
            self.reach(self._last)

    def reach(self, spot: Spot) -> None:
        """Pass a point, or die there."""
        if self.killed is not None:
            return
        self.spots.append(spot)
        if len(self.spots) - 1 != self._kill_at:
            return
        self.killed = spot
        if self._die is not None:
            self._die(self)
        if self.on_death is not None:
            self.on_death()
        sys.setprofile(self._look_back)
        raise Killed(spot.what)

    def _look_back(self, frame: FrameType, event: str, _: Any) -> None:
        """See whether the user's function calls anything after its death: in a `finally`, an `except`, a `with`."""
        caller = frame
        if event == "call":
            # One that begins; a coroutine into which the death is thrown shows as a call too, at the line it waits in.
            if frame.f_back is None or frame.f_lineno != frame.f_code.co_firstlineno:
                return
            caller = frame.f_back
        elif event != "c_call":
            return
        own = str(frame.f_globals.get("__name__", "")).startswith("retrysafe.")
        if self.watches(caller.f_code) and not own:
            self.ran_on = True

    # --- the store ------------------------------------------------------------------------------------------------

    @contextmanager
    def operation(self, name: str, record: DataRecord | None = None) -> Generator[None]:
        """Around an operation of the store: a point before it, and one after it took effect."""
        self.refuse()
        if name == "put" and record is not None and record.idempotency_key not in self.keys:
            self.keys.append(record.idempotency_key)
        self.reach(self._store_spot(f"before {_STORE_WORDS[name]}"))
        self.in_store += 1
        try:
            yield
        except IdempotencyItemAlreadyExistsError as refusal:
            self._note_standing(refusal.old_data_record)
            raise
        finally:
            self.in_store -= 1
        if record is not None:
            self._note(name, record)
        self.reach(self._store_spot(f"after {_STORE_WORDS[name]}; the reply is lost"))

    def refuse(self) -> None:
        """Refuse what a dead process would ask."""
        if self.killed is not None:
            raise Killed(self.killed.what)

    def refuse_renewal(self) -> None:
        """Refuse a dead process's heartbeat, in the way that ends it."""
        if self.killed is not None:
            raise IdempotencyLeaseLostError("its process is dead")

    def _store_spot(self, what: str) -> Spot:
        return self._last._replace(kind="store", what=what)

    def _note(self, name: str, record: DataRecord) -> None:
        if name == "put":
            self.leases[record.idempotency_key] = record.in_progress_expiry_timestamp
            self.abandoned.discard(record.idempotency_key)
        else:
            self.leases.pop(record.idempotency_key, None)
            self._completed = self._completed or name == "update"

    def _note_standing(self, found: DataRecord | None) -> None:
        if found is not None and found.stored_status == INPROGRESS:
            now = self.layer.clock.now_ms() if found.read_at_ms is None else found.read_at_ms
            if found.lease_over(now):
                self.abandoned.add(found.idempotency_key)
