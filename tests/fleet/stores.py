"""What the workers of a fleet share, as the tests look at it: past every layer and client library."""

from __future__ import annotations

import hashlib
import itertools
import json

PREFIX = "fleet"
_tables = itertools.count(1)


def digest(key):
    """The digest of the key's JSON text."""
    return hashlib.md5(json.dumps(key).encode(), usedforsecurity=False)


def record_key(key):
    """Under what all workers keep the record of this key."""
    return f"{PREFIX}#{digest(key).hexdigest()}"


class CacheStore:
    """Records in a Redis or Valkey server.

    Args:
        server: One of `servers.standalone`.
    """

    def __init__(self, server):
        self._command = server.command
        self.spec = {"kind": "cache", "host": server.host, "port": server.port}

    def text(self, key):
        """What stands for the key, byte for byte; None where nothing does."""
        return self._command("GET", record_key(key))

    def record(self, key):
        """The attributes of the record; None where none stands."""
        return self.record_under(record_key(key))

    def record_under(self, name):
        """The same, by the record's own key."""
        text = self._command("GET", name)
        return None if text is None else json.loads(text)

    def pass_time(self, key, seconds):
        """Move the record's times back, which is as if time went by for all who judge by them."""
        record = self.record(key)
        record["expiration"] -= seconds
        if "in_progress_expiration" in record:
            record["in_progress_expiration"] -= seconds * 1000
        self.write(key, record)

    def write(self, key, record):
        """Let this record stand."""
        self._command("SET", record_key(key), json.dumps(record), *(["KEEPTTL"] if self.text(key) else ["EX", 3600]))

    def lock(self, key):
        """Take the lock of Powertools workers, as one of them does."""
        self._command("SET", f"{record_key(key)}:lock", "True", "NX", "EX", 10)

    def end_lock(self, key):
        """Let the time of that lock be over."""
        self._command("DEL", f"{record_key(key)}:lock")


class DynamoDBStore:
    """Records in a table of a server that speaks DynamoDB's interface.

    Args:
        server: One of `servers.dynamodb`.
        arguments: More arguments of the layers: the names of the attributes, and the parts of a composite key.
    """

    def __init__(self, server, **arguments):
        self._command = server.command
        self._table = f"fleet-{next(_tables)}"
        server.create_table(self._table, arguments.get("key_attr", "id"), arguments.get("sort_key_attr"))
        self._arguments = arguments
        self.spec = {"kind": "dynamodb", "endpoint": server.url, "table": self._table, "arguments": arguments}

    def record(self, key):
        """The attributes of the record; None where none stands."""
        return self.record_under(record_key(key))

    def record_under(self, name):
        """The same, by the record's own key."""
        found = self._command(
            "GetItem", {"TableName": self._table, "Key": self._item_key(name), "ConsistentRead": True}
        ).get("Item")
        return None if found is None else {attribute: _plain(value) for attribute, value in found.items()}

    def pass_time(self, key, seconds):
        """Move the record's times back, which is as if time went by for all who judge by them."""
        record = self.record(key)
        times = {"expiration": record["expiration"] - seconds}
        if "in_progress_expiration" in record:
            times["in_progress_expiration"] = record["in_progress_expiration"] - seconds * 1000
        self._command(
            "UpdateItem",
            {
                "TableName": self._table,
                "Key": self._item_key(record_key(key)),
                "UpdateExpression": "SET " + ", ".join(f"{name} = :{name}" for name in times),
                "ExpressionAttributeValues": {f":{name}": {"N": str(time)} for name, time in times.items()},
            },
        )

    def write(self, key, record):
        """Let this record stand: what `record` said of another key, of texts and whole numbers alone."""
        item = {name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in record.items()}
        self._command("PutItem", {"TableName": self._table, "Item": item | self._item_key(record_key(key))})

    def _item_key(self, name):
        partition, sort_key = self._arguments.get("key_attr", "id"), self._arguments.get("sort_key_attr")
        if sort_key is None:
            return {partition: {"S": name}}
        return {partition: {"S": self._arguments["static_pk_value"]}, sort_key: {"S": name}}


def _plain(value):
    """A value out of DynamoDB's own notation."""
    ((kind, inner),) = value.items()
    if kind == "N":
        return json.loads(inner)
    if kind == "L":
        return [_plain(item) for item in inner]
    if kind == "M":
        return {name: _plain(item) for name, item in inner.items()}
    return None if kind == "NULL" else inner
