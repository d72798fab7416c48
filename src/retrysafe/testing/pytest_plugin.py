"""A plugin for pytest: `crash_points` as a fixture.

Enable it in a `conftest.py`, by `pytest_plugins = ["retrysafe.testing.pytest_plugin"]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from retrysafe.testing.crashes import crash_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.testing.crash_report import CrashReport


@pytest.fixture(name="crash_points")
def checked_crash_points(request: pytest.FixtureRequest) -> Callable[..., CrashReport]:
    """`retrysafe.testing.crash_points`, which fails the test where there is a problem, with the report as its text.

    It takes the same arguments, and `check=False` to get the report in any case.
    """

    def crash_points_checked(func: Callable[..., Any], *args: Any, check: bool = True, **options: Any) -> CrashReport:
        __tracebackhide__ = True
        report = crash_points(func, *args, **options)
        if check and not report.ok:
            pytest.fail(str(report), pytrace=False)
        request.node.add_report_section("call", "crash points", str(report))
        return report

    return crash_points_checked
