"""Lines of a conntrack listing: the short way through them and the long one."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump

_NUMBERS = st.sampled_from(
    ("0", "7", "007", "255", "256", "65535", "65536", str(2**32 - 1), str(2**32), str(2**64), "\u0663")
)
_HEXES = st.sampled_from(("0", "1b", "ff", "100", "1B", "ffffffff", "100000000"))


@given(st.lists(_NUMBERS, min_size=9, max_size=9), st.lists(_HEXES, min_size=3, max_size=3), st.sampled_from("ab c"))
def test_the_short_way_through_a_line_says_what_the_general_one_says(
    numbers: list[str], bits: list[str], end: str
) -> None:
    packets, octets, rx_at, tx_at, rev_nat, identity, ifindex, backend, port = numbers
    last = {"a": f"IfIndex={ifindex} BackendID={backend}", "b": f"BackendID={backend} NatPort={port}"}
    line = (
        f"TCP OUT 10.1.1.1:1 -> 10.0.0.1:80 expires=5 Packets={packets} Bytes={octets} RxFlagsSeen=0x{bits[0]} "
        f"LastRxReport={rx_at} TxFlagsSeen=0x{bits[1]} LastTxReport={tx_at} Flags=0x{bits[2]} [ SeenNonSyn ] "
        f"RevNAT={rev_nat} SourceSecurityID={identity} {last.get(end, f'BackendID={backend}')}"
    )
    assert _one(line) == _one(line.replace(" Packets=", "  Packets="))  # two blanks: not as a program prints it


def _one(line: str) -> tuple[object, ...]:
    dump = Dump()
    read_content(io.BytesIO(line.encode()), dump)
    tables = [(t.name, t.layout, bytes(t.keys), bytes(t.values), t.nat_ports, t.newest) for t in dump.tables.values()]
    return tables, len(dump.partial)


_OF_1_15 = (
    "TCP OUT 10.1.1.1:{} -> 10.0.0.1:80 expires=5 RxPackets=1 RxBytes=2 RxFlagsSeen=0x02 LastRxReport=3 TxPackets=4 "
    "TxBytes=5 TxFlagsSeen=0x02 LastTxReport=6 Flags=0x0010 [ SeenNonSyn ] RevNAT=12 SourceSecurityID=345 IfIndex=67 "
)


@pytest.mark.parametrize("end", ["", "...", "…"])
@pytest.mark.parametrize("first", [True, False])
def test_a_line_of_1_15_that_is_cut_off_is_said(end: str, first: bool) -> None:
    line = _OF_1_15.format(1)
    for cut in range(line.index("Packets"), line.index("67") + bool(end)):
        whole = [_OF_1_15.format(port) for port in (2, 3)]
        cut_off = line[:cut] + end
        dump = Dump()
        read_content(io.BytesIO("\n".join([cut_off, *whole] if first else [*whole, cut_off, ""]).encode()), dump)
        assert len(dump.partial) == 1, cut_off
        entries = len(dump.tables["cilium_ct4_global"])
        # Without an interface a line is a whole one of an earlier build, until others have one.
        assert entries == 2 or (first and cut >= line.index("345")), cut_off


def test_a_line_of_before_interfaces_is_whole() -> None:
    dump = Dump()
    early = [_OF_1_15.format(port).partition(" IfIndex")[0] for port in (1, 2)]
    read_content(io.BytesIO("\n".join([*early, ""]).encode()), dump)
    assert (len(dump.tables["cilium_ct4_global"]), dump.partial) == (2, [])
