"""The layer's `_for_each`: one of the five methods for many records, in few requests where that can be. No I/O.

Each record has the course that it has alone, `RecordSteps`, with all rules of owners, windows and clocks in it. Only
the first request of a course may travel as a statement beside others, and only a reply that says for certain what
PutItem would have said is handed to it. Whatever else comes back, that record begins anew and goes by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retrysafe.persistence._dynamodb.commands import REFUSED, Command
from retrysafe.persistence._dynamodb.errors import code_of
from retrysafe.persistence._dynamodb.statements import (
    DENIED,
    DUPLICATE,
    MOST_READS,
    MOST_STATEMENTS,
    READS,
    STATEMENTS,
    Statements,
    is_unsupported,
    together,
)
from retrysafe.persistence.many import as_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from retrysafe.persistence._dynamodb.service_time import ServiceTime
    from retrysafe.persistence._dynamodb.steps import RecordSteps, Steps
    from retrysafe.persistence.many import Operation, Outcome

Rounds: TypeAlias = Generator["list[Steps[Any]]", list[Any], "list[Outcome]"]
"""Yields courses that may go side by side, is sent what each came to: what it returned, or the error that it raised."""

_OPEN: Any = object()

_PERMISSIONS: Final = {
    STATEMENTS: "dynamodb:PartiQLInsert and dynamodb:PartiQLUpdate are",
    READS: "dynamodb:BatchGetItem is",
}


class ManySteps:
    """The five methods, for many records each.

    Args:
        steps: The methods.
        time: The time that judges.
        statements: Makes statements of their requests.
        where: The table, as a person knows it.
    """

    __slots__ = ("_given_up", "_statements", "_steps", "_time", "_where")

    def __init__(self, steps: RecordSteps, time: ServiceTime, statements: Statements, where: str) -> None:
        self._steps = steps
        self._time = time
        self._statements = statements
        self._where = where
        self._given_up: dict[str, object] = {}

    def for_each(self, operation: Operation, arguments: Sequence[Any], has: Callable[[str], bool]) -> Rounds:
        """See `BasePersistenceLayer._for_each`.

        Args:
            operation: Which method.
            arguments: What it takes, for each.
            has: Whether the client has an operation.
        """
        method: Callable[[Any], Steps[Any]] = getattr(self._steps, operation)
        if operation in ("put", "renew") and arguments and self._time.must_be_asked:
            yield [self._steps.asked(arguments[0])]  # once for all; if that fails, each finds out for itself
        courses = _Courses(method, arguments)
        if operation in ("put", "update") and self._may(STATEMENTS, has):
            refused = yield from self._first_together(operation, courses)
            if operation == "put" and len(refused) > 1 and self._may(READS, has):
                yield from self._judged(refused, courses)
        left = courses.left()
        for number, outcome in zip(left, (yield list(left.values())) if left else (), strict=True):
            courses.outcomes[number] = outcome
        return courses.outcomes

    def _first_together(
        self, operation: Operation, courses: _Courses
    ) -> Generator[list[Steps[Any]], list[Any], list[int]]:
        """Send the first requests together; the numbers of those whose key is taken."""
        statements: dict[int, dict[str, Any]] = {}
        keys: set[str] = set()
        for number, record in enumerate(courses.arguments):
            key = record.idempotency_key
            # The service refuses the whole request where a key comes twice.
            if key in keys or not self._statements.take(operation, record):
                continue
            command = courses.begin(number)
            statement = None if command is None else self._statements.statement(operation, command)
            if statement is not None:
                statements[number] = statement
                keys.add(key)
        if len(statements) < 2:  # noqa: PLR2004  # nothing to put together
            return []
        portions = _portions(list(statements), MOST_STATEMENTS)
        replies = yield [_sent(together([statements[number] for number in portion])) for portion in portions]
        taken: list[int] = []
        for portion, reply in zip(portions, replies, strict=True):
            taken += self._understood(portion, reply, courses)
        return taken

    def _understood(self, portion: list[int], reply: Any, courses: _Courses) -> list[int]:
        """Hand on what the reply to a request says for certain; the numbers of those whose key is taken."""
        if not self._is_answer(STATEMENTS, reply):
            return []
        responses: list[dict[str, Any]] = reply.get("Responses", [])
        if len(responses) != len(portion):
            return []
        taken: list[int] = []
        for number, each in zip(portion, responses, strict=True):
            code = each["Error"].get("Code", "") if "Error" in each else None
            if code is None:
                courses.go_on(number, {"ResponseMetadata": reply.get("ResponseMetadata")})
            elif code == DUPLICATE:
                taken.append(number)
            elif code in DENIED or is_unsupported(each):
                self._give_up(STATEMENTS, each)
        return taken

    def _judged(self, refused: list[int], courses: _Courses) -> Generator[list[Steps[Any]], list[Any], None]:
        """Read what stands in the way of claims, and hand it to them as the refusal that shows it."""
        portions = _portions(refused, MOST_READS)
        keys = {number: str(courses.arguments[number].idempotency_key) for number in refused}
        replies = yield [_sent(self._statements.read([keys[number] for number in portion])) for portion in portions]
        for portion, reply in zip(portions, replies, strict=True):
            if not self._is_answer(READS, reply):
                continue
            found = self._statements.found(reply)
            for number in portion:
                item: Mapping[str, Any] | None = found.get(keys[number])
                if item is not None:  # or it has gone meanwhile, or was too much for one reply
                    metadata = reply.get("ResponseMetadata")
                    courses.go_on(number, {"Error": {"Code": REFUSED}, "Item": item, "ResponseMetadata": metadata})

    # --- what the service does not let us do ------------------------------------------------------------------------

    def _may(self, operation: str, has: Callable[[str], bool]) -> bool:
        return self._statements.are_possible and operation not in self._given_up and has(operation)

    def _is_answer(self, operation: str, reply: Any) -> bool:
        """Whether it is one; a request that is not permitted, or not known, is not sent again."""
        if isinstance(reply, Exception):
            return False
        if "Error" not in reply:
            return True
        if code_of(reply) in DENIED or is_unsupported(reply):
            self._give_up(operation, reply)
        return False

    def _give_up(self, operation: str, reply: Any) -> None:
        """Go by single requests from now on, and say so once."""
        mine = object()
        if self._given_up.setdefault(operation, mine) is not mine:
            return
        import logging  # noqa: PLC0415  # rarely needed, and slow to load

        log, said = logging.getLogger("retrysafe"), reply["Error"].get("Message", "")
        if is_unsupported(reply):
            log.info("%s: the server has no %s, so batches take longer", self._where, operation)
            return
        log.warning(
            "%s: %s not permitted to this role or user, so each record of a batch goes in a request of its own, "
            "which takes several times as long: %s",
            self._where,
            _PERMISSIONS[operation],
            said,
        )


class _Courses:
    """The courses of the records, by number: which have ended, and which are under way.

    Attributes:
        arguments: What the method takes, for each.
        outcomes: What each has come to.
    """

    __slots__ = ("_begun", "_further", "_method", "arguments", "outcomes")

    def __init__(self, method: Callable[[Any], Steps[Any]], arguments: Sequence[Any]) -> None:
        self._method = method
        self._begun: dict[int, Steps[Any]] = {}
        self._further: dict[int, Steps[Any]] = {}
        self.arguments = arguments
        self.outcomes: list[Any] = [_OPEN] * len(arguments)

    def begin(self, number: int) -> Command | None:
        """The first request of a course; None where it fails before."""
        course = self._method(self.arguments[number])
        try:
            command: Command = next(course)
        except Exception:  # noqa: BLE001  # raised again, where it goes by itself
            return None
        self._begun[number] = course
        return command

    def go_on(self, number: int, reply: Any) -> None:
        """Hand a course the reply to its first request."""
        course = self._begun.pop(number)
        try:
            command = course.send(reply)
        except StopIteration as stop:
            self.outcomes[number] = stop.value
        except Exception as error:  # noqa: BLE001  # the outcome of this one
            self.outcomes[number] = as_outcome(error)
        else:
            self._further[number] = _resumed(course, command)

    def left(self) -> dict[int, Steps[Any]]:
        """The courses to be carried out one by one: the rest of each, or all of it."""
        return {
            number: self._further.get(number) or self._method(self.arguments[number])
            for number, outcome in enumerate(self.outcomes)
            if outcome is _OPEN
        }


def _sent(command: Command) -> Steps[Any]:
    return (yield command)


def _resumed(course: Steps[Any], command: Command) -> Steps[Any]:
    """The rest of a course that has asked for a further request."""
    while True:
        reply = yield command
        try:
            command = course.send(reply)
        except StopIteration as stop:
            return stop.value


def _portions(numbers: list[int], most: int) -> list[list[int]]:
    return [numbers[at : at + most] for at in range(0, len(numbers), most)]
