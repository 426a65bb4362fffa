"""``conntrack -L`` and ``/proc/net/nf_conntrack`` in passes: rows of lines as they are printed, as a table's bytes."""

from __future__ import annotations

import functools
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from ctctl.abi import constants
from ctctl.decode.ct import VALUE_SIZE
from ctctl.model.entry import SEEN_NON_SYN
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import EITHER_ICMP, TCP, Direction, FlowTuple
from ctctl.tables.sources.ct_forms import built_keys
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.nf import TCP_STATES
from ctctl.tables.sources.nf_text import STATES, table_of
from ctctl.tables.sources.passes import FormRuns
from ctctl.tables.sources.regular import Form, addresses, octets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What both programs call a protocol; its number stands behind it.
_NAMES = dict.fromkeys(("tcp", "udp", "icmp", "icmpv6", "sctp", "dccp", "gre", "udplite", "unknown"), 0)
#: Where a value has the counters of the two directions.
_COUNTERS = {
    "": (constants.CT_ENTRY_RESERVED0, constants.CT_ENTRY_BACKEND_ID),
    "reply_": (constants.CT_ENTRY_PACKETS, constants.CT_ENTRY_BYTES),
}


@functools.cache
def _form() -> Form:
    form = Form()
    form.room("value", VALUE_SIZE)
    with form.maybe("of_proc"):
        form.word("family", {"ipv4": 4, "ipv6": 6}).blanks(1).word("number", {"2": 2, "10": 10}).blanks(1)
    form.word("name", _NAMES).blanks(1).decimal("proto", 1).blanks(1)
    with form.maybe("timed"):
        form.decimal("lifetime", 4, at=constants.CT_ENTRY_LIFETIME).blanks(1)
    for state in STATES:
        with form.maybe(state):
            form.literal(f"{state} ").blanks(0)
    _direction(form, "")
    with form.maybe("unreplied"):
        form.literal(" [UNREPLIED]")
    form.literal(" ")
    _direction(form, "reply_")
    form.same("dst_family", "src_family").same("reply_src_family", "src_family").same("reply_dst_family", "src_family")
    for word in ("[ASSURED]", "[OFFLOAD]", "[HW_OFFLOAD]"):
        with form.maybe(word):
            form.literal(f" {word}")
    for name in ("mark", "zone", "use"):
        with form.maybe(f"has_{name}"):
            form.literal(f" {name}=").decimal(name, 4)
    return form.end()


def _direction(form: Form, which: str) -> None:
    """What stands of one direction, its counters last. Addresses have no brackets here."""
    for number, name in enumerate(("src", "dst")):
        form.literal(f"{' ' * number}{name}=")
        with form.maybe(f"{which}{name}_bracket"):
            form.before("[")
        form.check(f"{which}{name}_bracket", 0).address(f"{which}{name}")
    with form.maybe(f"{which}ports"):
        form.literal(" sport=").decimal(f"{which}src_port", 2).literal(" dport=").decimal(f"{which}dst_port", 2)
    with form.maybe(f"{which}icmp"):
        form.literal(" type=").decimal("type", 1).literal(" code=").decimal("code", 1)
        form.literal(" id=").decimal(f"{which}id", 2)
    packets, octets_ = _COUNTERS[which]
    with form.maybe(f"{which}counted"):
        form.literal(" packets=").decimal(f"{which}packets", 8, at=packets)
        form.literal(" bytes=").decimal(f"{which}bytes", 8, at=octets_)


class ConntrackRuns(FormRuns[Dump]):
    """Rows of both listings of netfilter's connections."""

    work = 44
    form = staticmethod(_form)

    def add_rows(self, rows: NDArray[Any]) -> None:
        """Rows of such lines."""
        import numpy as np

        echo = np.isin(rows["proto"], EITHER_ICMP)
        for which in ("", "reply_"):  # ports of what has none mean nothing, nor does what stands where a part is not
            given = rows[f"{which}ports"] & ~echo
            rows[f"{which}src_port"] *= given
            rows[f"{which}dst_port"] *= given
            rows[f"{which}src_port"] += rows[f"{which}id"] * (rows[f"{which}icmp"] & echo)
        for name, part in (("lifetime", "timed"), ("packets", "counted"), ("bytes", "counted")):
            rows[name] *= rows[part]
        for name in ("packets", "bytes"):
            rows[f"reply_{name}"] *= rows["reply_counted"]
        flags = _flags(rows)
        for family in (4, 6):
            mine = rows["src_family"] == family
            some = rows[mine]
            if len(some):
                values = octets(some["value"]).copy()
                at = constants.CT_ENTRY_FLAGS
                values[:, at : at + 2] = octets(flags[mine])
                counted = bool((some["counted"] | some["reply_counted"]).any())
                keys = built_keys(some, family, np.zeros(len(some), np.bool_), np.zeros(len(some), np.uint8))
                table_of(self._into, family, counted=counted).add_many(keys, values)
        translated = rows[~echo & ~_answers(rows)]
        self._into.listings.nat_entries += _translations(translated)


def _flags(rows: NDArray[Any]) -> NDArray[np.uint16]:
    """As ``nf_text`` makes them of a line's words."""
    import numpy as np

    flags = np.where(rows["unreplied"] == 1, 0, SEEN_NON_SYN).astype("<u2")
    for number, state in enumerate(STATES):
        flags[(rows["proto"] == TCP) & (rows[state] == 1)] = TCP_STATES.get(number, 0)
    return flags


def _answers(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of them have replies of the same addresses and ports: nothing was translated."""
    same: NDArray[np.bool_] = rows["src"] == rows["reply_dst"]
    same &= rows["dst"] == rows["reply_src"]
    same &= rows["src_port"] == rows["reply_dst_port"]
    same &= rows["dst_port"] == rows["reply_src_port"]
    return same


def _translations(rows: NDArray[Any]) -> list[NatEntry]:
    """What was translated, as ``nf.translation`` has it."""
    ends = [addresses(rows, name) for name in ("src", "dst", "reply_src", "reply_dst")]
    ports = [rows[f"{name}_port"].tolist() for name in ("src", "dst", "reply_src", "reply_dst")]
    return list(map(_translation, rows["proto"].tolist(), *ends, *ports))


def _translation(  # noqa: PLR0917 - a row's columns
    proto: int,
    src: IPv4Address | IPv6Address,
    dst: IPv4Address | IPv6Address,
    reply_src: IPv4Address | IPv6Address,
    reply_dst: IPv4Address | IPv6Address,
    src_port: int,
    dst_port: int,
    reply_src_port: int,
    reply_dst_port: int,
) -> NatEntry:
    flow = FlowTuple(proto, src, src_port, dst, dst_port)
    if (reply_dst, reply_dst_port) != (src, src_port):
        return NatEntry("nf_conntrack", flow, Direction.OUT, False, "SRC", reply_dst, reply_dst_port)
    return NatEntry("nf_conntrack", flow, Direction.OUT, False, "DST", reply_src, reply_src_port)
