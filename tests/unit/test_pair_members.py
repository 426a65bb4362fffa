"""Listings of two columns as JSON: read as they come, in passes, however long they are."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings

from ctctl.tables.sources import listing_documents
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.listing_text import PairLines
from ctctl.tables.sources.pair_members import pair_runs
from tests.support import captures
from tests.support.both_ways import agree, counting_rows, read
from tests.support.drawn_documents import pair_documents
from tests.support.large_listings import KINDS, VERSIONS, as_printed

_MANY = 3000
_FILES = [
    (name, file)
    for name in captures.NAMES
    for file in captures.files(name)
    if file.endswith(".json") and file.startswith(("cli/lb-", "cli/ipcache", "cli/endpoint", "cli/socknat"))
]


def _listing(kind: str) -> str:
    return "services" if kind == "frontends" else kind


@settings(max_examples=150, deadline=None)
@given(pair_documents())
def test_any_object(text: bytes) -> None:
    agree(text)


@pytest.mark.parametrize(("name", "file"), _FILES, ids=str)
def test_objects_of_nodes(name: str, file: str) -> None:
    text = captures.files(name)[file]
    found = agree(text)
    assert not found["partial"]
    agree(text.replace(b"\n", b"\r\n"))
    assert agree(json.dumps(json.loads(text)).encode())["listings"] == found["listings"]
    assert agree(b"".join(b"> " + line + b"\n" for line in text.split(b"\n")))["listings"] == found["listings"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_read_in_passes_and_are_those_of_the_text(kind: str, version: str) -> None:
    rows = KINDS[kind](_MANY, version)
    head = {
        "services": "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n",
        "frontends": "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)\n",
        "sockets": "Socket Cookie   Backend -> Frontend\n",
    }.get(kind, "")
    text = head + "".join(f"{left:<44}   {right}\n" for left, right in sorted(rows.items()))
    listings = read(text.encode(), passes=True)[0]["listings"]
    assert listings.count(_listing(kind)) == _MANY
    taker = type(pair_runs(PairLines(Dump()))[kind])
    for document in (as_printed(rows), as_printed(rows, go=False), json.dumps(rows_as_lists(rows))):
        with counting_rows(taker) as taken:
            found, _ = read(document.encode(), passes=True)
        assert getattr(found["listings"], _listing(kind)) == getattr(listings, _listing(kind))
        assert not found["partial"]
        assert taken[taker] > 0.9 * _MANY


def rows_as_lists(rows: dict[str, str]) -> dict[str, list[str]]:
    return {left: [rows[left]] for left in sorted(rows)}


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """How long an object may be that is read at once: less than ever, so that a long one is quickly made."""
    monkeypatch.setattr(listing_documents, "MAX_DOCUMENT", 1 << 19)
    return listing_documents.MAX_DOCUMENT


def test_an_object_that_is_read_at_once_may_not_be_as_long(limit: int) -> None:
    """What the two tests below read is longer than what is refused here."""
    text = json.dumps({"endpoints": {f"10.0.0.{n}": "x" * 100 for n in range(limit // 100)}}, indent=2)
    assert len(text) > limit
    found, _ = read(text.encode(), passes=True)
    assert found["partial"]


@pytest.mark.parametrize("kind", ["ipcache", "sockets", "services"])
def test_a_long_object_is_read_whole(kind: str, limit: int) -> None:
    """Longer than objects of other kinds, which are read at once, may be."""
    count = 10_000
    text = as_printed(KINDS[kind](count, "1.19")).encode()
    assert len(text) > limit
    dump = Dump()
    assert read_content(io.BytesIO(text), dump)
    assert (dump.listings.count(kind), dump.partial, dump.losses) == (count, [], 0)


def test_a_long_maglev_table_is_read_whole(limit: int) -> None:
    ids = "[" + " ".join(str(number % 7 + 1) for number in range(131071)) + "]"
    text = json.dumps({f"[{number}]/v4": [ids] for number in range(1, 5)}, indent=2)
    assert len(text) > limit
    found, _ = read(text.encode(), passes=True)
    assert (len(found["listings"].maglev), found["partial"]) == (4, [])


def test_what_is_cut_off_is_said_behind_what_was_read() -> None:
    text = as_printed(KINDS["ipcache"](_MANY, "1.19")).encode()
    found = agree(text[: len(text) // 2])
    assert _MANY / 3 < found["listings"].count("ipcache") < _MANY
    assert found["partial"] == ["the dump ends in the middle of an entry, or is damaged there"]


def test_gaps_left_by_hand_are_counted_within_long_objects() -> None:
    lines = as_printed(KINDS["ipcache"](_MANY, "1.19")).splitlines(keepends=True)
    found = agree("".join([*lines[:4], "  ...\n", *lines[4:1501], "  ...\n", *lines[1501:]]).encode())
    assert found["listings"].count("ipcache") == _MANY
    assert found["partial"] == ["2 mark(s) of lines left out by hand: what stood there is missing"]


_ROWS = {
    f"10.{number >> 8 & 255}.{number & 255}.1/32": [
        f"identity={number + 1} encryptkey=0 tunnelendpoint=10.1.1.1, flags=<none>{' ' * 60}"
    ]
    for number in range(30_000)
}


@pytest.mark.parametrize("document", [{"x": 1, "data": _ROWS}, [{"data": _ROWS, "more": [{}]}], {"items": [_ROWS]}])
def test_a_long_listing_within_another_document(document: object) -> None:
    """Beyond what a member of one may have as a whole."""
    text = json.dumps(document).encode()
    assert len(text) > 4 << 20
    dump = Dump()
    assert read_content(io.BytesIO(text), dump)
    assert len(dump.listings.ipcache) == len(_ROWS)
    assert not dump.partial
    cut = Dump()
    read_content(io.BytesIO(text[: len(text) // 2]), cut)
    assert len(_ROWS) // 3 < len(cut.listings.ipcache) < len(_ROWS)
    assert len(cut.partial) == 1


def test_long_listings_of_nodes_within_another_document() -> None:
    rows = dict(list(_ROWS.items())[:100])
    of_nodes, of_members = Dump(), Dump()
    read_content(
        io.BytesIO(json.dumps({"items": [{"node": "a", "i": rows}, {"node": "b", "i": rows}]}).encode()), of_nodes
    )
    assert len(of_nodes.listings.ipcache) == len(of_nodes.others["b"].listings.ipcache) == 100
    assert (of_nodes.host, of_nodes.partial) == ("a", [])
    read_content(io.BytesIO(json.dumps({"a": rows, "b": rows}).encode()), of_members)
    assert "a JSON document with several lists (ipcache: a, b)" in of_members.partial[0]
