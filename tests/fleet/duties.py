"""What the function of a Python worker does, and how a worker speaks: the same for Powertools' and for ours.

It stands alone, without imports of either, because workers of both kinds import it in interpreters of their own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback


class Duties:
    """The body of the protected function, as each request asks for it.

    Args:
        name: The worker's name in the ledger.
        ledger: The file that gets a line for each execution, before anything else happens in it.
    """

    def __init__(self, name, ledger):
        self.name = name
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def run(self, key, body):
        """One execution: written down, then as the request's `body` says."""
        os.write(self.ledger, f"{json.dumps({'key': key, 'by': self.name})}\n".encode())
        if body["do"] == "wait":
            self.tell(running=True)
            told = json.loads(sys.stdin.readline())
            if told["raises"]:
                raise LookupError(told["raises"])
        elif body["do"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif body["do"] == "raise":
            raise LookupError(body["returns"])
        return body["returns"]

    def tell(self, **what):
        """A line to the test."""
        sys.stdout.write(f"{json.dumps(what)}\n")
        sys.stdout.flush()

    def tell_error(self, error):
        """What the call raised: its class, its text, and the response that it carries, if it does."""
        text = "".join(traceback.format_exception(error))
        self.tell(error=type(error).__name__, text=text, response=getattr(error, "response", None))
