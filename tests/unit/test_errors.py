"""What an error says to do can be done where it is said."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ctctl import errors
from ctctl.cli.main import main
from ctctl.errors import MissingLibraryError


def test_how_to_get_a_library_depends_on_how_ctctl_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"reports need jinja2: {sys.executable} -m pip install 'ctctl[report]'"
    assert str(MissingLibraryError("reports need jinja2", "report")) == here
    carried = "reports need jinja2, which this build does not carry: install the wheel by pip, as 'ctctl[report]'"
    with monkeypatch.context() as patch:
        (tmp_path / "PEX-INFO").touch()
        patch.setattr(sys, "prefix", str(tmp_path))
        assert str(MissingLibraryError("reports need jinja2", "report")) == carried
    monkeypatch.setattr(errors, "__file__", "/usr/lib/ctctl/ctctl/errors.py")
    assert str(MissingLibraryError("reports need jinja2", "report")) == carried


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("jinja2", "report --from nosuch.zip"),
        ("matplotlib", "gc simulate nosuch.yaml --svg x.svg"),
        ("matplotlib", "gc simulate --from nosuch.zip --png x.png"),
        ("pyarrow", "fleet collect lake --from nosuch.zip"),
        ("pyarrow", "ct export x.parquet --from nosuch.zip"),
        ("pyarrow", "ct sql SELECT --from nosuch.zip"),
        ("duckdb", "ct sql SELECT --from nosuch.zip"),
    ],
)
def test_a_library_is_asked_for_before_anything_is_read(
    library: str, words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A large file read for nothing is a minute of somebody's: what it lacks it says first."""
    monkeypatch.setitem(sys.modules, library, None)
    assert main(words.split()) == 4
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"ctctl: .* needs? .*: \S+ -m pip install 'ctctl\[\w+\]'\n", err)
