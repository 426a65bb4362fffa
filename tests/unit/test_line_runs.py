"""Lines read by columns say what the careful reader says of each, also where some are damaged, broken or of others."""

from __future__ import annotations

import io
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from ctctl.tables.sources import content
from ctctl.tables.sources.base import KINDS
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import Lines

_V4 = st.sampled_from(["10.0.0.1", "192.168.1.254", "0.0.0.0", "10.0.0.256", "10.00.0.1", "1.2.3"])
_V6 = st.sampled_from(["[fd00::1]", "[::ffff:10.0.0.1]", "[::]", "[fd00:::1]", "[10.0.0.1]"])
_PORT = st.sampled_from([0, 1, 80, 65535, 65536, 99999])


@st.composite
def _nat_line(draw: st.DrawFn) -> str:
    ends = draw(st.sampled_from([_V4, _V4, _V6]))
    source, target, to = (f"{draw(ends)}:{draw(_PORT)}" for _ in range(3))
    way, xlate = draw(st.sampled_from([("OUT", "SRC"), ("IN", "DST"), ("OUT", "SRC"), ("IN", "DST"), ("OUT", "DST")]))
    related = draw(st.sampled_from(["", "", " related"]))
    age = draw(st.sampled_from(["0", "72", "-5", "9" * 18, "9" * 19]))
    tail = draw(st.sampled_from(["sec ago NeedsCT=0", "sec ago NeedsCT=1", "sec ago", "sec HostLocal=1"]))
    proto = draw(st.sampled_from(["TCP", "UDP", "ICMP", "ICMPv6", "132"]))
    return f"{proto} {way} {source} -> {target}{related} XLATE_{xlate} {to} Created={age}{tail}"


_TALK = st.sampled_from(["", "$ cilium-dbg bpf nat list", "...", "TCP OUT 10.0.0.1:1 -> 10.0.", "NeedsCT=0", "4"])


@st.composite
def texts(draw: st.DrawFn, line: st.SearchStrategy[str]) -> bytes:
    """Runs of lines, all of a kind or not, with something between them, whole or broken at a terminal's width."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        same = draw(st.booleans())
        one = draw(line)
        lines += [one if same else draw(line) for _ in range(draw(st.integers(1, 6)))]
        lines += draw(st.lists(_TALK, max_size=1))
    front = draw(st.sampled_from(["", "", "", "> ", "agent-x2 | "]))
    width = draw(st.sampled_from([0, 0, 80]))
    if width:
        lines = [one[at : at + width] for one in lines for at in range(0, max(len(one), 1), width)]
    feed = draw(st.sampled_from(["\n", "\n", "\r\n", " \n"]))
    end = draw(st.sampled_from(["", feed]))
    return (feed.join(front + one for one in lines) + end).encode()


def read(text: bytes) -> dict[str, Any]:
    """What a text says."""
    dump = Dump()
    read_content(io.BytesIO(text), dump)
    found: dict[str, Any] = {
        kind: sorted(map(repr, getattr(dump.listings, kind))) if kind == "nat" else getattr(dump.listings, kind)
        for kind in KINDS
    }
    return {**found, "shown": dump.listings.shown, "partial": dump.partial, "skipped": dump.skipped}


def one_by_one(text: bytes) -> dict[str, Any]:
    """The same by the careful reader alone."""
    with mock.patch.object(Lines, "regular", return_value=[]):
        return read(text)


NAT = "TCP OUT 10.0.0.1:40000 -> 10.0.0.2:80 XLATE_SRC 192.168.0.1:40000 Created=72sec ago NeedsCT=0\n"


@given(text=texts(_nat_line()))
@example(text=(NAT * 3).encode() + NAT.encode()[:-2])
@example(text=(NAT * 3 + NAT[:-1] + "7\n").encode())
def test_snat_entries(text: bytes) -> None:
    assert read(text) == one_by_one(text)


def test_a_run_is_read_by_columns() -> None:
    lines = "".join(NAT.replace(":40000", f":{port}") for port in range(40_000, 40_500))
    with mock.patch.object(content.nat_text, "nat_of_line", wraps=content.nat_text.nat_of_line) as careful:
        assert len(read(lines.encode())["nat"]) == 500
    assert careful.call_count == 2
