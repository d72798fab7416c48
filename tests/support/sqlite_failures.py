"""For tests of an SQLite layer that fails: each method that writes, and what no error may tell."""

from __future__ import annotations

from support.sqlite_support import claim, completed

SECRET = "4111111111111111"  # noqa: S105  # what a record may hold, and no error may tell


def writes(layer):
    """Each method that writes, with a record for which it has something to write."""
    return [
        (layer._put_record, claim("new")),
        (layer._delete_record, claim("new")),
        (layer._renew_record, claim()),
        (layer._update_record, completed()),
        (layer.sweep, 1),
    ]
