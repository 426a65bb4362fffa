"""Listings read in passes say what the careful reader says, line by line: of every version, whole, cut, edited."""

from __future__ import annotations

import io
import struct
from collections import Counter
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.decode.ct import decode_entry
from ctctl.errors import CtctlError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.show.cilium import cilium_line
from ctctl.tables.sources import passes as passes_of_lines
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.ct_runs import CtRuns
from ctctl.tables.sources.dump import Collected, Dump
from ctctl.tables.sources.nat_runs import NatRuns
from ctctl.tables.sources.service_runs import ServiceRuns

DATA = Path(__file__).resolve().parents[1] / "data"


LISTINGS = sorted(
    path
    for path in DATA.rglob("*")
    if path.is_file()
    and path.suffix not in (".gz", ".zip", ".o", ".pcap", ".json")
    and any(mark in path.read_bytes() for mark in (b"expires=", b" XLATE_", b"SERVICE ADDRESS"))
)


class Spent:
    """The work that was spent."""

    def __init__(self) -> None:
        self.work = 0

    def __call__(self, work: int) -> None:
        self.work += work


def read(text: bytes, *, passes: bool) -> tuple[dict[str, Any], Spent]:
    """What a file turns out to hold, and what that cost."""
    dump, spent = Dump(), Spent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes_of_lines, "WORTH", 0 if passes else 1 << 62)
        patch.setattr(passes_of_lines, "MAX_WAIT", 0)
        try:
            read_content(io.BytesIO(text), dump, "", spent)
        except CtctlError as error:
            dump.partial.append(str(error))
    return said(dump), spent


def said(dump: Dump) -> dict[str, Any]:
    """Everything of a dump."""
    fields = [field for field in Collected.__dataclass_fields__ if field != "known"]
    tables = {name: {field: getattr(table, field) for field in fields} for name, table in dump.tables.items()}
    parts = ("kinds", "partial", "skipped", "skipped_first", "losses", "now", "clock", "broken", "ended", "listings")
    nat = sorted(map(repr, dump.listings.nat))  # one by one or by columns
    dump.listings.nat_entries, dump.listings.nat_text = [], None
    return {"tables": tables, "nat": nat, **{part: getattr(dump, part) for part in parts}}


def agree(text: bytes) -> dict[str, Any]:
    """Read a file both ways; what both say."""
    one_by_one, spent = read(text, passes=False)
    at_once, also = read(text, passes=True)
    assert at_once == one_by_one
    assert also.work == spent.work or at_once["nat"] or at_once["listings"].services
    return at_once


@pytest.mark.parametrize("path", LISTINGS, ids=[str(path.relative_to(DATA)) for path in LISTINGS])
def test_listings_that_people_had(path: Path) -> None:
    text = path.read_bytes()
    agree(text)
    agree(text.replace(b"\n", b"\r\n"))
    agree(b"".join(b"> " + line + b"\n" for line in text.split(b"\n")))


WORDS = st.sampled_from([0, 1, 2, 0xFF, 0x1234, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 63) + 5, (1 << 64) - 1])


@st.composite
def lines(draw: st.DrawFn, layout: Layout) -> str:
    """A line of the version that has the layout, of any entry."""
    family = draw(st.sampled_from([4, 4, 6]))
    addresses = draw(st.binary(min_size=8, max_size=8)) if family == 4 else draw(st.binary(min_size=32, max_size=32))
    proto, flags = draw(st.sampled_from([6, 6, 6, 17, 1, 58, 132, 2, 112, 200])), draw(st.sampled_from([0, 1, 2, 3, 4]))
    key = addresses + draw(st.binary(min_size=4, max_size=4)) + bytes((proto, flags))
    head = struct.pack("<QQQQI", *(draw(WORDS) & (1 << 64) - 1 for _ in range(4)), draw(WORDS) & 0xFFFFFFFF)
    value = head + draw(st.binary(min_size=20, max_size=20))
    now = draw(st.sampled_from([None, 7, 5_000_000]))
    return cilium_line(decode_entry(key, value, layout), layout, Clock(), now) or ""


_ENDS = {
    4: st.sampled_from(["10.0.0.1", "192.168.1.254", "10.0.0.256", "10.00.0.1", "1.2.3"]),
    6: st.sampled_from(["[fd00::1]", "[::ffff:10.0.0.1]", "[::]", "[fd00:::1]", "[10.0.0.1]"]),
}


@st.composite
def nat_lines(draw: st.DrawFn) -> str:
    """A line of an SNAT listing, of early builds and later ones."""
    family = draw(st.sampled_from([4, 4, 6]))
    ends = [_ENDS[draw(st.sampled_from([family] * 9 + [10 - family]))] for _ in range(3)]
    source, target, to = (f"{draw(end)}:{draw(st.sampled_from([0, 1, 80, 65535, 65536, 99999]))}" for end in ends)
    way = draw(st.sampled_from([("OUT", "SRC"), ("IN", "DST")] * 4 + [("OUT", "DST")]))
    related = draw(st.sampled_from(["", "", " related"]))
    age = draw(st.sampled_from(["0", "72", "72", "-5", "9" * 18, "9" * 19]))
    tail = draw(st.sampled_from([" ago NeedsCT=0", " ago NeedsCT=1", " ago NeedsCT=18446744073709551616", " ago", ""]))
    proto = draw(st.sampled_from(["TCP", "UDP", "ICMP", "ICMPv6", "132", "256"]))
    return f"{proto} {way[0]} {source} -> {target}{related} XLATE_{way[1]} {to} Created={age}sec{tail}"


@st.composite
def service_lines(draw: st.DrawFn) -> str:
    """A row of a service listing, of any version."""
    family = draw(st.sampled_from([4, 4, 6]))
    front, backend = (f"{draw(_ENDS[family])}:{draw(st.sampled_from([0, 80, 65535, 65536]))}" for _ in range(2))
    protos = [draw(st.sampled_from(["", "/TCP", "/UDP", "/ANY", "/XYZ"])) for _ in range(2)]
    scope = draw(st.sampled_from(["", "", "/i"]))
    slots = draw(st.sampled_from([(0, 0), (1, 1), (2, 2), (1, 0), (65536, 1)]))
    words = draw(st.sampled_from(["", "", " []", " [ClusterIP, non-routable]", " [LoadBalancer]", " [a,,b ]"]))
    gap = draw(st.sampled_from(["   ", "     ", " ", "\t", " \t "]))
    right = f"{backend}{protos[1]} ({draw(st.integers(0, 70000))}) ({slots[1]}){words}"
    grouped = draw(st.sampled_from([False] * 5 + [True]))
    left = " " * 20 if grouped else f"{front}{protos[0]}{scope} ({slots[0]})"
    return left + gap + draw(st.sampled_from([right, right, right, "backend 9 not found", "0 1 (7) [0x10 0x2]"]))


@st.composite
def listings(draw: st.DrawFn) -> bytes:
    """Lines of one version or two, some of them edited as nobody should, between them what people leave there."""
    layouts = draw(st.lists(st.sampled_from([*Layout, "nat", "services", "services"]), min_size=1, max_size=2))
    found: list[str] = []
    for layout in layouts:
        others = {"nat": nat_lines(), "services": service_lines()}
        found += draw(st.lists(lines(layout) if isinstance(layout, Layout) else others[layout], max_size=12))
    for at in draw(st.lists(st.integers(0, max(len(found) - 1, 0)), max_size=4)):
        if found:
            found[at] = edited(draw, found[at])
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", " \n", ""]))
    return (end.join(found) + draw(st.sampled_from(["\n", ""]))).encode()


def edited(draw: st.DrawFn, line: str) -> str:
    """A line as an editor, a terminal or a hostile file may have it."""
    at = draw(st.integers(0, len(line)))
    return draw(
        st.sampled_from(
            [
                line[:at],
                line[at:],
                "",
                "...",
                "node1: " + line,
                " " + line,
                line.rstrip(),
                line + "\t ",
                line[:at] + draw(st.sampled_from([" ", "0", "-", "é", "\x1b[31m", "\x00", "x"])) + line[at:],
                line.replace("[ ", "[ Unknown=0xf800 "),
                line.replace(" RevNAT=", " RevNAT=0"),
                line.replace("=0x", "=0xFF"),
                line + line,
            ]
        )
    )


@settings(max_examples=400, deadline=None)
@given(listings())
def test_any_listing(text: bytes) -> None:
    agree(text)


def test_a_pass_takes_the_lines() -> None:
    """What the tests above compare is not the same way twice."""
    taken = Counter[type]()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (CtRuns, NatRuns, ServiceRuns):
            patch.setattr(kind, "add_rows", partialmethod(_counted, kind.add_rows, taken))
        for path in LISTINGS:
            read(path.read_bytes(), passes=True)
        row = "{:<32}10.61.1.102:8000/TCP (18) (1)".format
        aligned = "".join(f"{row(f'10.96.{n >> 8}.{n & 255}:80/TCP (1)'):<76}\n" for n in range(1000))
        assert len(read(aligned.encode(), passes=True)[0]["listings"].services) == 1000
    assert taken[CtRuns] > 1000
    assert taken[NatRuns] > 1000
    assert taken[ServiceRuns] > 500


def _counted(listing: Any, add_rows: Callable[..., None], taken: Counter[type], rows: Any) -> None:
    taken[type(listing)] += len(rows)
    add_rows(listing, rows)
