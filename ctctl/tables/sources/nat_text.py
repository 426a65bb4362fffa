"""The Cilium CLI's ``bpf nat list``: lines of text and elements of the JSON form."""

from __future__ import annotations

import re
import struct
from typing import Any

from ctctl.abi import pins
from ctctl.errors import DecodeError
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.ct_records import address_of
from ctctl.tables.sources.values import address, digits, whole

_END = r"(?P<%s>\[[0-9a-fA-F:.]{2,45}\]|[0-9a-fA-F.:]{2,45}):(?P<%s_port>\d{1,5})"
_LINE = re.compile(
    r"(?P<proto>ICMPv6|ICMP|TCP|UDP|SCTP|IGMP|VRRP|\d{1,3})[ \t]+(?P<direction>OUT|IN)[ \t]+"
    + _END.replace("%s", "src")
    + r"[ \t]+->[ \t]+"
    + _END.replace("%s", "dst")
    + r"(?P<related>[ \t]+related)?(?:[ \t]+service)?[ \t]+XLATE_(?P<xlate>SRC|DST)[ \t]+"
    + _END.replace("%s", "to")
    + r"[ \t]+Created=(?P<age>-?\d{1,19})sec(?:[ \t]+ago)?(?:[ \t]+(?:NeedsCT|HostLocal)=(?P<ct>\d{1,20}))?"
)
#: Where a line starts: an error text can be glued to its front.
_START = re.compile(r"(?:ICMPv6|ICMP|TCP|UDP|SCTP|IGMP|VRRP|(?<!\d)\d{1,3})[ \t]+(?:OUT|IN)[ \t]+[\[0-9a-fA-F:]")
#: What a line of the listing has, be it damaged or cut off.
MARKS = ("XLATE_SRC", "XLATE_DST")


def nat_of_line(text: str) -> NatEntry:
    """The entry of one line, wherever in it that starts. Raises DecodeError if it is none."""
    start = _START.search(text)
    match = _LINE.match(text, start.start()) if start is not None else None
    if match is None:
        raise DecodeError("no SNAT entry")
    proto = digits(match["proto"], 8) if match["proto"].isdecimal() else PROTOCOLS[match["proto"].lower()]
    src, dst = address(match["src"]), address(match["dst"])
    ports = digits(match["src_port"], 16), digits(match["dst_port"], 16)
    host_local = "HostLocal" in match[0]
    return NatEntry(
        map=pins.SNAT_TABLES[src.version],
        tuple=FlowTuple(proto, src, ports[0], dst, ports[1]),
        direction=Direction(match["direction"]),
        related=match["related"] is not None,
        xlate=match["xlate"],
        to_addr=address(match["to"]),
        to_port=digits(match["to_port"], 16),
        age_s=int(match["age"]),
        needs_ct=digits(match["ct"], 64) if match["ct"] is not None and not host_local else None,
    )


def start_of(text: str) -> int:
    """Where in a line an entry starts; 0 where there is none."""
    start = _START.search(text)
    return start.start() if start is not None else 0


def bytes_of_record(item: Any) -> tuple[bytes, bytes]:
    """Key and value of one element of the JSON nat listing. Raises DecodeError if it is none."""
    try:
        key, value = item["Key"], item["Value"]
        daddr, saddr, to_addr = (address_of(part) for part in (key["DestAddr"], key["SourceAddr"], value["Addr"]))
        if len({daddr.version, saddr.version, to_addr.version}) != 1:
            raise DecodeError("addresses of both families")
        ports = struct.pack(
            "<HHBB", *(whole(key[name], 16) for name in ("DestPort", "SourcePort", "NextHeader", "Flags"))
        )
        head = struct.pack("<QQQQ", *(whole(value.get(name, 0), 64) for name in ("Created", "NeedsCT", "Pad1", "Pad2")))
        tail = struct.pack("<H", whole(value["Port"], 16)) + bytes(2 if daddr.version == 4 else 6)
    except (KeyError, TypeError, AttributeError, struct.error) as error:
        raise DecodeError(f"an element is no SNAT entry: {error}") from error
    return daddr.packed + saddr.packed + ports, head + to_addr.packed + tail
