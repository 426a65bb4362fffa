"""Orientation of SNAT keys, against a vector of the real datapath and by their inverses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctctl.tables import pairs as keys
from tests.support.gctables import reverse_nat_value

tuples = st.one_of(
    st.binary(min_size=12, max_size=12).map(lambda b: b + b"\x06\x00"),
    st.binary(min_size=36, max_size=36).map(lambda b: b + b"\x11\x00"),
)


def test_dsr_key_as_the_datapath_writes_it() -> None:
    # conformance vector dsr_backend_tcp: the OUT entry and the SNAT entry of one connection
    ct = bytes.fromhex("c00002320a4000401f909c400600")
    assert keys.nat_key(ct, dsr=True).hex() == "c00002320a4000409c401f900600"


def test_plain_key_is_in_packet_order() -> None:
    # 10.64.0.36:54260 -> 8.8.8.8:443, stored reversed; the SNAT key has daddr 8.8.8.8, dport 443
    ct = bytes.fromhex("0a400024 08080808 01bb d3f4 06 00")
    assert keys.nat_key(ct, dsr=False) == bytes.fromhex("08080808 0a400024 01bb d3f4 06 00")


def test_reverse_entry() -> None:
    forward = bytes.fromhex("08080808 0a400024 01bb d3f4 06 00")
    value = bytes(32) + bytes.fromhex("0a000001 c350 0000")  # to 10.0.0.1:50000
    reverse = keys.reverse_nat_key(forward, value)
    assert reverse == bytes.fromhex("0a000001 08080808 c350 01bb 06 01")
    reverse_value = reverse_nat_value(forward, value)
    assert reverse_value[32:38] == bytes.fromhex("0a400024 d3f4")
    assert keys.forward_nat_key(reverse, reverse_value) == forward


@given(tuples)
def test_ct_keys_invert_nat_keys(key: bytes) -> None:
    plain, dsr = keys.ct_keys(keys.nat_key(key, dsr=False))
    assert plain == key
    assert keys.ct_keys(keys.nat_key(key, dsr=True))[1] == key
    assert len(dsr) == len(key)


@given(tuples, st.binary(min_size=18, max_size=18))
def test_forward_and_reverse_agree(key: bytes, to: bytes) -> None:
    layout = keys.layout_of(key)
    forward = keys.nat_key(key, dsr=False)
    tail = to[: layout.address + 2]
    value = (bytes(32) + tail).ljust(layout.nat_value_size, b"\0")
    reverse = keys.reverse_nat_key(forward, value)
    assert keys.forward_nat_key(reverse, reverse_nat_value(forward, value)) == forward


def test_out_is_equality_not_a_bit() -> None:
    assert keys.is_out(bytes(13) + b"\x00")
    for flags in (1, 2, 3, 4):
        assert not keys.is_out(bytes(13) + bytes([flags]))


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 13"):
        keys.layout_of(bytes(13))
