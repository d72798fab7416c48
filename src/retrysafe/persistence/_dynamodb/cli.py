"""The command line of the DynamoDB layer: makes a table, or tells what is wrong with one."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Protocol

from retrysafe.exceptions import IdempotencyBaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager


class Table(Protocol):
    """What is taken from the layer."""

    def create_table(self) -> None:
        """Make the table."""
        ...

    def check(self) -> Sequence[object]:
        """What is wrong with it, each a line when it is printed."""
        ...


def main(make_layer: Callable[..., AbstractContextManager[Table]], arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line: 0, or 1 where something is wrong, which is printed.

    Args:
        make_layer: The layer's class.
        arguments: Default: those of the process.
    """
    given = vars(_parser().parse_args(arguments))
    command = given.pop("command")
    try:
        with make_layer(**given) as layer:
            if command == "create-table":
                layer.create_table()
            findings = layer.check()
    except IdempotencyBaseError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a program for a person
        return 1
    for finding in findings:
        print(finding, file=sys.stderr)  # noqa: T201  # the same
    if not findings:
        print(f"{given['table_name']}: nothing is wrong")  # noqa: T201  # the same
    return 1 if findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m retrysafe.persistence.dynamodb",
        description="Makes a table for idempotency records, or checks one. "
        "Credentials, profile and region are found as boto3 finds them.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("create-table", "make the table, paid by request, with time to live; one that is right is left as it is"),
        ("check", "tell what is wrong with the table"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("table_name")
        command.add_argument("--region", dest="region_name", help="the region; default: boto3's")
        command.add_argument("--endpoint-url", help="the endpoint; default: the region's")
        command.add_argument("--key-attr", default="id", help="the partition key; default: %(default)s")
        command.add_argument("--sort-key-attr", help="the sort key; default: none")
        command.add_argument("--expiry-attr", default="expiration", help="the window's end; default: %(default)s")
    return parser
