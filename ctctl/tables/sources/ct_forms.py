"""Lines of the Cilium CLI's ``bpf ct list`` by the million: forms of each version, rows of them as a table's bytes.

What a line means is ``ct_text``'s to say: this reads only lines exactly as the programs print them, of the version
and, where lines tell their table by position, of the table that the line before was of.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctctl.abi import constants
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE, VALUE_SIZE
from ctctl.model.entry import Layout
from ctctl.model.tuples import TCP
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.regular import Form, octets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.decode.columns import Matrix

#: Protocols as the programs print them; one without a name as its number.
PROTOCOL_WORDS = {word: PROTOCOLS[word.lower()] for word in ("TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "IGMP", "VRRP")}
PROTOCOL_WORDS.update((str(number), number) for number in range(1, 256))
#: Directions as the bits of a tuple.
DIRECTIONS = {"OUT": 0, "IN": TUPLE_IN, "SVC": TUPLE_SERVICE}
#: The first four words of a value; up to 1.15 they are counters, two a direction.
_FIRST, _SECOND = constants.CT_ENTRY_RESERVED0, constants.CT_ENTRY_BACKEND_ID
_THIRD, _FOURTH = constants.CT_ENTRY_PACKETS, constants.CT_ENTRY_BYTES

#: A value's numbers, those in network order as they lie.
VALUE = struct.Struct("<QQQQIHHHBBIII")
_KEY_END = (("dport", ">u2"), ("sport", ">u2"), ("proto", "u1"), ("flags", "u1"))


def layout_of_names(names: Collection[str], split: str, ifindex: str, nat_port: str) -> Layout:
    """The layout by the names of an entry's fields, however they are spelled."""
    if split in names:
        return Layout.V1_15
    if ifindex in names:
        return Layout.V1_16
    return Layout.V1_19 if nat_port in names else Layout.V1_18


@dataclass(frozen=True, slots=True)
class Sort:
    """Which lines are read in one pass: of a layout; ``ends_early``: of up to 1.15 without an interface.

    ``family``: only those of one table, of TCP or not.
    """

    layout: Layout
    ends_early: bool = False
    family: int | None = None
    tcp: bool = False


@functools.cache
def form_of(sort: Sort) -> Form:
    """The form of such lines. ``value`` of its rows is the entry's."""
    form, split = Form(), sort.layout.split_counters
    form.room("value", VALUE_SIZE)
    form.word("proto", PROTOCOL_WORDS).literal(" ").word("direction", DIRECTIONS).literal(" ")
    form.address("src", port=True).literal(" -> ").address("dst", port=True).same("src_family", "dst_family")
    if sort.family is not None:
        form.check("src_family", sort.family).check("proto", TCP, unlike=not sort.tcp)
    with form.maybe("related"):
        form.literal(" related")
    if split:
        with form.maybe("service"):
            form.literal(" service")
    form.literal(" expires=").decimal("lifetime", 4, at=constants.CT_ENTRY_LIFETIME)
    with form.maybe("timed"):
        form.literal(" (remaining: ").signed("remaining").literal(" sec(s))")
    names = ("Rx", "Rx") if split else ("", "")
    places = (_FIRST, _SECOND) if split else (_THIRD, _FOURTH)
    _counters(form, names[0], places)
    _reports(form, "Rx", constants.CT_ENTRY_RX_FLAGS_SEEN, constants.CT_ENTRY_LAST_RX_REPORT)
    if split:
        _counters(form, "Tx", (_THIRD, _FOURTH))
    _reports(form, "Tx", constants.CT_ENTRY_TX_FLAGS_SEEN, constants.CT_ENTRY_LAST_TX_REPORT)
    form.literal(" Flags=0x").hex("flags", 2, at=constants.CT_ENTRY_FLAGS).literal(" [ ").names(16).literal("]")
    form.literal(" RevNAT=").decimal("rev_nat", 2, at=constants.CT_ENTRY_REV_NAT_INDEX, big=True)
    form.literal(" SourceSecurityID=").decimal("identity", 4, at=constants.CT_ENTRY_SRC_SEC_ID)
    if sort.layout is Layout.V1_16 or (split and not sort.ends_early):
        form.literal(" IfIndex=").decimal("ifindex", 2, at=constants.CT_ENTRY_IFINDEX)
    if not split:
        form.literal(" BackendID=").decimal("backend_id", 8, at=_SECOND)
    if sort.layout is Layout.V1_19:
        form.literal(" NatPort=").decimal("nat_port", 2, at=constants.CT_ENTRY_IFINDEX, big=True)
    return form.end()


def _counters(form: Form, of: str, places: tuple[int, int]) -> None:
    for name, place in zip(("Packets", "Bytes"), places, strict=True):
        form.literal(f" {of}{name}=").decimal(f"{of}{name}", 8, at=place)


def _reports(form: Form, of: str, flags: int, report: int) -> None:
    form.literal(f" {of}FlagsSeen=0x").hex(f"{of}FlagsSeen", 1, at=flags)
    form.literal(f" Last{of}Report=").decimal(f"Last{of}Report", 4, at=report)


def keys_of(sort: Sort, rows: NDArray[Any], family: int) -> Matrix:
    """The keys of rows of lines."""
    service = rows["service"] == 1 if sort.layout.split_counters else None
    as_packet, flags = rows["direction"] == TUPLE_SERVICE, rows["direction"]
    if service is not None:  # up to 1.14: VIP -> client, as the key has it
        as_packet &= ~service
        flags = flags * ~service | service * TUPLE_SERVICE
    return built_keys(rows, family, as_packet, flags | rows["related"] * TUPLE_RELATED)


def built_keys(rows: NDArray[Any], family: int, as_packet: NDArray[np.bool_], flags: NDArray[np.uint8]) -> Matrix:
    """Keys as a table of a family has them (``decode.ct.encode_key``), of rows with ``src``, ``dst`` and ``proto``.

    ``as_packet``: which of them are of service entries.
    """
    import numpy as np

    half = 4 if family == 4 else 16
    src, dst = (octets(rows[name])[:, :half] for name in ("src", "dst"))
    keys = np.empty(len(rows), np.dtype([("addresses", f"V{2 * half}"), *_KEY_END]))
    out: Matrix = keys.view(np.uint8).reshape(len(rows), -1)
    out[:, :half] = np.where(as_packet[:, None], dst, src)
    out[:, half : 2 * half] = np.where(as_packet[:, None], src, dst)
    keys["dport"] = np.where(as_packet, rows["src_port"], rows["dst_port"])
    keys["sport"] = np.where(as_packet, rows["dst_port"], rows["src_port"])
    keys["proto"], keys["flags"] = rows["proto"], flags
    return out
