"""The pictures of the pages are of real runs: what a terminal shows now."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.tools import tool

ROOT = Path(__file__).parents[2]


record = tool("record")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.kernel] if "--scenario" in " ".join(commands) else [])
        for name, commands in record.RECORDINGS.items()
    ],
)
def test_a_recording_is_what_is_shown_now(name: str) -> None:
    shown = (record.PLACE / f"{name}.svg").read_text(encoding="utf-8")
    assert shown == record.picture(record.RECORDINGS[name]), "run make recordings"
    # A picture that is one, and that asks nobody for anything.
    assert ElementTree.fromstring(shown).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|<script|<image", shown)


def test_every_recording_is_on_a_page_and_none_is_left_over() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    linked = {name for page in pages for name in re.findall(r"\]\([\w/.]*recordings/(\w+)\.svg\)", page.read_text())}
    assert {path.stem for path in record.PLACE.iterdir()} == set(record.RECORDINGS) == linked
