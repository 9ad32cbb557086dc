"""A pytest plugin: no test may be skipped.

A skipped test is a sentence that nobody proved: it fails the run. The same holds for a module that skips itself when it is
collected, and for an expected failure.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest


def _fail(report: Any) -> None:
    reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
    reason = getattr(report, "wasxfail", None) or reason
    report.outcome = "failed"
    report.longrepr = f"no test may be skipped or expected to fail: {reason}"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped or hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    if report.skipped:
        _fail(report)
    return report
