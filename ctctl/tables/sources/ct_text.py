"""The Cilium CLI's ``bpf ct list`` in text, JSON and YAML, of 1.14 to 1.19.

In text, ports are right and only counters' names tell the version. In JSON and YAML, ports and RevNAT
are in network order, addresses are the tuple's fields, and nothing says which table an entry is of.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ctctl.abi import pins
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE, encode_key, table_name
from ctctl.errors import DecodeError
from ctctl.model.entry import Layout
from ctctl.model.tuples import Address, FlowTuple
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import EndedEarlyError, Reader, json_array, lines, yaml_items

LINE = re.compile(
    r"(?:(?P<proto>[A-Za-z0-9]+) )?(?P<direction>OUT|IN|SVC) (?P<src>[0-9a-fA-F.:]+):(?P<src_port>\d+)"
    r" -> (?P<dst>[0-9a-fA-F.:]+):(?P<dst_port>\d+)(?P<related> related)?(?: service)?"
    r" expires=(?P<expires>\d+)(?: \(remaining: (?P<remaining>-?\d+) sec\(s\)\))? (?P<fields>.*)"
)
_FIELD = re.compile(r"(\w+)=(0x[0-9a-fA-F]+|\d+)")
_VALUE = struct.Struct("<QQQQIHHHBBIII")
_FLAGS = {"OUT": 0, "IN": TUPLE_IN, "SVC": TUPLE_SERVICE}


def _swapped(port: int) -> int:
    return (port & 0xFF) << 8 | port >> 8


def read_text(stream: Reader, dump: Dump) -> None:
    """Every line of a text listing. Lines that are none are counted as missing data, errors are quoted."""
    section, odd, odd_line = 0, 0, ""
    for line in lines(stream):
        if not line.strip():
            if section < len(pins.CT_TABLES):
                dump.table(pins.CT_TABLES[section], 4 if section < 2 else 6)
            section += 1
            continue
        match = LINE.match(line)
        if match is None:
            if line.startswith(("Error", ">")):
                dump.partial.append(_error_of(line))
            else:
                odd, odd_line = odd + 1, odd_line or line
            continue
        try:
            _add_line(dump, match, section)
        except (ValueError, KeyError, struct.error, DecodeError):
            odd, odd_line = odd + 1, odd_line or line
    layouts = {table.layout for table in dump.tables.values() if len(table)}
    for table in dump.tables.values():
        if not len(table) and len(layouts) == 1:
            table.layout, table.evidence = next(iter(layouts)), "the lines' fields"
    if odd:
        dump.partial.append(f"{odd} line(s) that are no entry, the first: {odd_line[:80]!r}")


def _error_of(line: str) -> str:
    return f"the listing ends with an error: {line.removeprefix('> ').removeprefix('Error: ')[:160]}"


def _add_line(dump: Dump, match: re.Match[str], section: int) -> None:
    proto_text = match["proto"] or "0"
    proto = int(proto_text) if proto_text.isdecimal() else PROTOCOLS[proto_text.lower()]
    src, dst = ip_address(match["src"]), ip_address(match["dst"])
    flags = _FLAGS[match["direction"]] | (TUPLE_RELATED if match["related"] else 0)
    name, family = _table(section, proto, src, dst)
    key = encode_key(FlowTuple(proto, src, int(match["src_port"]), dst, int(match["dst_port"])), flags, family)
    numbers = {found[1]: int(found[2], 0) for found in _FIELD.finditer(match["fields"])}
    told = (("RxPackets", Layout.V1_15), ("IfIndex", Layout.V1_16), ("NatPort", Layout.V1_19))
    layout = next((layout for name, layout in told if name in numbers), Layout.V1_18)
    lifetime = int(match["expires"])
    table = dump.table(name, family)
    if not len(table):
        table.layout, table.evidence, table.raw = layout, "the lines' fields", False
    table.add(key, _text_value(numbers, lifetime, layout))
    if match["remaining"] is not None:
        table.pair(lifetime, int(match["remaining"]))


def _table(section: int, proto: int, src: Address, dst: Address) -> tuple[str, int]:
    """By position (ct4, any4, ct6, any6, an empty line after each) where that can be, else by the entry."""
    family = 6 if 6 in (src.version, dst.version) else 4
    if section < len(pins.CT_TABLES):
        position = 4 if section < 2 else 6
        # IPv4-mapped addresses print as plain IPv4, so the IPv6 tables may hold lines that look like IPv4.
        if position in (family, 6) and (section % 2 == 1 or proto == 6):
            return pins.CT_TABLES[section], position
    return table_name(family, proto), family


def _text_value(numbers: dict[str, int], lifetime: int, layout: Layout) -> bytes:
    get = numbers.get
    if layout.split_counters:
        head = (get("RxPackets", 0), get("RxBytes", 0), get("TxPackets", 0), get("TxBytes", 0))
    else:
        head = (0, get("BackendID", 0), get("Packets", 0), get("Bytes", 0))
    return _VALUE.pack(
        *head,
        lifetime,
        numbers["Flags"],
        _swapped(get("RevNAT", 0)),
        get("IfIndex", _swapped(get("NatPort", 0))),
        get("TxFlagsSeen", 0),
        get("RxFlagsSeen", 0),
        get("SourceSecurityID", 0),
        get("LastTxReport", 0),
        get("LastRxReport", 0),
    )


def read_json(stream: Reader, dump: Dump) -> None:
    """The JSON listing. Stops with a note where the data does. Raises DecodeError for other JSON."""
    try:
        for item in json_array(stream):
            add_record(dump, item)
    except EndedEarlyError as error:
        dump.partial.append(str(error))


def read_yaml(stream: Reader, dump: Dump) -> None:
    """The YAML listing: the same records, names in lower case and nested by Go type."""
    try:
        for item in yaml_items(stream):
            add_record(dump, item)
    except EndedEarlyError as error:
        dump.partial.append(str(error))


def is_record(item: Any) -> bool:
    """Whether a JSON or YAML element is a conntrack entry of the Cilium CLI."""
    try:
        key, value = _parts(item)
    except (DecodeError, AttributeError, TypeError):
        return False
    return "nextheader" in key and "lifetime" in value


def _parts(item: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key and value with names in lower case, out of whatever structs they are nested in."""
    if not isinstance(item, dict):
        raise DecodeError("an element is no object")
    lowered = {str(name).lower(): part for name, part in item.items()}
    key, value = lowered.get("key"), lowered.get("value")
    for _ in range(4):
        if isinstance(key, dict) and len(key) == 1 and isinstance(next(iter(key.values())), dict):
            key = next(iter(key.values()))
    if not isinstance(key, dict) or not isinstance(value, dict):
        raise DecodeError("an element has no key and value")
    return {str(n).lower(): v for n, v in key.items()}, {str(n).lower(): v for n, v in value.items()}


def address_of(octets: Any) -> IPv4Address | IPv6Address:
    """An address from its array of octets. Raises DecodeError."""
    if not isinstance(octets, list) or len(octets) not in (4, 16):
        raise DecodeError("an address is no array of 4 or 16 octets")
    raw = bytes(octets)
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def add_record(dump: Dump, item: Any) -> None:
    """One element of the JSON or YAML listing. Raises DecodeError if it is none."""
    key, value = _parts(item)
    try:
        daddr, saddr = address_of(key["destaddr"]), address_of(key["sourceaddr"])
        raw_key = daddr.packed + saddr.packed + struct.pack("<HHBB", *(key[n] for n in _KEY_NAMES))
        told = (("rxpackets", Layout.V1_15), ("ifindex", Layout.V1_16), ("natport", Layout.V1_19))
        layout = next((layout for name, layout in told if name in value), Layout.V1_18)
        names = _VALUE_NAMES_1_15 if layout.split_counters else _VALUE_NAMES
        raw_value = _VALUE.pack(
            *(value.get(name, 0) for name in names[:7]), _word40(value), *(value[n] for n in names[7:])
        )
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise DecodeError(f"an element is no conntrack entry: {error}") from error
    family = 4 if daddr.version == 4 else 6
    table = dump.table(table_name(family, key["nextheader"]), family)
    if not len(table):
        table.layout, table.evidence = layout, "the records' fields"
    table.add(raw_key, raw_value)


def _word40(value: dict[str, Any]) -> int:
    number = value.get("ifindex", value.get("reserved4", value.get("natport", 0)))
    return int(number)


_KEY_NAMES = ("destport", "sourceport", "nextheader", "flags")
_TAIL = ("txflagsseen", "rxflagsseen", "sourcesecurityid", "lasttxreport", "lastrxreport")
_VALUE_NAMES = ("reserved0", "backendid", "packets", "bytes", "lifetime", "flags", "revnat", *_TAIL)
_VALUE_NAMES_1_15 = ("rxpackets", "rxbytes", "txpackets", "txbytes", "lifetime", "flags", "revnat", *_TAIL)
