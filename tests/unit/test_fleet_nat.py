"""A lake's rows of SNAT entries, made from their bytes, are what one entry after the other says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given

from ctctl.fleet import tables as lake_tables
from ctctl.fleet.nat import nat_rows
from ctctl.tables.show.arrow import Stamp
from ctctl.tables.sources.listings import Listings
from tests.support.drawn_nat import Drawn, listed, tables

pytest.importorskip("pyarrow", reason="lakes need pyarrow (ctctl[fleet])")

MADE = datetime(2026, 1, 15, 10, 15, 30, tzinfo=UTC)


@given(tables())
def test_as_entry_by_entry(drawn: Drawn) -> None:
    found, clock, now, names, _shows_ct = drawn
    made = listed(drawn)
    stamp = Stamp("prod", "node1", MADE, "abc", None, names)
    columns = lake_tables.TABLES["nat"]
    kept = made.tables()
    assert kept is not None
    ours = [row for table in nat_rows(kept, columns, stamp, (clock, now)) for row in table.to_pylist()]
    one_by_one = Listings(nat_entries=made.entries())
    theirs = [
        row for table in lake_tables.listing_rows("nat", one_by_one, stamp, (clock, now)) for row in table.to_pylist()
    ]
    assert len(ours) == len(theirs) == len(made)

    def by_key(row: dict[str, object]) -> str:
        return repr(row)

    assert sorted(ours, key=by_key) == sorted(theirs, key=by_key)
    assert all(
        table.schema == lake_tables.empty_rows("nat").schema for table in nat_rows(kept, columns, stamp, (clock, now))
    )
    for family in found:
        flows = [(row["direction"], row["dst_hi"], row["dst_lo"]) for row in ours if row["family"] == family]
        unsigned = [(way, hi % (1 << 64), lo % (1 << 64)) for way, hi, lo in flows]
        assert unsigned == sorted(unsigned)
