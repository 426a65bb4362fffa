"""Which SNAT entries belong to which conntrack entry. Pure, on raw keys, IPv4 and IPv6.

Offsets and orientation: docs/reference/abi.md ("Key", "GC facts"). A conntrack OUT key of S:sp -> D:dp holds
daddr=S saddr=D dport=dp sport=sp; the SNAT table's key is in packet order: daddr=D saddr=S dport=dp
sport=sp, so the addresses change places. A DSRInternal entry is the client's connection, its SNAT
key the pod's reply: there the ports change places and the addresses stay.
"""

from __future__ import annotations

from ctctl.abi import constants
from ctctl.abi.constants import TUPLE_IN, TUPLE_OUT
from ctctl.model.light import light_value


@light_value
class KeyLayout:
    """Where the fields of a tuple are, and where an SNAT value keeps the translated address and port."""

    size: int
    address: int
    nat_value_size: int
    nat_address: int

    @property
    def ports(self) -> int:
        """Offset of dport; sport follows."""
        return 2 * self.address

    @property
    def flags(self) -> int:
        """Offset of the tuple's flag byte, the last one."""
        return self.size - 1


IPV4 = KeyLayout(
    size=constants.IPV4_CT_TUPLE_SIZE,
    address=constants.IPV4_CT_TUPLE_SADDR,
    nat_value_size=constants.IPV4_NAT_ENTRY_SIZE,
    nat_address=constants.IPV4_NAT_ENTRY_TO_SADDR,
)
IPV6 = KeyLayout(
    size=constants.IPV6_CT_TUPLE_SIZE,
    address=constants.IPV6_CT_TUPLE_SADDR,
    nat_value_size=constants.IPV6_NAT_ENTRY_SIZE,
    nat_address=constants.IPV6_NAT_ENTRY_TO_SADDR,
)
KEY_LAYOUTS = {4: IPV4, 6: IPV6}


def layout_of(key: bytes) -> KeyLayout:
    """The layout of a tuple of that length. Raises ValueError for any other length."""
    for layout in (IPV4, IPV6):
        if len(key) == layout.size:
            return layout
    raise ValueError(f"a tuple has 14 or 38 bytes, not {len(key)}")


def _split(key: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    a = layout_of(key).address
    return key[:a], key[a : 2 * a], key[2 * a : 2 * a + 2], key[2 * a + 2 : 2 * a + 4], key[2 * a + 4 : 2 * a + 5]


def is_out(key: bytes) -> bool:
    """Whether a conntrack key is an OUT entry's. OUT is zero: related and service entries are not."""
    return key[-1] == TUPLE_OUT


def nat_key(ct_key: bytes, dsr: bool) -> bytes:
    """The SNAT key (OUT) behind a conntrack OUT key; ``dsr`` for a DSRInternal entry."""
    daddr, saddr, dport, sport, proto = _split(ct_key)
    if dsr:
        return daddr + saddr + sport + dport + proto + bytes([TUPLE_OUT])
    return saddr + daddr + dport + sport + proto + bytes([TUPLE_OUT])


def ct_keys(snat_key: bytes) -> tuple[bytes, bytes]:
    """The conntrack OUT keys that keep an SNAT OUT entry alive: the plain one and the DSRInternal one.

    Both maps of ``nat_key`` are their own inverse.
    """
    return nat_key(snat_key, dsr=False), nat_key(snat_key, dsr=True)


def reverse_nat_key(snat_key: bytes, snat_value: bytes) -> bytes:
    """The reverse SNAT entry (IN): from the peer to the translated address and port."""
    layout = layout_of(snat_key)
    daddr, _, dport, _, proto = _split(snat_key)
    start = layout.nat_address
    to_addr = snat_value[start : start + layout.address]
    to_port = snat_value[start + layout.address : start + layout.address + 2]
    return to_addr + daddr + to_port + dport + proto + bytes([TUPLE_IN])


def forward_nat_key(reverse_key: bytes, reverse_value: bytes) -> bytes:
    """The SNAT OUT entry behind a reverse one, whose value holds the untranslated address and port."""
    layout = layout_of(reverse_key)
    _, saddr, _, sport, proto = _split(reverse_key)
    start = layout.nat_address
    pod_addr = reverse_value[start : start + layout.address]
    pod_port = reverse_value[start + layout.address : start + layout.address + 2]
    return saddr + pod_addr + sport + pod_port + proto + bytes([TUPLE_OUT])


def has_address(key: bytes, address: bytes) -> bool:
    """Whether either address of a tuple is ``address`` (network order)."""
    a = layout_of(key).address
    return address in (key[:a], key[a : 2 * a])
