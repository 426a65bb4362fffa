"""What is found of SNAT entries by a flow or an address is what going through all of them finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.model.nat import NatEntry
from ctctl.model.tuples import FlowTuple
from ctctl.tables.nat_find import NatFinder
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import Listings
from tests.support.drawn_nat import Drawn, listed, tables


def source_of(listings: Listings) -> Source:
    source = Source(description="drawn")
    source.listings = lambda _node: listings
    return source


@pytest.mark.parametrize("kept", ["as bytes", "as entries", "as tables"])
@given(drawn=tables(), data=st.data())
def test_as_going_through_all(kept: str, drawn: Drawn, data: st.DataObject) -> None:
    made = listed(drawn)
    entries = made.entries()
    source = source_of(Listings(nat_text=made) if kept != "as entries" else Listings(nat_entries=entries))
    if kept == "as tables":
        source.snat = lambda _node: made.tables() or []
    finder = NatFinder(source, None)
    flows = [entry.tuple for entry in entries]
    addresses = [address for entry in entries for address in (entry.tuple.src, entry.tuple.dst, entry.to_addr)]
    for flow in [*flows, *(flow.reversed() for flow in flows)]:
        assert finder.of([flow]) == [entry for entry in entries if entry.tuple == flow]
    for address in addresses:
        assert list(finder.with_address(address)) == [entry for entry in entries if _has(entry, address)]
    if flows:
        flow = data.draw(st.sampled_from(flows))
        other = FlowTuple(flow.proto, flow.src, flow.src_port ^ 1, flow.dst, flow.dst_port)
        assert finder.of([other]) == [entry for entry in entries if entry.tuple == other]


def _has(entry: NatEntry, address: object) -> bool:
    return address in (entry.tuple.src, entry.tuple.dst, entry.to_addr)
