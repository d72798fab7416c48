"""A body that counts its runs, and a look at the records that stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord


def only_record(flavour, layer) -> DataRecord:
    (record,) = flavour.inner(layer)._records.values()
    return record


def plant(flavour, layer, **changes):
    """Change the record that stands, as another worker would."""
    inner = flavour.inner(layer)
    (key,) = inner._records
    inner._records[key] = inner._records[key].replaced(**changes)
    return inner._records[key]


class Counted:
    """A function that counts its runs and answers with the number."""

    def __init__(self, answer=None, error=None, during=None):
        self.runs = 0
        self.answer, self.error, self.during = answer, error, during

    def __call__(self, order):
        self.runs += 1
        if self.during is not None:
            self.during()
        if self.error is not None:
            raise self.error
        return self.runs if self.answer is None else self.answer


def counted(**options):
    body = Counted(**options)

    def charge(order):
        return body(order)

    charge.body = body
    return charge


def keys(layer):
    return set(layer._records)
