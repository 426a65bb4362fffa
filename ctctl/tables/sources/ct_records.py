"""The Cilium CLI's ``bpf ct list`` in JSON and YAML, element by element, of 1.6 to 1.20.

Ports and RevNAT are in network order, addresses are the tuple's fields, and nothing says which table an element is of.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.decode.ct import table_name
from ctctl.errors import DecodeError
from ctctl.tables.sources.ct_elements import cilium_like
from ctctl.tables.sources.ct_forms import VALUE, layout_of_names
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.regular import Learned, Sample
from ctctl.tables.sources.values import whole


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
    try:
        raw = bytes(octets) if set(map(type, octets)) == {int} else bytes(whole(octet, 8) for octet in octets)
    except ValueError:
        raise DecodeError("an address has octets above 255") from None
    return IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)


def add_record(dump: Dump, item: Any) -> None:
    """One element of the JSON or YAML listing. Raises DecodeError if it is none."""
    key, value = _parts(item)
    try:
        daddr, saddr = address_of(key["destaddr"]), address_of(key["sourceaddr"])
        if daddr.version != saddr.version:
            raise DecodeError("addresses of both families")
        raw_key = daddr.packed + saddr.packed + struct.pack("<HHBB", *(whole(key[n], 16) for n in _KEY_NAMES))
        layout = layout_of_names(value, "rxpackets", "ifindex", "natport")
        names = _VALUE_NAMES_1_15 if layout.split_counters else _VALUE_NAMES
        head = [whole(value.get(name, 0), 64) for name in names[:4]]
        if "union0" in value:
            head[:2] = _union(value["union0"])
        middle = (whole(value["lifetime"]), whole(value["flags"], 16), whole(value["revnat"], 16), _word40(value))
        raw_value = VALUE.pack(*head, *middle, *(whole(value[n]) for n in _TAIL))
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise DecodeError(f"an element is no conntrack entry: {error}") from error
    family = 4 if daddr.version == 4 else 6
    table = dump.table(table_name(family, key["nextheader"]), family)
    table.describe(layout, "the records' fields", raw=True)
    table.add(raw_key, raw_value)


def element_like(dump: Dump, sample: Sample) -> Learned | None:
    """The form of elements like this one, which was added. None: it is written in a way that tells none."""
    key, value = _parts(sample.element)
    layout = layout_of_names(value, "rxpackets", "ifindex", "natport")
    return cilium_like(dump, sample, (key, value), _VALUE_NAMES_1_15 if layout.split_counters else _VALUE_NAMES, layout)


def _union(pair: Any) -> list[int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise DecodeError("Union0 is no pair of numbers")
    return [whole(part, 64) for part in pair]


def _word40(value: dict[str, Any]) -> int:
    return whole(value.get("ifindex", value.get("natport", value.get("reserved4", 0))), 16)


_KEY_NAMES = ("destport", "sourceport", "nextheader", "flags")
_TAIL = ("txflagsseen", "rxflagsseen", "sourcesecurityid", "lasttxreport", "lastrxreport")
_VALUE_NAMES = ("reserved0", "backendid", "packets", "bytes")
_VALUE_NAMES_1_15 = ("rxpackets", "rxbytes", "txpackets", "txbytes")
