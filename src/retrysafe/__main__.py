"""The command line: shows what a store has under an idempotency key, and resolves a run that never ended.

    python -m retrysafe show --store sqlite:///payments.db shop.charge#6f1ed002ab5595859014ebf0951522d9

`release` and `complete` are what `retrysafe.abandoned` does, for a person without the program at hand. They ask for the
owner that `show` told, so that they change that run alone and no later one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from retrysafe.abandoned import complete_abandoned, release_abandoned
from retrysafe.config import IdempotencyConfig
from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyConfigError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)
from retrysafe.persistence import layer_from_url
from retrysafe.persistence._store_urls import arguments_of
from retrysafe.persistence.datarecord import COMPLETED, EXPIRED, FAILED, INPROGRESS, UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrysafe.persistence.base import BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

STORE_VARIABLE: Final = "RETRYSAFE_STORE"

MEANINGS: Final = {
    COMPLETED: "duplicates get the answer",
    FAILED: "duplicates get the stored failure",
    UNAVAILABLE: "it ran, but its answer could not be stored; duplicates are refused",
    EXPIRED: "its window is over; the next call runs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line: 0, or 1 where there is no record or it was not changed, which is printed.

    Args:
        arguments: Default: those of the process.
    """
    given = _parser().parse_args(arguments)
    try:
        with _opened(given.store) as layer:
            for line in _carried_out(layer, given):
                print(line)  # noqa: T201  # a program for a person
    except IdempotencyItemNotFoundError:
        print(f"{given.key}: no record; the next call runs", file=sys.stderr)  # noqa: T201  # the same
        return 1
    except IdempotencyBaseError as error:
        print(error, file=sys.stderr)  # noqa: T201  # the same
        return 1
    return 0


def _opened(url: str | None) -> BasePersistenceLayer:
    """The layer over a store that is there: looking must make none, nor change what is another program's."""
    if not url:
        raise IdempotencyConfigError(f"which store? Write --store URL behind the command, or set {STORE_VARIABLE}")
    scheme, options = arguments_of(url)
    if scheme == "memory":
        raise IdempotencyConfigError("--store=memory://: such a store is gone with its process")
    if scheme == "sqlite":
        _check_file(url, options)
    return layer_from_url(url)


def _check_file(url: str, options: dict[str, Any]) -> None:
    """Refuse an SQLite file without the table: the layer would make it, and give the file a write-ahead log."""
    from retrysafe.persistence._sqlite.looking import has_table  # noqa: PLC0415  # comes with its store alone
    from retrysafe.persistence._sqlite.schema import DEFAULT_TABLE  # noqa: PLC0415  # the same

    path, table = options["path"], options.get("table", DEFAULT_TABLE)
    if not os.path.exists(path):  # noqa: PTH110  # a Path would raise for a name that is too long
        raise IdempotencyConfigError(f"--store={url}: there is no such file")
    # What is no file, the layer refuses by itself.
    if os.path.isfile(path) and not has_table(path, table):  # noqa: PTH113  # the same
        raise IdempotencyConfigError(f"--store={url}: the file has no table {table!r}; for another write ?table=NAME")


def _carried_out(layer: BasePersistenceLayer, given: argparse.Namespace) -> Iterator[str]:
    record = layer._get_record(given.key)
    if given.command == "show":
        yield from _described(layer, record, with_answer=given.answer)
        return
    if record.owner is not None and record.owner != given.owner:  # a peer's is refused below, with what to do
        raise IdempotencyLeaseLostError(
            f"the owner is {record.owner} by now, not --owner={given.owner}; nothing was changed", record.shown_key
        )
    if given.command == "release":
        release_abandoned(record, persistence_store=layer)
        yield f"{record.shown_key}: free; the next call runs"
        return
    try:
        answer: Any = json.loads(given.answer)
    except (ValueError, RecursionError) as error:
        raise IdempotencyConfigError(f"--answer={given.answer}: must be JSON ({error})") from error
    config = IdempotencyConfig(expires_after_seconds=given.expires_after_seconds)
    complete_abandoned(record, answer, persistence_store=layer, config=config)
    try:
        completed = layer._get_record(given.key)
    except IdempotencyBaseError as error:  # that the answer is stored is certain without it
        yield f"{record.shown_key}: completed, and cannot be shown: {error}"
        return
    yield from _described(layer, completed, with_answer=True)


# --- what is shown ------------------------------------------------------------------------------------------------


def _described(layer: BasePersistenceLayer, record: DataRecord, *, with_answer: bool) -> Iterator[str]:
    now_ms = layer.clock.now_ms() if record.read_at_ms is None else record.read_at_ms
    yield f"key      {record.shown_key}"
    yield f"status   {_status(record, now_ms)}"
    yield f"owner    {record.owner or 'none: a peer wrote it'}"
    yield f"attempt  {record.attempt}"
    if record.stored_status == INPROGRESS:
        yield f"lease    {_until(record.in_progress_expiry_timestamp, now_ms)}"
    window_end = record.expiry_timestamp
    yield f"window   {_until(None if window_end is None else window_end * 1000, now_ms)}"
    if record.response_data:
        yield f"answer   {record.response_data if with_answer else f'{len(record.response_data)} characters'}"


def _status(record: DataRecord, now_ms: int) -> str:
    status = EXPIRED if record.window_over(now_ms) else record.stored_status
    if status == INPROGRESS:
        return f"{status}: {'its lease is over' if record.lease_over(now_ms) else 'running'}"
    return f"{status}: {MEANINGS.get(status, 'no status that is known; calls are refused')}"


def _until(moment_ms: int | None, now_ms: int) -> str:
    if moment_ms is None:
        return "without an end"
    try:
        shown = dt.datetime.fromtimestamp(moment_ms / 1000, dt.UTC).isoformat(sep=" ", timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a peer may write any number, one too long to be shown as well
        return f"until a moment {'too far ahead' if moment_ms > now_ms else 'too long ago'} for a date"
    seconds = (moment_ms - now_ms) / 1000
    return f"until {shown}, {f'in {seconds:.0f} s' if seconds > 0 else f'{-seconds:.0f} s ago'}"


# --- what is given ------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m retrysafe", description="Looks after the record of an idempotency key."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("show", "show the record; not the answer, unless it is asked for"),
        ("release", "say of a run that never ended that it did nothing: the next call runs"),
        ("complete", "say of a run that never ended that it did its work: duplicates get the answer that is given"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("key", help="the idempotency key, as the log and errors name it")
        command.add_argument(
            "--store",
            default=os.environ.get(STORE_VARIABLE),
            help=f"the store's URL, as decorators take it; default: the environment variable {STORE_VARIABLE}, "
            "which keeps a password out of the list of processes",
        )
        if name == "show":
            command.add_argument("--answer", action="store_true", help="show the answer too")
            continue
        command.add_argument("--owner", required=True, help="the run's owner, as `show` tells it")
        if name == "complete":
            command.add_argument("--answer", required=True, help="what the run would have returned, as JSON")
            command.add_argument(
                "--expires-after-seconds", type=int, default=3600, help="the window, from now; default: %(default)s"
            )
    return parser


if __name__ == "__main__":
    # A key may have letters that the output has not; what `complete` has done must not end in an error for that.
    reconfigure: Any = getattr(sys.stdout, "reconfigure", None)  # there may be no stdout
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    sys.exit(main())
