"""Conntrack and SNAT records whose fields ``bpftool`` prints by their BTF, and nothing else of them.

Numbers are raw memory (network order is not turned), bit fields are hex, an IPv6 address is a list of octets or a union
of which ``addr`` holds them. Cilium's entry has bit fields where ours has a number of the same 16 bits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from ctctl.abi import constants
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE, layout_of_fields
from ctctl.decode.nat import VALUE_ADDRESS as NAT_ADDRESS
from ctctl.decode.nat import VALUE_SIZE as NAT_SIZE
from ctctl.errors import DecodeError
from ctctl.tables.sources.ct_elements import add_octets, has_room
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.json_forms import Path, form_like
from ctctl.tables.sources.regular import Form, Learned, Sample, octets
from ctctl.tables.sources.values import whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.abi.maps import Shape
    from ctctl.decode.columns import Matrix

_FLAGS = constants.CT_ENTRY_FLAGS
#: Anonymous structs and unions, whose members are their parent's.
_LIFTED = ("", "common", "nat_info")
_ENDS = ("daddr", "saddr")
_KEY_END = ("dport", "sport", "nexthdr", "flags")
#: The numbers that an SNAT value starts with, of eight bytes each; what it puts in a packet, by whatever name.
_NAT_NUMBERS = ("created", "needs_ct", "pad1", "pad2")
_NAT_ADDRESSES, _NAT_PORTS = ("address", "to_saddr", "to_daddr"), ("port", "to_sport", "to_dport")


class _Place(NamedTuple):
    """Where a number of a value is: ``width`` bytes from ``at``, or ``mask`` of the flags from a bit on."""

    at: int
    width: int
    bit: int = 0
    mask: int = 0


_VALUE = fields_of(4)  # a value is the same in both families
_HEADS = tuple(_VALUE[word].at for word in ("word0", "word8", "word16", "word24"))
_NEEDED = {
    name: _Place(place.at, place.width)
    for name, place in (
        ("lifetime", _VALUE["lifetime"]),
        ("rev_nat_index", _VALUE["rev_nat"]),
        ("tx_flags_seen", _VALUE["tx_flags_seen"]),
        ("rx_flags_seen", _VALUE["rx_flags_seen"]),
        ("src_sec_id", _VALUE["src_sec_id"]),
        ("last_tx_report", _VALUE["last_tx_report"]),
        ("last_rx_report", _VALUE["last_rx_report"]),
    )
}
# Bit fields from bit 0, by their names in any version (bit 2, 9 and 11 changed theirs).
_BITS = {
    "rx_closing": 0,
    "tx_closing": 1,
    "lb_loopback": 3,
    "seen_non_syn": 4,
    "node_port": 5,
    "proxy_redirect": 6,
    "from_l7lb": 8,
    "from_tunnel": 10,
}
#: The bit fields whose names moved, by their bit; in which the reserved ones are in the order of their numbers.
_MOVED = {"nat46": 2, "nat64": 2, "dsr": 7, "dsr_internal": 7, "auth_required": 9}
_FREE = ((2, 1), (9, 1), (11, 5))


def _places(names: Collection[str]) -> dict[str, _Place]:
    """Where the fields of a conntrack value with these names are. Raises DecodeError where it lacks one."""
    layout = layout_of_fields(names)
    split = layout is not None and layout.split_counters
    heads = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
    heads = heads if split else ("reserved0", "backend_id", "packets", "bytes")
    found = {name: _Place(at, 8) for name, at in zip(heads, _HEADS, strict=True) if name in names}
    found |= _NEEDED
    word40 = next((name for name in ("ifindex", "reserved4", "nat_port") if name in names), None)
    if word40 is not None:
        found[word40] = _Place(constants.CT_ENTRY_IFINDEX, 2)
    found |= {"flags": _Place(_FLAGS, 2)} if "flags" in names else _bits(names)
    if lacking := [name for name in _NEEDED if name not in names]:
        raise DecodeError(f"a conntrack entry without {lacking[0]}")
    return found


def _bits(names: Collection[str]) -> dict[str, _Place]:
    found = {name: _Place(_FLAGS, 2, bit, 1) for name, bit in (*_BITS.items(), *_MOVED.items()) if name in names}
    if not found.keys() >= {"rx_closing", "tx_closing", "seen_non_syn"}:
        raise DecodeError("a conntrack entry without the flags that its state is made of")
    free = [(bit, width) for bit, width in _FREE if not any(name in names and _MOVED[name] == bit for name in _MOVED)]
    kept = ("reserved0", "reserved4")
    reserved = sorted(name for name in names if re.fullmatch(r"reserved\d*", name) and name not in kept)
    if "reserved" in reserved:  # up to 1.15 the last one has no number
        reserved.remove("reserved")
        reserved.append("reserved")
    places = zip(reserved, free, strict=False)
    return found | {name: _Place(_FLAGS, 2, bit, (1 << width) - 1) for name, (bit, width) in places}


# ---- one record


def names_in(value: Any) -> set[str]:
    """The names of all fields of a value, at whatever depth."""
    found: set[str] = set()
    if isinstance(value, dict):
        for name, part in value.items():
            found.add(name)
            found |= names_in(part)
    return found


def key_of(key: dict[str, Any]) -> bytes:
    """A key by its fields. Raises DecodeError, and what it is made of does: KeyError, ValueError, struct.error."""
    ports = struct.pack("<HHBB", *(_number(key[name]) for name in _KEY_END))
    return _address(key["daddr"]) + _address(key["saddr"]) + ports


def value_of(value: dict[str, Any]) -> bytes:
    """A conntrack or SNAT value by its fields. Raises as ``key_of``."""
    flat = _flat(value)
    if "created" in flat:
        return _nat_value(flat)
    raw = bytearray(VALUE_SIZE)
    for name, (at, width, bit, mask) in _places(flat).items():
        number = _number(flat[name])
        if mask:
            number = (number & mask) << bit | int.from_bytes(raw[at : at + width], "little")
        raw[at : at + width] = number.to_bytes(width, "little")
    return bytes(raw)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Members of anonymous structs and unions lifted to their parent."""
    flat: dict[str, Any] = {}
    for name, part in value.items():
        if isinstance(part, dict) and name in _LIFTED:
            flat.update(_flat(part))
        else:
            flat[name] = part
    return flat


def _nat_value(flat: dict[str, Any]) -> bytes:
    head = struct.pack("<QQQQ", *(_number(flat.get(name, 0)) for name in _NAT_NUMBERS))
    raw, port = _address(flat[_first(_NAT_ADDRESSES, flat)]), flat[_first(_NAT_PORTS, flat)]
    return head + raw + struct.pack("<H", _number(port)) + bytes(2 if len(raw) == 4 else 6)


def _first(names: Collection[str], flat: dict[str, Any]) -> str:
    """Which of the names is there. Raises DecodeError for none."""
    found = next((name for name in names if name in flat), None)
    if found is None:
        raise DecodeError(f"an SNAT entry without {', '.join(names)}")
    return found


def _number(value: Any) -> int:
    return int(value[:20], 0) if isinstance(value, str) else whole(value, 64)


def _address(value: Any) -> bytes:
    """A raw word, or octets."""
    if isinstance(value, dict):
        value = value.get("addr")
        if not isinstance(value, list):
            raise DecodeError("an address has no octets")
    if isinstance(value, list):
        if len(value) != 16:
            raise DecodeError(f"an address of {len(value)} octets")
        return bytes(whole(octet, 8) for octet in value)
    return _number(value).to_bytes(4, "little")


def packed(shape: Shape, value: Any) -> bytes | None:
    """Key or value of a table of ours: a number, or the fields of its layout, all of them and no others.

    None: it is another build's. Raises DecodeError, OverflowError for numbers that do not fit.
    """
    if isinstance(shape, int):
        return _number(value).to_bytes(shape, "little") if isinstance(value, int) else None
    kinds = dict(shape._fields_)
    if not isinstance(value, dict) or value.keys() != kinds.keys():
        return None
    places = {name: getattr(shape, name) for name in kinds}
    raw = bytearray(max(place.offset + place.size for place in places.values()))
    for name, place in places.items():
        count, given = getattr(kinds[name], "_length_", 0), value[name]
        if isinstance(given, list) != (count > 0) or (count and len(given) != count):
            return None
        numbers, width = given if count else [given], place.size // (count or 1)
        for at, number in enumerate(numbers):
            start = place.offset + at * width
            raw[start : start + width] = _number(number).to_bytes(width, "little")
    return bytes(raw)


# ---- those written like it


class _Fields:
    """Where the numbers of a record go: ``count`` of them, ``bits`` of the flags by their field of a row.

    ``places`` and ``addresses`` are where the fields of the value are; an address has ``half`` bytes.
    ``odd``: there is one that only the careful reader takes.
    """

    def __init__(self, half: int, places: dict[str, _Place], addresses: dict[str, int]) -> None:
        self._half = half
        self._places = places
        self.addresses = addresses
        self.bits: dict[str, _Place] = {}
        self._names: set[str] = set()
        self.count = 0
        self.odd = False

    def __call__(self, form: Form, path: Path, word: str) -> bool:
        place = self._of_key(path) if path[0] == "key" else self._of_value(path)
        if place is None and word.startswith("0x"):
            form.literal("0x").hex(".".join(map(str, path)), 8)
            return True
        if place is None:
            return False
        self.count += 1
        name = ".".join(map(str, path))
        at = None if place.mask else form.place(str(path[0])) + place.at
        width = 1 if place.mask else place.width
        if place.mask:
            self.bits[name] = place
        if word.startswith("0x"):
            form.literal("0x").hex(name, width, at=at)
        else:
            form.decimal(name, width, at=at)
            self.odd |= not word.isdecimal()
        return True

    def _of_key(self, path: Path) -> _Place | None:
        name = str(path[1]) if len(path) > 1 else ""
        if name in _ENDS:
            return self._in_address(self._half * _ENDS.index(name), path[2:])
        if len(path) != 2 or name not in _KEY_END:
            return None
        at = _KEY_END.index(name)
        return _Place(2 * self._half + (2 * at if at < 2 else at + 2), 2 if at < 2 else 1)

    def _in_address(self, start: int, path: Path) -> _Place | None:
        """A number of an address: all of IPv4's, or an octet, in a list by itself or one that is called ``addr``."""
        if not path:
            return _Place(start, 4)
        octet = isinstance(path[-1], int) and path[:-1] in ((), ("addr",))
        return _Place(start + int(path[-1]), 1) if octet else None

    def _of_value(self, path: Path) -> _Place | None:
        depth = next((at for at, part in enumerate(path) if at and part not in _LIFTED), 0)
        name, rest = str(path[depth]), path[depth + 1 :]
        if depth and name in self.addresses:
            return self._in_address(self.addresses[name], rest)
        if not depth or rest or name not in self._places:
            return None
        self.odd |= name in self._names  # of two with one name the last one counts
        self._names.add(name)
        return self._places[name]


def fields_like(dump: Dump, hint: str, name: str | None, sample: Sample) -> Learned | None:
    """The form of records like this one, which was added; None: it has none. ``name``: of their conntrack table."""
    value = sample.element["value"]
    flat = _flat(value)
    is_nat = "created" in flat
    if is_nat != ("created" in names_in(value)) or (not is_nat and ("snat" in hint or not has_room(dump))):
        return None
    return _nat_like(dump, flat, sample) if is_nat else _ct_like(dump, name, flat, sample)


def _family_of(key: dict[str, Any]) -> int:
    return 6 if isinstance(key["daddr"], dict | list) else 4


def _like(sample: Sample, fields: _Fields, half: int, value_size: int, wanted: int) -> Form | None:
    """The form of records with so many numbers in their value."""
    form = Form(strict=True).room("key", 2 * half + 6).room("value", value_size).literal(sample.before)
    found = form_like(sample.text, form, fields, ("addr", *_ENDS, *fields.addresses))
    wanted += len(_KEY_END) + (2 if half == 4 else 2 * half)
    return None if found is None or fields.odd or fields.count != wanted else form


def _ct_like(dump: Dump, name: str | None, flat: dict[str, Any], sample: Sample) -> Learned | None:
    family = _family_of(sample.element["key"])
    half = (KEY_SIZE[family] - 6) // 2
    fields = _Fields(half, _places(flat), {})
    form = _like(sample, fields, half, VALUE_SIZE, len(_places(flat)))
    layout = layout_of_fields(names_in(sample.element["value"]))

    def add(rows: NDArray[Any]) -> None:
        values = octets(rows["value"])
        if fields.bits:
            values = values.copy()
            values[:, _FLAGS : _FLAGS + 2] = _flag_words(rows, fields.bits)
        add_octets(dump, name, (octets(rows["key"]), values), family=family, layout=layout)

    return None if form is None else Learned(form, add)


def _nat_like(dump: Dump, flat: dict[str, Any], sample: Sample) -> Learned | None:
    """Of SNAT, where key and value have addresses of one family."""
    family = _family_of(sample.element["key"])
    half = (KEY_SIZE[family] - 6) // 2
    address, port = _first(_NAT_ADDRESSES, flat), _first(_NAT_PORTS, flat)
    if isinstance(flat[address], dict | list) != (family == 6):
        return None
    places = {name: _Place(8 * at, 8) for at, name in enumerate(_NAT_NUMBERS) if name in flat}
    places[port] = _Place(NAT_ADDRESS + half, 2)
    fields = _Fields(half, places, {address: NAT_ADDRESS})
    form = _like(sample, fields, half, NAT_SIZE[family], len(places) + (1 if family == 4 else half))

    def add(rows: NDArray[Any]) -> None:
        dump.listings.listed_nat().add_many(octets(rows["key"]), octets(rows["value"]))

    return None if form is None else Learned(form, add)


def _flag_words(rows: NDArray[Any], bits: dict[str, _Place]) -> Matrix:
    """The flags of rows that have them bit by bit, as they lie."""
    import numpy as np

    words = np.zeros(len(rows), "<u2")
    for name, place in bits.items():
        words |= (rows[name].astype("<u2") & place.mask) << place.bit
    return octets(words)
