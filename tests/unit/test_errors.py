"""What an error says to do can be done where it is said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ctctl import errors
from ctctl.errors import MissingLibraryError


def test_how_to_get_a_library_depends_on_how_ctctl_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        str(MissingLibraryError("reports need jinja2", "report")) == "reports need jinja2: pip install 'ctctl[report]'"
    )
    carried = "reports need jinja2, which this build does not carry: install the wheel by pip, as 'ctctl[report]'"
    with monkeypatch.context() as patch:
        (tmp_path / "PEX-INFO").touch()
        patch.setattr(sys, "prefix", str(tmp_path))
        assert str(MissingLibraryError("reports need jinja2", "report")) == carried
    monkeypatch.setattr(errors, "__file__", "/usr/lib/ctctl/ctctl/errors.py")
    assert str(MissingLibraryError("reports need jinja2", "report")) == carried
