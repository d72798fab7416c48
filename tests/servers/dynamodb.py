"""Servers that speak DynamoDB's interface: Amazon's own for the desk, dynoxide, and moto."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

from servers import programs
from servers.processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REGION = "eu-central-1"
_SECONDS = 30.0
# None of these servers checks the signature, but all want one.
_SIGNED = f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/dynamodb/aws4_request, SignedHeaders=host, Signature=00"


class DynamoDBError(Exception):
    """What the server refused, as it said it."""


class DynamoDBServer(ServerProcess):
    """What the three have in common: they keep their tables in memory, so that a restart loses them.

    Two can be told to keep them in files, by `on_disk`.
    """

    @property
    def url(self) -> str:
        """The endpoint, plain HTTP."""
        return f"http://{self.host}:{self.port}"

    @property
    def client_arguments(self) -> dict[str, str]:
        """Keyword arguments for `boto3.client("dynamodb", ...)` and for aiobotocore's."""
        return {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }

    def is_ready(self) -> bool:
        self.command("ListTables", {})
        return True

    def command(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """One operation, past every client library.

        Raises:
            DynamoDBError: the answer is not 200.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_SECONDS)
        headers = {
            "Authorization": _SIGNED,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Date": "20260101T000000Z",
            "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        }
        try:
            connection.request("POST", "/", json.dumps(parameters), headers)
            response = connection.getresponse()
            body = response.read()
        except http.client.HTTPException as error:
            raise ConnectionResetError(f"no answer to {operation}: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise DynamoDBError(f"{response.status}: {body.decode(errors='replace')}")
        return json.loads(body)

    def create_table(self, name: str, key: str = "id", sort_key: str | None = None) -> None:
        """A table with string keys, paid per request."""
        names = [key] if sort_key is None else [key, sort_key]
        self.command(
            "CreateTable",
            {
                "TableName": name,
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
                "KeySchema": [
                    {"AttributeName": name, "KeyType": kind}
                    for name, kind in zip(names, ("HASH", "RANGE"), strict=False)
                ],
                "BillingMode": "PAY_PER_REQUEST",
            },
        )


class DynamoDBLocal(DynamoDBServer):
    """Amazon's own: atomic, returns the old item on a failed condition, deletes by TTL.

    It cannot be told to listen on 127.0.0.1 alone.
    """

    def __init__(self, java: Path, directory: Path, *, on_disk: bool = False) -> None:
        super().__init__("dynamodb-local")
        self._java = java
        self._home = directory
        self._where = ["-dbPath", str(self.directory)] if on_disk else ["-inMemory"]

    def arguments(self) -> Sequence[str]:
        return [
            str(self._java),
            "-Xmx512m",
            f"-Djava.library.path={self._home / 'DynamoDBLocal_lib'}",
            f"-Djava.io.tmpdir={self.directory}",  # where it unpacks a library, and leaves it
            "-jar",
            str(self._home / "DynamoDBLocal.jar"),
            *self._where,
            "-sharedDb",  # one set of tables, whatever the region and the credentials
            "-disableTelemetry",
            "-port",
            str(self.port),
        ]


class Dynoxide(DynamoDBServer):
    """Small and quick: atomic, returns the old item on a failed condition, never deletes by TTL."""

    def __init__(self, program: Path, *, on_disk: bool = False) -> None:
        super().__init__("dynoxide")
        self._program = program
        self._where = ["--db-path", str(self.directory / "tables.db")] if on_disk else []

    def arguments(self) -> Sequence[str]:
        return [str(self._program), "--host", self.host, "--port", str(self.port), *self._where]


class Moto(DynamoDBServer):
    """Not atomic: two may both win a conditional write. A broken store for a suite to catch, no proof of anything."""

    def __init__(self, python: Path) -> None:
        super().__init__("moto")
        self._python = python

    def arguments(self) -> Sequence[str]:
        return [str(self._python), "-m", "moto.server", "-H", self.host, "-p", str(self.port)]


def dynamodb_local() -> DynamoDBLocal:
    return DynamoDBLocal(*programs.dynamodb_local())


def dynoxide() -> Dynoxide:
    return Dynoxide(programs.dynoxide())


def moto() -> Moto:
    return Moto(programs.moto())
