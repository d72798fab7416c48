"""Powertools and retrysafe with the same options: the same key, the same record, and each replays the other's answer.

The options are in options.py; each row runs on each of the stores, in both directions.
"""

from __future__ import annotations

import importlib
import itertools
import json

import pytest
import redis

from fleet.options import CASES, Context
from fleet.stores import DynamoDBStore
from support.dynamodb_support import client_at

PEER, OURS = "aws_lambda_powertools.utilities.idempotency", "retrysafe"
BOTH = [(PEER, OURS), (OURS, PEER)]
OWN_ATTRIBUTES = {"owner", "attempt", "types"}
RENAMED = {
    "expiry_attr": "ends",
    "in_progress_expiry_attr": "lease",
    "status_attr": "state",
    "data_attr": "answer",
    "validation_key_attr": "digest",
}
COMPOSITE = {"key_attr": "service", "sort_key_attr": "operation"}
LAYERS = {
    "table": {},
    "renamed table": {"key_attr": "key", **RENAMED},
    "sort key": COMPOSITE,
    "sort key, static_pk_value, renamed": COMPOSITE | RENAMED | {"static_pk_value": "payments"},
    "cache": {},
    "renamed cache": RENAMED,
}
_numbers = itertools.count(1)

# Powertools tells of its own next version when its cache layer is made.
pytestmark = pytest.mark.filterwarnings("ignore:.*RedisCachePersistenceLayer will be removed:DeprecationWarning")


class Stand:
    """A store, a layer on it of either library, and what stands there under a function's name."""

    def __init__(self, kind, cache, server):
        self.options = LAYERS[kind]
        self.in_cache = "cache" in kind
        self._cache = cache
        if not self.in_cache:
            store = DynamoDBStore(server, **self.options)
            self.spec, self._command = store.spec, server.command
            self._client = client_at(server.url)

    def layer(self, library):
        if self.in_cache:
            client = redis.Redis(self._cache.host, self._cache.port)
            return importlib.import_module(f"{library}.persistence.cache").CachePersistenceLayer(
                client=client, **self.options
            )
        return importlib.import_module(library).DynamoDBPersistenceLayer(
            self.spec["table"], boto3_client=self._client, **self.options
        )

    def standing(self, name):
        """Keys and records of the function, without what differs: times, what is ours, and a lease that has ended."""
        if self.in_cache:
            keys = self._cache.command("KEYS", f"*{name}#*")
            found = [({"key": key.decode()}, json.loads(self._cache.command("GET", key))) for key in keys]
        else:
            items = self._command("Scan", {"TableName": self.spec["table"], "ConsistentRead": True})["Items"]
            plain = [{each: next(iter(value.values())) for each, value in item.items()} for item in items]
            parts = [self.options.get("key_attr", "id"), self.options.get("sort_key_attr")]
            found = [
                ({part: item.pop(part) for part in parts if part}, item) for item in plain if name in json.dumps(item)
            ]
        left_out = OWN_ATTRIBUTES | {self.options.get(f"{each}_attr", default) for each, default in _TIMES.items()}
        return [
            (json.dumps(key).replace(name, "charge"), {each: record[each] for each in record.keys() - left_out})
            for key, record in found
        ]


_TIMES = {"expiry": "expiration", "in_progress_expiry": "in_progress_expiration"}


@pytest.fixture(scope="session", params=LAYERS)
def stand(request, valkey_91, dynoxide):
    return Stand(request.param, valkey_91, dynoxide)


class Function:
    """The function of a case, decorated by either library; `ran` tells by which it ran."""

    def __init__(self, case, stand):
        self.name = f"charge_{next(_numbers)}"
        self.ran = []
        self.seen = []
        self._case = case
        self._decorated = {library: self._protected(library, stand.layer(library)) for library in (PEER, OURS)}

    def _protected(self, library, layer):
        def charge(payload):  # it is the key that counts
            self.ran.append(library)
            return self._case.answer

        charge.__qualname__ = self.name
        if self._case.returns is not None:
            charge.__annotations__["return"] = self._case.returns
        module = importlib.import_module(library)
        config = module.IdempotencyConfig(
            lambda_context=Context(),
            response_hook=self._replayed,
            **self._case.config,
        )
        return module.idempotent_function(
            charge,
            data_keyword_argument="payload",
            persistence_store=layer,
            config=config,
            output_serializer=self._case.serializer(library),
        )

    def _replayed(self, answer, record):
        window_end = record.get_expiration_datetime()
        self.seen.append(
            (
                record.idempotency_key,
                record.sort_key,
                record.status,
                record.response_json_as_dict(),
                window_end and window_end.timestamp(),
            )
        )
        return answer

    def call(self, library):
        return self._decorated[library](payload=self._case.payload)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("writer", "reader"), BOTH, ids=["theirs first", "ours first"])
def test_each_replays_what_the_other_completed(stand, name, writer, reader):
    function = Function(CASES[name], stand)
    first = function.call(writer)
    assert [function.call(reader) for _ in range(2)] == [first] * 2
    assert function.ran == [writer]


@pytest.mark.parametrize("name", CASES)
def test_both_write_the_same_record_under_the_same_key(stand, name):
    written = []
    for library in (PEER, OURS):
        function = Function(CASES[name], stand)
        function.call(library)
        ((key, record),) = stand.standing(function.name)
        if stand.in_cache and library == OURS:
            # Powertools' completion in a cache forgets the hash.
            record.pop(stand.options.get("validation_key_attr", "validation"), None)
        written.append((key, record))
    assert written[0] == written[1]


@pytest.mark.parametrize("writer", [PEER, OURS])
def test_hooks_of_both_are_handed_the_same_record_with_its_own_key_from_us(stand, writer):
    function = Function(CASES["whole payload"], stand)
    for library in (writer, PEER, OURS):
        function.call(library)
    assert function.ran == [writer]
    (by_theirs, *theirs), (by_ours, *ours) = function.seen
    if stand.in_cache and stand.options:
        assert theirs.pop() is None  # it never reads a renamed `expiry_attr` back from a cache
        ours.pop()
    assert ours == theirs
    sort_key = ours[0]
    if sort_key is None:
        assert by_ours == by_theirs
    else:
        # Powertools shows the partition key there, which all records have in common.
        assert by_ours == sort_key
        assert by_theirs == stand.options.get("static_pk_value", "idempotency#")
