"""What became of the items of a batch, and how a Lambda function reports those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

from retrysafe.exceptions import IdempotencyConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
R = TypeVar("R")

Status: TypeAlias = Literal["returned", "replayed", "raised", "in_progress", "not_run"]
Identifier: TypeAlias = str | dict[str, Any]


class ItemResult(Generic[T, R]):
    """What became of one item.

    Attributes:
        item: The item.
        item_identifier: What reports call it: a string, or of Kafka's records a dict; None where nobody said.
        status: "returned": the function ran now. "replayed": an earlier run answered, also one of the same batch.
            "raised": the function raised, or the item was refused. "in_progress": another call is running it.
            "not_run": an item before it failed, under `stop_at_failure`.
        answer: What the function returned, now or earlier; None where there is no answer.
        error: What was raised, else None. It has the `response` where the function ran and only storing its answer
            failed.
    """

    __slots__ = ("answer", "error", "item", "item_identifier", "status")

    def __init__(
        self,
        item: T,
        item_identifier: Identifier | None,
        status: Status,
        answer: R | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.item = item
        self.item_identifier = item_identifier
        self.status: Status = status
        self.answer = answer
        self.error = error

    @property
    def ok(self) -> bool:
        """Whether the item is done, so that it need not come again."""
        return self.status in ("returned", "replayed")

    def __repr__(self) -> str:
        error = "" if self.error is None else f" {type(self.error).__name__}"
        return f"<ItemResult {self.item_identifier or ''} {self.status}{error}>".replace("  ", " ")


class BatchResult(Sequence[ItemResult[T, R]]):
    """What became of all items: one `ItemResult` for each, in their order.

    Attributes:
        results: The same as a list.
    """

    __slots__ = ("results",)

    def __init__(self, results: list[ItemResult[T, R]]) -> None:
        self.results = results

    @overload
    def __getitem__(self, index: int) -> ItemResult[T, R]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ItemResult[T, R]]: ...
    def __getitem__(self, index: int | slice) -> ItemResult[T, R] | list[ItemResult[T, R]]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f"<BatchResult of {len(self)}, {len(self.failures)} failed>"

    @property
    def failures(self) -> list[ItemResult[T, R]]:
        """Those that are not done: raised, in progress elsewhere, or not run."""
        return [result for result in self.results if not result.ok]

    def batch_item_failures(self) -> dict[str, list[dict[str, Any]]]:
        """What a Lambda function with `ReportBatchItemFailures` returns: the failures by their identifiers.

        Raises:
            IdempotencyConfigError: An item has no identifier, whether it failed or not. In Lambda the whole batch then
                comes again, and what is done is replayed.
        """
        for result in self.results:
            if result.item_identifier is None:
                raise IdempotencyConfigError(
                    "batch_item_failures() needs an identifier for each item: records of SQS, Kinesis, DynamoDB "
                    f"streams and Kafka have one, {type(result.item).__name__} has not; give item_identifier="
                )
        return {"batchItemFailures": [{"itemIdentifier": each.item_identifier} for each in self.failures]}

    def raise_failures(self) -> None:
        """Raise what the failures raised, as one group; nothing where all items are done.

        Raises:
            BaseExceptionGroup: With the error of each failure that has one.
        """
        failed = self.failures
        if failed:
            errors = [each.error for each in failed if each.error is not None]
            raise BaseExceptionGroup(f"{len(failed)} of {len(self)} items failed", errors)


def identifier_of(item: object) -> Identifier | None:
    """How Lambda calls the record of an event: the message's id, its sequence number, or where it is in Kafka.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/kafka-retry-configurations.html

    Returns:
        The identifier; None for anything else.
    """
    record: Mapping[str, Any] = cast("dict[str, Any]", item) if type(item) is dict else _fields_of(item)
    found = record.get("messageId")
    if isinstance(found, str):
        return found
    for place, name in (("kinesis", "sequenceNumber"), ("dynamodb", "SequenceNumber")):
        if place in record:
            found = _fields_of(record[place]).get(name)
            if isinstance(found, str):
                return found
    if "offset" in record and "partition" in record and "topic" in record:
        return {"partition": f"{record['topic']}-{record['partition']}", "offset": record["offset"]}
    return None


def _fields_of(record: object) -> Mapping[str, Any]:
    """By name: of a dict, of Powertools' data classes, and of the models of its parser; none of anything else."""
    fields: object = getattr(record, "__dict__" if hasattr(type(record), "model_dump") else "raw_event", record)
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}


def identified(items: list[Any], item_identifier: Callable[[Any], str] | None) -> list[Identifier | None]:
    """The identifiers of all items.

    Raises:
        IdempotencyConfigError: What was to tell one of them raised, or told no string.
    """
    if item_identifier is None:
        return [identifier_of(item) for item in items]
    told: list[Identifier | None] = []
    for number, item in enumerate(items):
        try:
            identifier: Any = item_identifier(item)
        except Exception as error:
            raise IdempotencyConfigError(f"item_identifier failed on item {number}; nothing ran", error) from error
        if not isinstance(identifier, str) or not identifier:
            raise IdempotencyConfigError(
                f"item_identifier must tell a string; for item {number} it told {identifier!r}"
            )
        told.append(identifier)
    return told
