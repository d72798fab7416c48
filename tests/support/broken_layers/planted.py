"""All planted bugs, and which checks must catch each."""

from __future__ import annotations

BUGS = []


def caught_by(*checks):
    """Say which checks catch the bug; each is the name of one without `test_`."""

    def note(layer):
        layer.caught_by = {f"test_{check}" for check in checks}
        BUGS.append(layer)
        return layer

    return note
