"""A worker process of a fleet: a program that is handed calls, one at a time, and killed when a test says so.

A request is a line of JSON:

    {"store": {...}, "payload": {"id": ..., "amount": ...}, "window": seconds, "validate": whether `amount` must be
     the same, "remaining_ms": what the Lambda context shows, or null for none, "options": more of IdempotencyConfig
     for workers of ours, "body": {"do": ..., "returns": ...}}

`do` is `return`, `nothing` (return without a value), `raise`, `die` (SIGKILL, in the function), or `wait`: the function
says {"running": true}, and goes on once it is sent the line {"raises": text or null}. The reply is {"answer": ...}, or
{"error": class, "text": ..., "response": ...}.
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
LONGEST_CALL_SECONDS = 60


class Died(Exception):  # noqa: N818  # it is what happened, and no fault
    """The worker ended before it replied."""


class Refused(Exception):  # noqa: N818  # the same
    """What a call raised in the worker.

    Args:
        error: The name of its class.
        text: Its traceback.
        response: The function's answer, where the error carries it.
    """

    def __init__(self, error: str, text: str, response: Any) -> None:
        super().__init__(f"{error}: {text}")
        self.error = error
        self.response = response


class Worker:
    """One process.

    Args:
        command: What starts it; the worker's name and the ledger are added.
        name: Its name in the ledger.
        ledger: The file that tells who executed what.
    """

    def __init__(self, command: list[str], name: str, ledger: Path) -> None:
        self.name = name
        self.is_busy = False
        self._log = ledger.with_name(f"{name}.log")
        log = self._log.open("ab")
        self._process = subprocess.Popen(
            [*command, name, str(ledger)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()

    def call(self, store: dict[str, Any], key: Any, returns: Any = None, **options: Any) -> Any:
        """The answer that the worker's caller gets.

        Raises:
            Refused: The call raised.
            Died: The worker ended meanwhile.
        """
        self.start(store, key, returns, **options)
        return self.result()

    def start(
        self,
        store: dict[str, Any],
        key: Any,
        returns: Any = None,
        *,
        do: str = "return",
        amount: int = 5,
        window: int = HOUR,
        validate: bool = False,
        remaining_ms: int | None = None,
        **options: Any,
    ) -> None:
        """Hand the worker a call; `result` has its end."""
        self.is_busy = True
        self._write(
            {
                "store": store,
                "payload": {"id": key, "amount": amount},
                "window": window,
                "validate": validate,
                "remaining_ms": remaining_ms,
                "options": options,
                "body": {"do": do, "returns": returns},
            }
        )

    def hold(self, store: dict[str, Any], key: Any, returns: Any = None, **options: Any) -> None:
        """Hand the worker a call whose function runs until `finish`, and wait until it runs."""
        self.start(store, key, returns, do="wait", **options)
        assert self._read() == {"running": True}

    def finish(self, raises: str | None = None) -> Any:
        """Let the function that is held return, or raise: what its caller gets, as `call`."""
        self._write({"raises": raises})
        return self.result()

    def result(self) -> Any:
        """The end of the call that was started."""
        reply = self._read()
        self.is_busy = False
        if "error" in reply:
            raise Refused(**reply)
        return reply["answer"]

    def end(self) -> None:
        """End the process as a crash does, in the midst of whatever it does."""
        self._process.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End the process, and forget it."""
        self.end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # it closes all the same
                pipe.close()

    def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Died(self.name, self._log.read_text()[-2000:]) from error

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Only one line is ever under way, so that none is left in the buffer of the last one.
        assert select.select([self._process.stdout], [], [], LONGEST_CALL_SECONDS)[0], f"{self.name} says nothing"
        line = self._process.stdout.readline()
        if not line:
            raise Died(self.name, self._log.read_text()[-2000:])
        reply: dict[str, Any] = json.loads(line)
        return reply
