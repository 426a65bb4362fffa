"""What several property tests draw: conntrack and SNAT entries, and filters."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

#: What fields of 64 bits have.
WORDS = st.sampled_from([0, 1, 2, 0xFF, 0x1234, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 63) + 5, (1 << 64) - 1])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Key and value of any entry."""
    family = draw(st.sampled_from([4, 4, 6]))
    addresses = draw(st.binary(min_size=8, max_size=8)) if family == 4 else draw(st.binary(min_size=32, max_size=32))
    proto, flags = draw(st.sampled_from([6, 6, 6, 17, 1, 58, 132, 2, 112, 200])), draw(st.sampled_from([0, 1, 2, 3, 4]))
    key = addresses + draw(st.binary(min_size=4, max_size=4)) + bytes((proto, flags))
    head = struct.pack("<QQQQI", *(draw(WORDS) & (1 << 64) - 1 for _ in range(4)), draw(WORDS) & 0xFFFFFFFF)
    value = head + draw(st.binary(min_size=20, max_size=20))
    return key, value


@st.composite
def nat_records(draw: st.DrawFn, family: int) -> tuple[bytes, bytes]:
    """Key and value of an SNAT entry of an IP version."""
    half = 4 if family == 4 else 16
    known = bytes([10, 0, 0, 1]) if family == 4 else bytes.fromhex("fd" + "00" * 14 + "01")
    one = st.binary(min_size=half, max_size=half) | st.just(known)
    proto = draw(st.sampled_from([0, 1, 6, 17, 58, 132, 200]))
    key = draw(one) + draw(one) + draw(st.binary(min_size=4, max_size=4)) + bytes([proto, draw(st.integers(0, 7))])
    created = draw(st.sampled_from([0, 1, 999, 5000, 2**40]) | st.integers(0, 2**50))
    value = created.to_bytes(8, "little") + draw(st.binary(min_size=8, max_size=8)) + bytes(16)
    return key, (value + draw(one) + draw(st.binary(min_size=2, max_size=2))).ljust(40 if family == 4 else 56, b"\0")


_TERMS = [
    "tcp",
    "udp",
    "src == 10.64.0.36",
    "dst in 10.64.0.0/16",
    "ip in fd00::/96",
    "ip == fd00::1",
    "port == 1",
    "src_port < 2",
    "dst_port in {0, 2..3}",
    "direction == in",
    "svc",
    "out",
    "state == closing",
    "state in {new, closed}",
    "related",
    "expired",
    "live",
    "remaining > 1s",
    "remaining <= -1s",
    "remaining == 0",
    "idle < 2s",
    "idle >= 1s",
    "flag(SeenNonSyn)",
    "flag(RxClosing, TxClosing)",
    "flags == 16",
    "rev_nat == 1",
    "identity >= 2",
    "backend_id == 1",
    "packets > 1",
    "rx_bytes <= 1",
    "tx_packets == 2",
    "ifindex == 0",
    "tx_flags_seen != 1",
    "lifetime < 1000",
    "family == 6",
]
#: Filters of conntrack entries, of every kind of term.
expressions = st.recursive(
    st.sampled_from(_TERMS),
    lambda inner: st.one_of(
        inner.map(lambda text: f"not ({text})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(" + " and ".join(parts) + ")"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(" + " or ".join(parts) + ")"),
    ),
    max_leaves=8,
)
