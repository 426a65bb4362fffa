"""The Cilium CLI's other listings: nat, lb (all its forms), Maglev, ipcache, endpoint; text and JSON.

The tables are pairs of a left and a right column in both forms (JSON: a key with a list of texts), so
each record is recognised by the shape of its pair, not by the file's header or name.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from ctctl.abi import pins
from ctctl.decode.nat import decode_nat
from ctctl.decode.services import frontend
from ctctl.errors import DecodeError
from ctctl.model.nat import NatEntry
from ctctl.model.service import Backend, EndpointRecord, IpcacheRecord, MaglevTable, RevNat, ServiceSlot, SourceRange
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.base import Listings
from ctctl.tables.sources.ct_text import address_of
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import EndedEarlyError, Reader, json_array, lines

#: What the first line of each table starts with.
HEADERS = re.compile(r"(?:SERVICE ADDRESS|ID|SOURCE RANGE|SVC ID|IP PREFIX/ADDRESS|IP ADDRESS) +\S")
_ADDRESS = r"(?:\[[0-9a-fA-F:.]+\]|[0-9.]+)"
_END = r"(?P<%s>" + _ADDRESS + r"):(?P<%s_port>\d+)"
NAT_LINE = re.compile(
    r"(?P<proto>ICMPv6|ICMP|TCP|UDP|SCTP|IGMP|VRRP|\d+) (?P<direction>OUT|IN) "
    + _END.replace("%s", "src")
    + " -> "
    + _END.replace("%s", "dst")
    + r"(?P<related> related)?(?: service)? XLATE_(?P<xlate>SRC|DST) "
    + _END.replace("%s", "to")
    + r" Created=(?P<age>-?\d+)sec ago(?: NeedsCT=(?P<ct>\d+))?"
)
_SERVICE = re.compile(rf"(?P<addr>{_ADDRESS}):(?P<port>\d+)(?:/(?P<proto>[A-Z]+))?(?P<internal>/i)? \((?P<slot>\d+)\)")
_FRONTEND = re.compile(
    r"(?P<first>\d+) (?P<count>\d+)(?:\[\d+\])? \((?P<rev>\d+)\) \[(?P<flags>0x[0-9a-f]+) (?P<flags2>0x[0-9a-f]+)\]"
)
_SLOT = re.compile(
    r"(?P<backend>\S+) \((?P<rev>\d+)\) \((?P<slot>\d+)\)(?: \[(?P<words>[^\]]*)\])?"
    r"(?: \(L7LB Proxy Port: (?P<proxy>\d+)\))?"
)
_MISSING = re.compile(r"backend (\d+) not found")
_BACKEND = re.compile(
    r"(?P<proto>[A-Za-z0-9]+)://(?P<addr>[0-9a-fA-F.:]+)(?:@(?P<cluster>\d+))?(?:\[(?P<zone>[^\]]*)\])?"
)
_REV_NAT = re.compile(rf"(?P<addr>{_ADDRESS}):(?P<port>\d+)")
_RANGE = re.compile(r"(?P<cidr>[0-9a-fA-F.:]+/\d+) \((?P<rev>\d+)\)")
_MAGLEV = re.compile(r"\[(?P<rev>\d+)\]/v(?P<family>[46])")
_ATTRIBUTE = re.compile(r"(\w+)=(\S+?),?(?=\s|$)")


def read_nat_text(stream: Reader, dump: Dump) -> None:
    """``bpf nat list``. An error text can be glued to the front of the first line."""
    odd = 0
    for line in lines(stream):
        match = NAT_LINE.search(line)
        if match is not None:
            dump.listings.nat.append(_nat_of(match))
        elif line.startswith(("Error", "> Error")):
            dump.partial.append(f"nat list: {line[:160]}")
        elif line.strip() and not line.startswith("Failed to get clocksource"):
            odd += 1
    if odd:
        dump.partial.append(f"nat list: {odd} line(s) that are no entry")


def _plain(address: str) -> str:
    return address.strip("[]")


def _nat_of(match: re.Match[str]) -> NatEntry:
    proto = int(match["proto"]) if match["proto"].isdecimal() else PROTOCOLS[match["proto"].lower()]
    src, dst = ip_address(_plain(match["src"])), ip_address(_plain(match["dst"]))
    return NatEntry(
        map=pins.SNAT_TABLES[src.version],
        tuple=FlowTuple(proto, src, int(match["src_port"]), dst, int(match["dst_port"])),
        direction=Direction(match["direction"]),
        related=match["related"] is not None,
        xlate=match["xlate"],
        to_addr=ip_address(_plain(match["to"])),
        to_port=int(match["to_port"]),
        age_s=int(match["age"]),
        needs_ct=int(match["ct"]) if match["ct"] is not None else None,
    )


def read_nat_json(stream: Reader, dump: Dump) -> None:
    """``bpf nat list -o json``: raw numbers, as in the conntrack listing."""
    try:
        for item in json_array(stream):
            dump.listings.nat.append(nat_of_record(item))
    except EndedEarlyError as error:
        dump.partial.append(str(error))


def nat_of_record(item: Any) -> NatEntry:
    """One element of the JSON nat listing. Raises DecodeError if it is none."""
    try:
        key, value = item["Key"], item["Value"]
        daddr, saddr, to_addr = (address_of(part) for part in (key["DestAddr"], key["SourceAddr"], value["Addr"]))
        ports = struct.pack("<HHBB", *(key[name] for name in ("DestPort", "SourcePort", "NextHeader", "Flags")))
        head = struct.pack("<QQQQ", *(value.get(name, 0) for name in ("Created", "NeedsCT", "Pad1", "Pad2")))
        tail = struct.pack("<H", value["Port"]) + bytes(2 if daddr.version == 4 else 6)
    except (KeyError, TypeError, struct.error) as error:
        raise DecodeError(f"an element is no SNAT entry: {error}") from error
    map_name = pins.SNAT_TABLES[daddr.version]
    return decode_nat(daddr.packed + saddr.packed + ports, head + to_addr.packed + tail, map_name)


def read_pairs_text(stream: Reader, dump: Dump) -> None:
    """A two-column table: lb, Maglev, ipcache or endpoint."""
    _add_all(
        dump,
        (
            [*re.split(r" {3,}|\t+", line.rstrip(), maxsplit=1), ""][:2]
            for line in lines(stream)
            if line.strip() and not HEADERS.match(line)
        ),
    )


def read_pairs_json(document: dict[str, Any], dump: Dump) -> None:
    """The same as JSON: a column's text to a list of the other's."""
    pairs = ([left, str(text)] for left, texts in document.items() if isinstance(texts, list) for text in texts)
    _add_all(dump, pairs)


def is_pair(left: str, right: str) -> bool:
    """Whether a pair is a record of any of the tables."""
    return add_pair(Listings(), left, right)


def _add_all(dump: Dump, pairs: Iterable[list[str]]) -> None:
    odd, first = 0, ""
    for left, right in pairs:
        try:
            known = add_pair(dump.listings, left.strip(), right.strip())
        except (ValueError, KeyError):
            known = False
        if not known:
            odd, first = odd + 1, first or f"{left} {right}"
    if odd:
        dump.partial.append(f"{odd} line(s) of a listing that are no record, the first: {first[:80]!r}")


def add_pair(found: Listings, left: str, right: str) -> bool:
    """Add a record by its shape. False: of no shape that is known. Raises ValueError on odd numbers."""
    if right.startswith("identity="):
        found.ipcache.append(_ipcache(left, right))
    elif right == "(localhost)" or right.startswith("id="):
        found.endpoints.append(_endpoint(left, right))
    elif match := _MAGLEV.fullmatch(left):
        ids = tuple(int(word) for word in right.strip("[]").split())
        found.maglev.append(MaglevTable(int(match["rev"]), int(match["family"]), ids))
    elif left.isdecimal() and (match := _BACKEND.fullmatch(right)):
        proto = PROTOCOLS.get(match["proto"].lower())
        found.backends.append(
            Backend(int(left), ip_address(match["addr"]), proto, cluster_id=_cluster(match["cluster"]))
        )
    elif left.isdecimal() and (match := _REV_NAT.fullmatch(right)):
        found.rev_nats.append(RevNat(int(left), ip_address(_plain(match["addr"])), int(match["port"])))
    elif not right and (match := _RANGE.fullmatch(left)):
        found.source_ranges.append(SourceRange(int(match["rev"]), str(ip_network(match["cidr"], strict=False))))
    elif match := _SERVICE.fullmatch(left):
        slot = _service(match, right)
        if slot is None:
            return False
        found.services.append(slot)
    else:
        return False
    return True


def _cluster(text: str | None) -> int:
    return int(text) if text else 0


def _service(left: re.Match[str], right: str) -> ServiceSlot | None:
    addr, port, slot = ip_address(_plain(left["addr"])), int(left["port"]), int(left["slot"])
    proto = PROTOCOLS.get(left["proto"].lower()) if left["proto"] else None
    scope = "internal" if left["internal"] else "external"
    if match := _FRONTEND.fullmatch(right):
        if slot:
            return ServiceSlot(addr, port, scope, slot, int(match["rev"]), proto, backend_id=int(match["first"]))
        flags = int(match["flags"], 16) | int(match["flags2"], 16) << 8
        count, rev_nat = int(match["count"]), int(match["rev"])
        return frontend(addr, port, scope, rev_nat, proto, count=count, flags=flags, first=int(match["first"]))
    if match := _MISSING.fullmatch(right):
        return ServiceSlot(addr, port, scope, slot, None, proto, backend_id=int(match[1]))
    if match := _SLOT.fullmatch(right):
        words = tuple(word.strip() for word in (match["words"] or "").split(",") if word.strip())
        rev_nat = int(match["rev"])
        if slot:
            return ServiceSlot(addr, port, scope, slot, rev_nat, proto, backend=match["backend"], flag_words=words)
        return ServiceSlot(
            addr,
            port,
            scope,
            0,
            rev_nat,
            proto,
            words[0] if words else None,
            flag_words=words,
            l7_proxy_port=int(match["proxy"]) if match["proxy"] else None,
        )
    return None


def _ipcache(left: str, right: str) -> IpcacheRecord:
    prefix, _, cluster = left.partition("@")
    values = dict(_ATTRIBUTE.findall(right))
    tunnel = values.get("tunnelendpoint", "").rstrip(",")
    return IpcacheRecord(
        str(ip_network(prefix, strict=False)),
        int(values["identity"]),
        _cluster(cluster),
        None if tunnel in ("", "0.0.0.0", "::", "<nil>") else tunnel,  # noqa: S104 - the listing's "none"
        int(values.get("encryptkey", 0)),
        "skiptunnel" in values.get("flags", ""),
    )


def _endpoint(left: str, right: str) -> EndpointRecord:
    addr = ip_address(_plain(left.rpartition(":")[0]))
    if right == "(localhost)":
        return EndpointRecord(addr, flags=1)
    values = dict(re.findall(r"(\w+)=\s*(\S+)", right))
    return EndpointRecord(
        addr,
        int(values.get("ifindex", 0)),
        int(values["id"]),
        int(values.get("flags", "0"), 16),
        values.get("mac", "").lower() or None,
        values.get("nodemac", "").lower() or None,
        int(values.get("sec_id", 0)),
        int(values.get("parent_ifindex", 0)),
    )
