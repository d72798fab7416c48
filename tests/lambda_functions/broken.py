"""A module that cannot be imported, to prove the harness."""

raise RuntimeError("this module is broken")
