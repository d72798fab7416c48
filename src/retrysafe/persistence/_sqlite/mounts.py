"""Where a file is mounted from, as far as the system tells, and the refusal of what SQLite's log cannot stand on.

The log is a file beside the database, as each process sees it, and its index is memory that processes share.
Source: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError

# Linux has it: a line for each mount, the later ones above the earlier. What parts words is written in octal.
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(rb"\\([0-3][0-7]{2})")

_NETWORKS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "s3fs", "mount-s3", "gcsfuse")}
)
"""Kinds of file systems that several machines mount at the same time. Amazon's EFS is nfs4."""


def check_mount(path: str) -> None:
    """Refuse a file that others may have beside another log, or beside one whose index they do not share.

    What stands in such a log is unknown to them: they run the same work, and what they write back damages the file.

    Raises:
        IdempotencyPersistenceConfigError: It is mounted by itself, as into a container, or is on a network's file
            system.
    """
    real = os.fsencode(os.path.realpath(path))
    place, kind = _mount_of(real)
    if place == real:
        raise IdempotencyPersistenceConfigError(
            f"the SQLite database {path} is mounted by itself, without the -wal file that belongs to it: mount the "
            "directory that both are in"
        )
    if kind in _NETWORKS:
        raise IdempotencyPersistenceConfigError(
            f"the SQLite database {path} is on a file system of the network ({kind}), where machines do not see what "
            "others have written: put it on a local disk, or take a store that is made for several machines"
        )


def _mount_of(real: bytes) -> tuple[bytes, str]:
    """Where what the path is on was mounted, and the kind of file system; nothing where that is not told."""
    found = (b"", "")
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return found
    for mount in mounts:
        words, _, source = mount.partition(b" - ")
        place = b"".join(words.split(b" ")[4:5])
        place = _OCTAL.sub(lambda written: bytes([int(written[1], 8)]), place)
        if len(place) >= len(found[0]) and (real == place or real.startswith(place.rstrip(b"/") + b"/")):
            found = (place, source.partition(b" ")[0].decode())
    return found
