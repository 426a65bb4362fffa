"""What the documentation shows is what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ctctl.simulate.scenario_file import scenario_of
from tests.support.nodefile import parse_node_file
from tests.support.tools import tool

ROOT = Path(__file__).parents[2]


run_pages = tool("run_pages")
SHOWN = [place for page in run_pages.pages() for place in run_pages.shown(page)]
BLOCKS = [(page, *block) for page in run_pages.pages() for block in run_pages.blocks(page)]
#: Blocks that are run where they are marked so, and those that a test of their own reads; on any page, or on these.
_MARKS: dict[str, set[str] | None] = {
    "console": None,
    "console tutorial": {"tutorial.md", "comparison.md"},
    "mermaid": None,
    "sh": {"CONTRIBUTING.md"},
    "text": {"cli.md"},
    "yaml": {"scenarios.md"},
}
#: What loads programs into the kernel.
_OF_THE_KERNEL = re.compile(r"--(?:scenario|simulate|pcap)\b")


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, id=place.name, marks=[pytest.mark.kernel] if _OF_THE_KERNEL.search(place.command) else [])
        for place in SHOWN
    ],
)
def test_a_page_shows_what_is_printed(place: object) -> None:
    assert run_pages.check(place) == ""


def test_there_are_pages_to_check() -> None:
    assert len(SHOWN) >= 20


@pytest.mark.parametrize(("page", "line", "mark", "lines"), BLOCKS, ids=lambda value: getattr(value, "name", None))
def test_every_block_is_of_a_kind_that_is_tested(page: Path, line: int, mark: str, lines: tuple[str, ...]) -> None:
    """Text beside a command that nothing runs would go on saying what was printed once."""
    assert mark in _MARKS, f"{page.name}:{line}: a block marked {mark!r}: make it console, so that it is run"
    assert page.name in (_MARKS[mark] or {page.name}), f"{page.name}:{line}: no test reads {mark} blocks of this page"
    if mark.startswith("console"):
        assert lines[0].startswith("$ "), f"{page.name}:{line}: output without its command"


def test_what_a_page_says_that_is_expected_can_be_written_into_a_scenario() -> None:
    (lines,) = [lines for page, _, mark, lines in BLOCKS if mark == "yaml"]
    scenario = yaml.safe_load((ROOT / "examples/pod-to-pod.yaml").read_text())
    scenario["steps"][0] |= yaml.safe_load("\n".join(lines))
    assert scenario_of(parse_node_file(yaml.safe_dump(scenario), "page")).steps[0].step.expect


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
