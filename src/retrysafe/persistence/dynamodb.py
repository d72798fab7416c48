"""The DynamoDB layer: records in a table, of Powertools' form, with boto3 or with aiobotocore.

Each method of the contract is one conditional request on one item: two for a first call, one for a replay. What it
costs, what the table must be like and who needs which permission stands in docs/dynamodb.md; `check()` tells what is
wrong with a table, and `create_table()` makes one that is right, as does

    python -m retrysafe.persistence.dynamodb create-table NAME
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from retrysafe.locks import new_lock
from retrysafe.persistence._courses import carried_out
from retrysafe.persistence._dynamodb.async_layer import AsyncDynamoDBPersistenceLayer
from retrysafe.persistence._dynamodb.clients import opens_with_the_layer
from retrysafe.persistence._dynamodb.settings import Settings
from retrysafe.persistence._dynamodb.tables import DynamoDBFinding
from retrysafe.persistence._forks import begin_anew_in_children, leave_to_parent
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.wire import AttributeNames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boto3 import Session
    from botocore.config import Config

    from retrysafe.clock import Clock
    from retrysafe.persistence._dynamodb.clients import Backend
    from retrysafe.persistence._dynamodb.steps import Steps
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

T = TypeVar("T")

__all__ = ["AsyncDynamoDBPersistenceLayer", "DynamoDBFinding", "DynamoDBPersistenceLayer"]


class DynamoDBPersistenceLayer(BasePersistenceLayer):
    """Records in a DynamoDB table, for synchronous callers.

    The client is opened at the first call; in Lambda with the layer, since there the first call has an invocation's
    timeout before it, and what is made before the first invocation has not.

    Args:
        table_name: The table, or its ARN. "" or None is one that is not known yet: calls are refused until the
            attribute `table_name` is set.
        key_attr: The name of its partition key, a string. Default: `"id"`.
        static_pk_value: What the partition key holds where there is a sort key. Default: `idempotency#` and the
            name of the Lambda function.
        sort_key_attr: The name of its sort key, a string, which then holds the idempotency key. Default: none.
        expiry_attr: What the attributes of a record are called; these five.
        in_progress_expiry_attr: See there.
        status_attr: See there.
        data_attr: See there.
        validation_key_attr: See there.
        boto_config: A `botocore.config.Config`. Where it says nothing, a request waits for 2 s to connect and for 5 s
            to be answered, and is tried 6 times.
        boto3_session: A `boto3.Session`. Default: a new one.
        boto3_client: A client `boto3.client("dynamodb")`, used as it is and never closed by the layer; `boto_config`,
            `boto3_session`, `region_name` and `endpoint_url` are ignored then.
        region_name: The region. Default: the session's.
        endpoint_url: The endpoint. Default: the region's.
        clock_skew_limit_seconds: Beyond how much a wrong clock of this machine is reported. Default: 5. Leases and
            windows are corrected in any case.
        clock: What judges windows and leases, and is believed. Default: the machine's, corrected by the service's.

    Raises:
        IdempotencyPersistenceConfigError: An argument is wrong, or botocore is not installed. From a call: the table,
            its key, the permissions, the credentials or the region are missing or wrong; nothing ran. In Lambda what
            keeps the client from being opened, such as a missing region, is told here, whichever error it is.
        IdempotencyPersistenceConnectionError: From a call: DynamoDB cannot be reached.
        IdempotencyPersistenceConsistencyError: From a call: what stands under the key is no record.
        IdempotencyPersistenceLayerError: From a call: the table is throttled, or refuses the request.
    """

    _peers_own = frozenset({"_get_key", "_item_to_data_record"})

    def __init__(
        self,
        table_name: str,
        key_attr: str = "id",
        static_pk_value: str | None = None,
        sort_key_attr: str | None = None,
        expiry_attr: str = "expiration",
        in_progress_expiry_attr: str = "in_progress_expiration",
        status_attr: str = "status",
        data_attr: str = "data",
        validation_key_attr: str = "validation",
        boto_config: Config | None = None,
        boto3_session: Session | None = None,
        boto3_client: Any = None,
        *,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        clock_skew_limit_seconds: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        self._settings = Settings(
            table_name,
            key_attr,
            static_pk_value,
            sort_key_attr,
            AttributeNames(expiry_attr, in_progress_expiry_attr, status_attr, data_attr, validation_key_attr),
            clock=self.clock,
            clock_skew_limit_seconds=clock_skew_limit_seconds,
            config=boto_config,
            session=boto3_session,
            client=boto3_client,
            region_name=region_name,
            endpoint_url=endpoint_url,
            asynchronous=False,
        )
        self._steps = self._settings.steps
        # `mock.patch.object` deletes an attribute, and sets the one before where none is left.
        self._taken: set[str] = set()
        self._opened: tuple[Backend, Callable[[], None]] | None = None
        self._begin()
        begin_anew_in_children(self._begin)
        if opens_with_the_layer() and table_name:
            self._open()

    def _begin(self) -> None:
        if self._opened is not None:  # by the parent, on whose connections a forked child must not speak
            leave_to_parent(self._opened[0])
            self._opened = None
        self._opening = new_lock()

    def _put_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.put(data_record))

    def _get_record(self, idempotency_key: str) -> DataRecord:
        return self._carry_out(self._steps.get(idempotency_key))

    def _update_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.update(data_record))

    def _delete_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.delete(data_record))

    def _renew_record(self, data_record: DataRecord) -> None:
        self._carry_out(self._steps.renew(data_record))

    def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        backend = self._backend()
        rounds, threads = self._settings.many.for_each(operation, arguments, backend.has), backend.threads.of(operation)
        return carried_out(rounds, partial(threads.outcomes, self._carry_out))

    @property
    def table_name(self) -> str:
        """The table. Setting it is for tests, before calls or between them."""
        self._check_stands("table_name")
        return self._settings.table_name

    @table_name.setter
    def table_name(self, table_name: str) -> None:
        self._settings.use_table(table_name)
        self._steps = self._settings.steps
        self._taken.discard("table_name")
        self.close()

    @table_name.deleter
    def table_name(self) -> None:
        self._taken.add("table_name")

    @property
    def client(self) -> Any:
        """The client, opened now if it was not yet. Setting another is for tests, before calls or between them."""
        self._check_stands("client")
        return self._backend().client

    @client.setter
    def client(self, client: Any) -> None:
        self._settings.use_client(client)
        self._taken.discard("client")
        self.close()

    @client.deleter
    def client(self) -> None:
        self._taken.add("client")

    def _check_stands(self, name: str) -> None:
        if name in self._taken:
            raise AttributeError(f"{name} was deleted")

    @property
    def clock_skew_seconds(self) -> float:
        """By how much this machine's clock is corrected: how far DynamoDB's is surely ahead; negative: behind."""
        return self._settings.time.skew_ms / 1000

    def check(self) -> list[DynamoDBFinding]:
        """What is wrong with the table, or with this machine's clock; empty where nothing is. Two requests.

        Raises:
            IdempotencyPersistenceLayerError: The table cannot be asked; of the same kinds as from a call.
            IdempotencyPersistenceConfigError: Nor with these credentials, or in this region.
        """
        return self._carry_out(self._settings.tables.check())

    def create_table(self) -> None:
        """Make the table, paid by request and with time to live, and wait until it is there. Safe to repeat.

        Raises:
            IdempotencyPersistenceConfigError: A table of this name has another key, or removes by another attribute;
                this is not permitted; or `table_name` is an ARN.
            IdempotencyPersistenceConnectionError: It did not come up within a minute.
        """
        self._carry_out(self._settings.tables.create())

    def close(self) -> None:
        """Close the client, if the layer opened it. A later call opens another."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            for threads in opened[0].threads:
                threads.close()
            opened[1]()

    def _carry_out(self, steps: Steps[T]) -> T:
        backend = self._backend()
        reply = None
        try:
            while True:
                reply = backend.run(steps.send(reply))
        except StopIteration as stop:
            answer: T = stop.value
            return answer

    def _backend(self) -> Backend:
        return (self._opened or self._open())[0]

    def _open(self) -> tuple[Backend, Callable[[], None]]:
        with self._opening:
            if self._opened is None:
                self._opened = self._settings.open()
            return self._opened


if __name__ == "__main__":
    from retrysafe.persistence._dynamodb.cli import main

    sys.exit(main(DynamoDBPersistenceLayer))
