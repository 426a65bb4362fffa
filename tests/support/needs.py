"""What tests need of a machine: without it they are skipped, and fail where everything has to be there."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skip the test with the reason; with CTCTL_REQUIRE_KERNEL=1 (CI) fail it.

    For what every supported kernel has and for what ``make test`` installs. What some machines are right not to
    have is for ``pytest.skip``.
    """
    if os.environ.get("CTCTL_REQUIRE_KERNEL") == "1":
        pytest.fail(f"CTCTL_REQUIRE_KERNEL=1, but: {what}", pytrace=False)
    pytest.skip(what)


def need_program(name: str) -> None:
    """Go on only with this program, whose Debian package is called the same."""
    if shutil.which(name) is None:
        lacking(f"{name} is not installed: apt-get install {name}")
