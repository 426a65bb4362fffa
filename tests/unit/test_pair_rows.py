"""Keys that belong to a row's, by row programs: what ``tables.pairs`` makes of each key; groups that are looked up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.decode.columns import CtColumns
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.decode.nat import decode_nat
from ctctl.decode.nat_rows import NatRows, rows_of
from ctctl.model.entry import Layout
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Direction
from ctctl.out.rowtables import Groups
from ctctl.tables import pair_rows, pairs
from ctctl.tables.snat_use import SnatUse
from tests.support.drawn import nat_records

FAMILIES = pytest.mark.parametrize("family", [4, 6])
Pairs = list[tuple[bytes, bytes]]


def rows(family: int, found: Pairs) -> NatRows:
    return NatRows(family, b"".join(key for key, _ in found), b"".join(value for _, value in found), "nat")


@FAMILIES
@given(data=st.data(), dsr=st.booleans())
def test_keepers(family: int, dsr: bool, data: st.DataObject) -> None:
    found = data.draw(st.lists(nat_records(family), min_size=1, max_size=5))
    forward = [key if pairs.is_out(key) else pairs.forward_nat_key(key, value) for key, value in found]
    assert pair_rows.keeper(family, dsr=dsr).lines(rows(family, found)) == [
        pairs.nat_key(key, dsr=dsr) for key in forward
    ]


@FAMILIES
@given(data=st.data())
def test_keys_of_conntrack_entries(family: int, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.binary(min_size=KEY_SIZE[family], max_size=KEY_SIZE[family]), min_size=1, max_size=5))
    columns = CtColumns.of_bytes(family, b"".join(keys), bytes(VALUE_SIZE * len(keys)), Layout.V1_16)
    assert pair_rows.dsr_nat_key(family).lines(columns) == [pairs.nat_key(key, dsr=True) for key in keys]
    assert pair_rows.out_key(family).lines(columns) == [key if pairs.is_out(key) else b"" for key in keys]


@FAMILIES
@given(data=st.data())
def test_groups_are_found_again(family: int, data: st.DataObject) -> None:
    known, asked = (data.draw(st.lists(nat_records(family), max_size=50)) for _ in range(2))
    groups, program = Groups(KEY_SIZE[family]), pair_rows.key_itself(family)
    program.group(rows(family, known), groups)
    order = list(dict.fromkeys(key for key, _ in known))
    both = [*asked, *known]
    places = program.find_in(rows(family, both), groups)
    assert list(places) == [order.index(key) + 1 if key in order else 0 for key, _ in both]
    assert [groups.key(at) for at in range(len(groups))] == order
    assert len(groups) == len(order), "looking up makes none"


@FAMILIES
@given(data=st.data())
def test_entries_of_listings_have_the_bytes_they_came_from(family: int, data: st.DataObject) -> None:
    found = [(key[:-1] + bytes([key[-1] & 3]), value) for key, value in data.draw(st.lists(nat_records(family)))]
    entries = [decode_nat(key, value, "nat") for key, value in found]
    (*parts,) = rows_of(entries)
    assert b"".join(part.keys for part in parts) == b"".join(key for key, _ in found)
    listed = [(e.tuple, e.direction, e.related, e.to_addr, e.to_port, e.created) for e in entries]
    again = [decode_nat(*part.record(at)) for part in rows_of(replace_raw(entries)) for at in range(len(part))]
    assert [(e.tuple, e.direction, e.related, e.to_addr, e.to_port, e.created) for e in again] == listed


def replace_raw(entries: list[NatEntry]) -> list[NatEntry]:
    """As listings have them: without the bytes."""
    return [replace(entry, key=None, value=None) for entry in entries]


@FAMILIES
@given(data=st.data(), least=st.integers(1, 3))
def test_ports_by_ends(family: int, least: int, data: st.DataObject) -> None:
    some = data.draw(st.lists(nat_records(family), min_size=1, max_size=4))
    found = [
        (key[:-1] + bytes([data.draw(st.sampled_from([0, 0, 0, 1, 2]))]), value)
        for key, value in data.draw(st.lists(st.sampled_from(some), max_size=20))
    ]
    entries = [decode_nat(key, value) for key, value in found]
    expected: dict[object, list[int]] = {}
    for entry in entries:
        if entry.direction is Direction.OUT and not entry.related:
            ends = (entry.tuple.proto, entry.to_addr, entry.tuple.dst, entry.tuple.dst_port)
            expected.setdefault(ends, []).append(entry.to_port)
    use = SnatUse(lambda: iter([rows(family, found[:7]), rows(family, found[7:])]))
    assert use.entries.get(family, 0) == len(found)
    seen = {
        (ends.proto, ends.egress, ends.remote, ends.remote_port): (int(taken.entries[at]), taken.ports_of(at))
        for taken in use.taken(least)
        for at in range(len(taken))
        for ends in (taken.ends(at),)
    }
    assert seen == {ends: (len(ports), sorted(set(ports))) for ends, ports in expected.items() if len(ports) >= least}
    most = use.most()
    assert (most is None) == (not expected)
    assert most is None or most[1] == max(map(len, expected.values()))
