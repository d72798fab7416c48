"""A certificate authority for one test session, and a server's certificate for 127.0.0.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Files, in PEM."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path) -> Certificates:
    """Write them into the directory."""
    import trustme  # noqa: PLC0415 - slow to load, and only the tests of TLS need it

    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    made = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    authority.cert_pem.write_to_path(str(made.authority))
    made.certificate.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    server.private_key_pem.write_to_path(str(made.key))
    return made
