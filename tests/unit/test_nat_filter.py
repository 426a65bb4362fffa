"""The filter language on batches of SNAT entries says what it says on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.decode.nat import decode_nat
from ctctl.errors import UsageError
from ctctl.model.clock import Clock
from ctctl.model.nat import NatEntry
from ctctl.out.cells import cell, csv_cell
from ctctl.services.nat_rows import matching
from ctctl.services.show_nat import nat_view
from ctctl.tables.open import open_source
from ctctl.tables.query.nat import NatFilter
from ctctl.tables.query.nat_mask import NatColumns, mask_of
from ctctl.tables.query.parse import NAT_WORDS, parse_filter
from ctctl.tables.sources.base import SourceOptions
from tests.support.drawn import nat_records

EXPRESSIONS = (
    "tcp",
    "not tcp and related",
    "direction == in or direction == out and dst_port > 100",
    "ip == 10.0.0.1",
    "src in 10.0.0.0/8 or dst == fd00::1",
    "nat_addr in fd00::/16 or nat_addr == 10.0.0.1",
    "port in 0..1000 and not src_port == 5",
    "nat_port >= 30000",
    "family == 6 and proto != 17",
    "map == cilium_snat_v4_external",
    "node == here or node == there",
    "not (ip in ::/0 or ip in 0.0.0.0/0)",
    "xlate == dst or xlate == src and to == 10.0.0.1",
    "to == 10.0.0.1:0 or to_addr in fd00::/16",
    "created > 999 and not needs_ct == 0",
    "age < 100 or age == 5000 or age < -5",
)
#: Clocks that tables have, and a now of each.
TIMES = ((Clock(), 6000), (Clock(250), 6000), (Clock(), 0))
CENTURY_S = 100 * 365 * 86400
SAMPLES = Path(__file__).resolve().parents[1] / "data" / "samples"


@pytest.mark.parametrize("text", EXPRESSIONS)
@given(
    time=st.sampled_from(TIMES),
    drawn=st.sampled_from([4, 6]).flatmap(
        lambda family: st.tuples(st.just(family), st.lists(nat_records(family), min_size=1, max_size=6))
    ),
)
def test_a_mask_is_what_each_entry_says(
    text: str, time: tuple[Clock, int], drawn: tuple[int, list[tuple[bytes, bytes]]]
) -> None:
    family, pairs = drawn
    wanted = NatFilter(parse_filter(text, NAT_WORDS), None, "here", *time)
    keys, values = (np.array([list(part) for part in parts], np.uint8) for parts in zip(*pairs, strict=True))
    name = f"cilium_snat_v{family}_external"
    expected = [wanted(decode_nat(*pair, name)) for pair in pairs]
    assert mask_of(wanted, NatColumns(family, name, keys, values)).tolist() == expected


def printed(entry: NatEntry, clock: Clock, now: int | None) -> Iterator[tuple[str, str]]:
    """Each column with what a table and a spreadsheet show of an entry; absent values are no condition."""
    names = {str(entry.tuple.src): "shop/dead"}
    for column in nat_view(names, clock, now).columns:
        value = column.value(entry)
        if value is None or (column.name == "age" and abs(int(str(value))) > CENTURY_S):
            continue
        shown = column.text(entry) if column.text is not None else cell(value)
        short = {column.short(entry)} if column.short is not None else set()
        for text in {shown, str(csv_cell(value)), *short} - {"", "-"}:
            if not text.startswith("shop/"):
                yield column.name, text


@pytest.mark.parametrize("file", ["cilium-dbg-1.16.4/nat-list.txt", "cilium-dbg-1.16.4/nat-list.json"])
def test_what_nat_list_prints_can_be_typed_back(file: str) -> None:
    seen: set[str] = set()
    with open_source(str(SAMPLES / file), SourceOptions()) as source:
        clock, entries = Clock(), source.listings(None).nat
        now = None if entries[0].created is None else entries[0].created + 77
        for entry in entries[:: max(len(entries) // 12, 1)]:
            for name, text in printed(entry, clock, now):
                seen.add(name)
                for operator, expected in (("==", True), ("!=", False)):
                    node = parse_filter(f'{name} {operator} "{text}"', NAT_WORDS)
                    assert NatFilter(node, clock=clock, now=now)(entry) is expected, (name, operator, text)
    assert seen >= {"proto", "direction", "source", "destination", "xlate", "to", "age", "related", "map"}


def test_ages_of_a_listing_are_looked_at_by_columns() -> None:
    with open_source(str(SAMPLES / "cilium-dbg-1.16.4/nat-list.txt"), SourceOptions()) as source:
        listings = source.listings(None)
        tables, ages = listings.nat_tables(), [entry.age_s or 0 for entry in listings.nat]
    middle = sorted(ages)[len(ages) // 2]
    assert tables is not None
    for text, expected in ((f"age <= {middle}s", sum(age <= middle for age in ages)), ("created > 0", 0)):
        wanted = NatFilter(parse_filter(text, NAT_WORDS))
        assert sum(len(rows) for table in tables for rows in matching(table, wanted)) == expected


def test_a_word_that_is_two_things_is_refused() -> None:
    with pytest.raises(UsageError, match="to_port can be dst_port or nat_port"):
        parse_filter("to_port == 80", NAT_WORDS)
    assert parse_filter("to_port == 80") is not None  # of conntrack entries it is one


def test_an_age_needs_a_now() -> None:
    with open_source(str(SAMPLES / "cilium-dbg-1.16.4/nat-list.json"), SourceOptions()) as source:
        entry = source.listings(None).nat[0]
    with pytest.raises(UsageError, match="--now"):
        NatFilter(parse_filter("age > 5", NAT_WORDS))(entry)
