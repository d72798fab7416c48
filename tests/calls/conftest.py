"""What calls are tried on where it could matter: a store in the process, in a file, and on a server."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "sqlite", "cache"])
def url(request, tmp_path):
    """A store's URL. The server is shared: a test's keys have a prefix of their own."""
    if request.param == "cache":
        return request.getfixturevalue("redis_62").url
    return {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/records.db"}[request.param]
