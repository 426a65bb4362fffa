"""A plugin of pytest: writes how each test ended as it ends, and leaves out what has ended well before.

pytest -p tests.kernels.recorder …      with CTCTL_RECORD (the file) and CTCTL_RECORD_STEP in the environment
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.kernels.record import ALL, WITHOUT_PROBES, Record

_record = Record(Path(os.environ["CTCTL_RECORD"]))
_step = os.environ["CTCTL_RECORD_STEP"]
#: Of the running test: what is worse than "passed".
_ended: dict[str, dict[str, object]] = {}
_lasted: dict[str, float] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any is chosen by its name: a file has as many as it has."""
    counted = [item for item in items if item.get_closest_marker("slow") is None]
    for file, tests in Counter(item.nodeid.partition("::")[0] for item in counted).items():
        _record.add(f"{_step} of a file", file, tests=tests)
    done = _record.said(_step)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        _ended[report.nodeid] = {"failed": [(crash.message if crash else str(report.longrepr)[-600:])[:600]]}
    elif report.skipped and report.nodeid not in _ended:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _ended[report.nodeid] = {"skipped": reason.removeprefix("Skipped: ")}
    _lasted[report.nodeid] = _lasted.get(report.nodeid, 0) + report.duration
    if report.when == "teardown":
        objects = ALL if "probe" in report.nodeid else WITHOUT_PROBES
        seconds = round(_lasted.pop(report.nodeid), 1)
        _record.add(_step, report.nodeid, objects, seconds=seconds, **_ended.pop(report.nodeid, {}))
