"""A server as far away as another machine: a process of its own hands bytes on, each after a delay.

`python -m benchmarks.distance HOST PORT SECONDS` prints the port that it listens on. The delay is added once to each
round trip, to what the server says; what comes meanwhile is not held up any longer by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def away(host: str, port: int, seconds: float) -> Iterator[int]:
    """The port of this machine behind which the server seems to be so far away."""
    program = [sys.executable, "-m", "benchmarks.distance", host, str(port), str(seconds)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the process has no output")
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve(host: str, port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, port)

        async def forward() -> None:
            while data := await reader.read(1 << 16):
                server_writer.write(data)
            server_writer.close()

        async def back() -> None:
            while data := await server_reader.read(1 << 16):
                loop.call_later(seconds, writer.write, data)
            loop.call_later(seconds, writer.close)

        with contextlib.suppress(OSError):
            await asyncio.gather(forward(), back())

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
