"""A PostgreSQL server, for layers that users write."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import psycopg

from servers.processes import ServerFailedError, ServerProcess, guard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class PostgresServer(ServerProcess):
    """With one database and one user, `postgres`, who needs no password. It keeps nothing safe from a loss of power.

    Args:
        program: `postgres` out of the wheel, as it is installed there: its libraries lie beside the package.
    """

    def __init__(self, program: Path) -> None:
        super().__init__("postgres")
        self._program = program
        # It refuses to run as root.
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            self._as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            guard().directory.chmod(0o711)
            self.directory.chmod(0o755)
            # The project may lie where others cannot look.
            package, installed = program.parents[2], self.directory / "installed"
            for part in (package, package.with_suffix(".libs")):
                shutil.copytree(part, installed / part.name, symlinks=True)
            self._program = installed / program.relative_to(package.parent)
        self._data = self.directory / "data"
        self._data.mkdir()
        if self._as_user:
            shutil.chown(self._data, "nobody", "nogroup")

    @property
    def url(self) -> str:
        """For the clients."""
        return f"postgresql://postgres@{self.host}:{self.port}/postgres"

    def launch(self) -> None:
        """Make its files first."""
        if not any(self._data.iterdir()):
            options = ["--pgdata", str(self._data), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
            made = subprocess.run(
                [*self._as_user, str(self._program.with_name("initdb")), *options, "--locale=C", "--no-sync"],
                capture_output=True,
                text=True,
                check=False,
                cwd=self.directory,
            )
            if made.returncode:
                raise ServerFailedError(f"initdb ended with {made.returncode}:\n{made.stdout}{made.stderr}")
        super().launch()

    def arguments(self) -> Sequence[str]:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "60",
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [*self._as_user, str(self._program), "-D", str(self._data), *given]

    def is_ready(self) -> bool:
        """Whether it lets its user in, which it refuses while it starts."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
