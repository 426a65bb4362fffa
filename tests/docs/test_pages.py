"""What the documentation shows is what is printed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_pages", ROOT / "tools/run_pages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_pages"] = module
    spec.loader.exec_module(module)
    return module


run_pages = _tool()
SHOWN = [place for page in run_pages.pages() for place in run_pages.shown(page)]


@pytest.mark.parametrize("place", SHOWN, ids=lambda place: place.name)
def test_a_page_shows_what_is_printed(place: object) -> None:
    assert run_pages.check(place) == ""


def test_there_are_pages_to_check() -> None:
    assert len(SHOWN) >= 20


@pytest.mark.parametrize(
    ("expected", "lines", "same"),
    [
        (("a", "b"), ["a", "b"], True),
        (("a",), ["a", "b"], False),
        (("a", "…", "d"), ["a", "b", "c", "d"], True),
        (("wrote … rows",), ["wrote 12 rows"], True),
        (("wrote … rows",), ["wrote 12 entries"], False),
        ((), ["a"], False),
    ],
)
def test_what_counts_as_the_same(expected: tuple[str, ...], lines: list[str], same: bool) -> None:
    assert run_pages.matches(expected, lines) is same


def test_every_page_is_in_the_sites_menu() -> None:
    menu = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(menu) == len(set(menu))
    assert set(menu) == {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
