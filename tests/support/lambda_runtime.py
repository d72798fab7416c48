"""Lambda for the tests: real handlers in real processes, invoked, timed and killed as the service does it.

An execution environment is a process with AWS's own runtime interface client (`python -m awslambdaric`) and
the Runtime API which that process polls. It serves one invocation at a time and is reused for the next one. A
process that has not answered at the deadline is killed, and the next invocation gets a new one.

On Managed Instances an environment has several such processes, each with an invocation of its own, and nothing is
killed at a deadline: the caller gets an error, and the code goes on.
Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from support.runtime_api import REGION, RuntimeApi, Work, now_ms

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future

# Lambda's own limit for a process to start and ask for work.
INIT_SECONDS = 10.0


@dataclass(frozen=True)
class Invocation:
    """How one invocation ended, as its caller gets to know it."""

    request_id: str
    deadline_ms: int
    pid: int
    outcome: Literal["answer", "error", "timed out"]
    answer: Any
    error_type: str
    error_message: str
    # What the process wrote to stdout and stderr meanwhile.
    log: str = field(repr=False)


class LambdaRuntime:
    """A Lambda function that can be invoked.

    Args:
        handler: `module.function`, as in the function's configuration.
        code: The directory that holds the module.
        function_name: The function's name in its configuration.
        environ: Environment variables of the function.
        concurrency: How many execution environments there are; more invocations at once are refused.
        workers: How many processes an environment has on Managed Instances. Default: it is elsewhere, and has one.
    """

    def __init__(
        self,
        handler: str,
        *,
        code: Path,
        function_name: str = "function",
        environ: dict[str, str] | None = None,
        concurrency: int = 1,
        workers: int | None = None,
    ) -> None:
        self.handler = handler
        self.code = code
        self.function_name = function_name
        self.environ = environ or {}
        self.is_managed = workers is not None
        if workers is not None:
            self.environ = self.environ | {
                "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances",
                "AWS_LAMBDA_MAX_CONCURRENCY": str(workers),
            }
        self._logs = tempfile.TemporaryDirectory(prefix="lambda-logs-")
        self._environments = [
            _Environment(self, Path(self._logs.name) / f"{number}.log") for number in range(concurrency)
        ]
        # The one used last comes first: invocations that follow each other share a warm process.
        self._idle: queue.LifoQueue[_Environment] = queue.LifoQueue()
        for environment in reversed(self._environments):
            self._idle.put(environment)
        self._callers = ThreadPoolExecutor(max_workers=concurrency)
        self._calls: list[Future[Invocation]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.settle()
        self._callers.shutdown()
        for environment in self._environments:
            environment.stop()
        self._logs.cleanup()

    def provision(self) -> None:
        """Start all environments ahead of their first invocations, as provisioned concurrency does."""
        for environment in self._environments:
            environment.provision()

    def start(self, event: object, timeout_seconds: float = 60.0) -> Future[Invocation]:
        """Invoke, and return while the function runs.

        Raises:
            queue.Empty: All environments are busy; Lambda would throttle.
        """
        environment = self._idle.get_nowait()
        call = self._callers.submit(self._call, environment, event, timeout_seconds)
        self._calls.append(call)
        return call

    def invoke(self, event: object, timeout_seconds: float = 60.0) -> Invocation:
        """Invoke, and return how it ended."""
        return self.start(event, timeout_seconds).result()

    def settle(self) -> None:
        """Kill whatever still runs, so that a failed test leaves nothing to the next one."""
        while wait(self._calls, timeout=0.02).not_done:
            for environment in self._environments:
                environment.kill_if_busy()
        self._calls.clear()

    def log(self) -> str:
        """What all processes have written to stdout and stderr so far."""
        return "".join(environment.log_since(0) for environment in self._environments)

    def new_log(self) -> str:
        """What was written since this was last asked, to be shown with a failed test."""
        return "".join(environment.new_log() for environment in self._environments)

    def _call(self, environment: _Environment, event: object, timeout_seconds: float) -> Invocation:
        try:
            return environment.invoke(json.dumps(event).encode(), timeout_seconds)
        finally:
            self._idle.put(environment)


class _Environment:
    """One execution environment: at most one process, with the Runtime API made for it."""

    def __init__(self, function: LambdaRuntime, log: Path) -> None:
        self._function = function
        self._log = log
        self._log.touch()
        self._shown = 0
        self._busy = False
        self._api: RuntimeApi | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def invoke(self, body: bytes, timeout_seconds: float) -> Invocation:
        self._busy = True
        try:
            return self._invoke(Work(body, timeout_seconds))
        finally:
            self._busy = False

    def _invoke(self, work: Work) -> Invocation:
        log_start = self._log.stat().st_size
        self.provision()
        process = self._process
        self._api.work.put(work)
        # Starting has a limit of its own: the deadline is counted from when the process takes the event.
        if self._happens(work.handed_out, now_ms() + round(INIT_SECONDS * 1000)):
            self._happens(work.ended, work.deadline_ms)
        exited = process.poll() is not None
        if exited or not (work.ended.is_set() or self._function.is_managed):
            self.stop()

        # Asked again, after the process has certainly ended: an answer that got through counts.
        outcome, answer, error = "error", None, {}
        if work.ended.is_set():
            if work.is_error:
                error = json.loads(work.result)
            else:
                outcome, answer = "answer", json.loads(work.result)
        elif exited:
            error = self._api.init_error or {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {work.request_id} Error: Runtime exited",
            }
        else:
            outcome = "timed out"
            error = {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"Task timed out after {work.timeout_seconds:.2f} seconds",
            }
        return Invocation(
            request_id=work.request_id,
            deadline_ms=work.deadline_ms,
            pid=process.pid,
            outcome=outcome,
            answer=answer,
            error_type=error.get("errorType", ""),
            error_message=error.get("errorMessage", ""),
            log=self.log_since(log_start),
        )

    def _happens(self, event: threading.Event, until_ms: int) -> bool:
        """Wait for an event while the process lives and the time is not over."""
        while not event.is_set():
            left = until_ms - now_ms()
            if left <= 0 or self._process.poll() is not None:
                break
            event.wait(min(left / 1000, 0.02))
        return event.is_set()

    def provision(self) -> None:
        """Start a process, unless there is one."""
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # it answered its last invocation, and ended then
        if self._process is None:
            self._start()

    def _start(self) -> None:
        function = self._function
        self._api = RuntimeApi(function.function_name)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", function.handler],
                cwd=function.code,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                env={
                    "PATH": os.environ["PATH"],
                    "LANG": "C.UTF-8",
                    "TZ": ":UTC",
                    "_HANDLER": function.handler,
                    "LAMBDA_TASK_ROOT": str(function.code),
                    "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
                    "AWS_REGION": REGION,
                    "AWS_DEFAULT_REGION": REGION,
                    "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                    "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                    "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.function_name}",
                    "AWS_LAMBDA_LOG_STREAM_NAME": self._log.stem,
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
                    **function.environ,
                },
            )

    def kill_if_busy(self) -> None:
        """Kill the process while it has an invocation, which then ends as an error."""
        process = self._process
        if self._busy and process is not None:
            self._kill(process)

    def stop(self) -> None:
        """Kill the process, if there is one, and close its Runtime API."""
        if self._process is not None:
            self._kill(self._process)
            self._process.wait()
            self._process = None
            self._api.stop()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too

    def log_since(self, start: int) -> str:
        """The log from some byte on, its lines ended as people expect (the client parts them by CR)."""
        return self._log.read_bytes()[start:].decode(errors="replace").replace("\r", "\n")

    def new_log(self) -> str:
        start, self._shown = self._shown, self._log.stat().st_size
        return self.log_since(start)
