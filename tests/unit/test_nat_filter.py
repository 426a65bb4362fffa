"""The filter language on batches of SNAT entries says what it says on each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.decode.nat import decode_nat
from ctctl.tables.query.filter import Filter
from ctctl.tables.query.nat import NatFilter
from ctctl.tables.query.nat_mask import NatColumns, mask_of
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
)


@pytest.mark.parametrize("text", EXPRESSIONS)
@given(
    drawn=st.sampled_from([4, 6]).flatmap(
        lambda family: st.tuples(st.just(family), st.lists(nat_records(family), min_size=1, max_size=6))
    )
)
def test_a_mask_is_what_each_entry_says(text: str, drawn: tuple[int, list[tuple[bytes, bytes]]]) -> None:
    family, pairs = drawn
    wanted = NatFilter(Filter.parse(text).node, None, "here")
    keys, values = (np.array([list(part) for part in parts], np.uint8) for parts in zip(*pairs, strict=True))
    name = f"cilium_snat_v{family}_external"
    expected = [wanted(decode_nat(*pair, name)) for pair in pairs]
    assert mask_of(wanted, NatColumns(family, name, keys, values)).tolist() == expected
