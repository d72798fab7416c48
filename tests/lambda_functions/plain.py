"""A handler without retrysafe, to prove the harness it runs in."""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

# Kept by a warm process from one invocation to the next.
invocations = itertools.count(1)


def handler(event, context):
    """Does as the event says, and tells what it saw of its process and of its context."""
    number = next(invocations)
    sys.stdout.write(f"invocation {number} of this process\n")
    match event.get("do"):
        case "raise":
            raise LookupError(event["message"])
        case "hang":
            time.sleep(3600)
        case "exit":
            sys.exit(3)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "wait":
            while not Path(event["for"]).exists():
                time.sleep(0.005)
    return {
        "number": number,
        "pid": os.getpid(),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function_name": context.function_name,
        "now_ms": time.time_ns() // 1_000_000,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "setting": os.environ.get("SETTING"),
    }
