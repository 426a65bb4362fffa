"""What is not read for its size, or for what stands before it, is not passed over silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctctl.errors import DecodeError
from tests.support import captures
from tests.support.listings import listed, read, read_text

CAPTURE = "cilium-1.19-snat-node1"
LISTING = captures.text(CAPTURE, "cli/ct-list-global.txt")
ROWS = captures.document(CAPTURE, "cli/ct-list-global.json")
TALK = "".join(f"a line of a log {number}\n" for number in range(20_100))
NOT_READ = "not read, and it has what reads as a listing"
LONG: dict[str, Any] = {
    "rows far behind": {"pad": ["x" * 100] * 90_000, "items": ROWS},
    "text before the limit": {"x": "a", "out": LISTING, "pad": "z" * (9 << 20)},
    "text behind the limit": {"x": "a", "pad": "z" * (9 << 20), "out": LISTING},
    "an element": [{"x": "a", "out": LISTING * 250}],
}


@pytest.mark.parametrize("name", ["ct-list-global.txt", "nat-list.txt", "lb-list.txt", "ipcache-list.txt"])
def test_a_listing_behind_much_else(name: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, f"cli/{name}")
    with read_text(tmp_path / "long", TALK + text) as found, read_text(tmp_path / "alone", text) as alone:
        assert listed(found) == listed(alone)
        assert found.listings(None) == alone.listings(None)
        assert not found.partial


def test_two_listings_behind_much_else(tmp_path: Path) -> None:
    rows = LISTING.split("\n")
    with read_text(tmp_path / "x", f"{TALK}{rows[0]}\n{rows[1]}\n{TALK}") as found:
        assert len(listed(found)) == 2


def test_a_log_is_no_listing(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="not a snapshot"):
        read_text(tmp_path / "x", TALK + 'msg="a cookie" expires=Thu\n' + TALK)


@pytest.mark.parametrize("way", LONG)
def test_a_long_document_of_another_kind(way: str, tmp_path: Path) -> None:
    """Alone it is refused by that; beside others it is partial data."""
    with pytest.raises(DecodeError, match=NOT_READ):
        read_text(tmp_path / "long.json", json.dumps(LONG[way]))
    (tmp_path / "ct.txt").write_text(LISTING)
    with read(tmp_path) as found:
        assert len(listed(found)) == 99
        assert any(NOT_READ in text and text.startswith("long.json: ") for text in found.partial)


def test_a_long_document_without_a_listing(tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(json.dumps({"x": "a", "pad": "z" * (9 << 20)}))
    (tmp_path / "more.json").write_text(json.dumps([{"n": number} for number in range(1200)]))
    (tmp_path / "agent.log").write_text(TALK)
    (tmp_path / "ct.txt").write_text(LISTING)
    with read(tmp_path) as found:
        assert not found.partial


def test_an_element_behind_many(tmp_path: Path) -> None:
    with read_text(tmp_path / "x", json.dumps([*({"n": number} for number in range(1500)), {"out": LISTING}])) as found:
        assert len(listed(found)) == 99
        assert not found.partial
