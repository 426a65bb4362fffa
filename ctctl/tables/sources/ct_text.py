"""The Cilium CLI's ``bpf ct list`` as lines of text, of 1.6 to 1.20: the fields' names tell the version."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctctl.abi import pins
from ctctl.abi.constants import CT_ENTRY_IFINDEX
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE, VALUE_SIZE, encode_key, table_name
from ctctl.errors import DecodeError
from ctctl.model.entry import Layout
from ctctl.model.tuples import TCP, FlowTuple
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.ct_forms import VALUE, Sort, keys_of, layout_of_names
from ctctl.tables.sources.dump import MAX_RECORDS, Dump
from ctctl.tables.sources.regular import octets
from ctctl.tables.sources.values import address, digits, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How a line of an entry starts, wherever in a pasted line that is (a host's name may stand in front).
START = re.compile(
    r"(?<![\w.])(?:(?P<proto>[A-Za-z][A-Za-z0-9]{1,7}|\d{1,3})[ \t]+)?(?P<direction>OUT|IN|SVC)[ \t]+"
    r"(?P<src>\[?[0-9a-fA-F.:]{2,45}\]?):(?P<src_port>\d{1,5})[ \t]+->[ \t]+"
    r"(?P<dst>\[?[0-9a-fA-F.:]{2,45}\]?):(?P<dst_port>\d{1,5})"
    r"(?P<related>[ \t]+related)?(?P<service>[ \t]+service)?[ \t]+"
)
_EXPIRES = re.compile(
    r"expires=(?P<expires>\d{1,20})(?:[ \t]+\(remaining:[ \t]+(?P<remaining>-?\d{1,20})[ \t]+sec\(s\)\))?"
)
_FIELD = re.compile(r"(?<!\w)([A-Z][A-Za-z]{2,20})=(0x[0-9a-fA-F]{1,16}|\d{1,20})(?![\w.…])")
_NAMED = re.compile(r"(?<!\w)[A-Z][A-Za-z]{2,20}=")
#: What a line of an entry has, be it damaged or cut off.
MARKS = ("expires=", "FlagsSeen=", "RevNAT=", "SourceSecurityID=", "LastRxReport=", "LastTxReport=")
#: A field of listings before 1.6.
OLD = "rx_packets="

_FLAGS = {"OUT": 0, "IN": TUPLE_IN, "SVC": TUPLE_SERVICE}
#: More lines than this of IPv6 tables that look like IPv4 are no IPv4-mapped addresses.
_MAX_MAPPED = 100_000


def _swapped(port: int) -> int:
    return (port & 0xFF) << 8 | port >> 8


@dataclass(slots=True)
class CtLines:
    """The lines of text listings, one after the other. ``blank`` is called for each empty line.

    The program lists ct4, any4, ct6, any6 with an empty line after each. Only that tells an IPv4-mapped
    address of an IPv6 table from an IPv4 one, so it is believed only of a listing that no other line
    interrupts and of which every line stands where the program puts it: TCP in every other table, IPv6
    in the last two, where some of it has to be. Anything else is of the family that its line shows.
    """

    dump: Dump
    section: int = 0
    _real6: bool = False
    _fits: bool = True
    _mapped: list[tuple[int, FlowTuple, int, _Line]] = field(default_factory=list)
    #: lines of up to 1.15 with an interface, and without that were taken for whole ones
    _whole: int = 0
    _early: int = 0
    #: the last line's layout, and whether it ended early; None before the first
    _last: tuple[Layout, bool] | None = None

    def blank(self) -> None:
        """An empty line: the next table."""
        self.section += 1

    def add(self, text: str, start: re.Match[str]) -> None:
        """One line. Raises DecodeError for what is none."""
        expires = _EXPIRES.match(text, start.end())
        if expires is None:
            raise DecodeError("no expires=")
        proto_word, direction, source, source_port, destination, destination_port, related, suffix = start.groups()
        src, dst, service = address(source), address(destination), suffix is not None
        ports = digits(source_port, 16), digits(destination_port, 16)
        proto = _protocol(proto_word)
        flow = FlowTuple(proto, src, ports[0], dst, ports[1])
        flags = _FLAGS[direction]
        if service:  # up to 1.14: VIP -> client, as the key has it
            flow, flags = FlowTuple(proto, dst, ports[1], src, ports[0]), TUPLE_SERVICE
        flags |= TUPLE_RELATED if related else 0
        line = _Line(text[expires.end() :], digits(expires["expires"]), expires["remaining"], suffix=service)
        if line.ends_early and self._whole:
            raise DecodeError("the line ends before the interface that others have")
        self._last = line.layout, line.ends_early
        self._early += line.ends_early
        self._whole += not line.ends_early and line.layout.split_counters
        family = 6 if 6 in (src.version, dst.version) else 4
        self._real6 |= self.section >= 2 and family == 6
        self._fits &= (
            self.section < len(pins.CT_TABLES)
            and (self.section % 2 == 0) == (proto == TCP)
            and (self.section >= 2 or family == 4)
        )
        if self._fits and self.section >= 2 and family == 4 and len(self._mapped) < _MAX_MAPPED:
            self._mapped.append((self.section, flow, flags, line))
            return
        self._put(table_name(family, proto), family, flow, flags, line)

    def next_sort(self, room: int) -> Sort | None:
        """Which lines may follow that change nothing of what was learnt of the listing. None: they go one by one.

        ``room``: so many of them at most.
        """
        if self._last is None:
            return None
        layout, early = self._last
        layout = Layout.V1_15 if layout.split_counters else layout
        for name, table in self.dump.tables.items():
            if len(table) > MAX_RECORDS - room or (name in pins.CT_TABLES and not table.alike(layout)):
                return None
        if early and self._whole:
            return None
        if not self._fits:
            return Sort(layout, early)
        return Sort(layout, early, 4 if self.section < 2 else 6, self.section % 2 == 0)

    def add_rows(self, sort: Sort, family: int, proto: int, rows: NDArray[Any]) -> None:
        """Lines of one table that were read in one pass (``ct_runs``)."""
        table = self.dump.table(table_name(family, proto), family)
        first, count = len(table), len(rows)
        suffixed = sort.layout.split_counters and bool(rows["service"].any())
        table.describe(Layout.V1_14 if suffixed else sort.layout, "the lines' fields", raw=False)
        if sort.layout.split_counters:
            self._early += count if sort.ends_early else 0
            self._whole += 0 if sort.ends_early else count
        self._real6 |= self.section >= 2 and family == 6
        if sort.layout is Layout.V1_19:
            ports = rows["nat_port"].nonzero()[0]
            table.nat_ports += zip((first + ports).tolist(), rows["nat_port"][ports].tolist(), strict=True)
        table.add_many(keys_of(sort, rows, family), octets(rows["value"]))
        shown = rows[rows["timed"] == 1][: table.room_to_show]
        for row in shown:
            table.show(int(row["lifetime"]), int(row["remaining"]), int(max(row["LastRxReport"], row["LastTxReport"])))

    def interrupt(self) -> None:
        """A line that is of no conntrack listing: what came before is a listing by itself."""
        if not (self.section or self._mapped or self._real6) and self._fits:
            return
        by_position = self._fits and self._real6
        for section, flow, flags, line in self._mapped:
            name = pins.CT_TABLES[section] if by_position else table_name(4, flow.proto)
            try:
                self._put(name, 6 if by_position else 4, flow, flags, line)
            except DecodeError as error:  # each line is counted: one that is none hides no other
                self.dump.lose("line(s)", str(error))
        self.section, self._real6, self._fits, self._mapped = 0, False, True, []

    def finish(self, *, alone: bool) -> None:
        """The end. ``alone``: there was nothing else, so empty lines stand for tables that are empty."""
        if self._whole and self._early:
            self.dump.partial.append(f"{self._early} line(s) end before IfIndex=, which others have: cut off")
        tables = self.section if alone and self._fits and self.section <= len(pins.CT_TABLES) else 0
        self.interrupt()
        for number in range(tables):
            self.dump.table(pins.CT_TABLES[number], 4 if number < 2 else 6)
        full = [table for table in self.dump.tables.values() if len(table)]
        if len({table.layout for table in full}) == 1:
            for table in self.dump.tables.values():
                if not len(table):
                    table.layout, table.evidence = full[0].layout, "the lines' fields"
        if any(table.layout is Layout.V1_14 for table in full):
            for table in self.dump.tables.values():  # one program wrote them; only service entries tell which
                table.layout = Layout.V1_14 if table.layout is Layout.V1_15 else table.layout

    def _put(self, name: str, family: int, flow: FlowTuple, flags: int, line: _Line) -> None:
        try:
            key = encode_key(flow, flags, family)
        except (ValueError, struct.error) as error:
            raise DecodeError(f"no key: {error}") from error
        table = self.dump.table(name, family)
        table.describe(line.layout, "the lines' fields", raw=False)
        if line.nat_port:
            table.nat_ports.append((len(table), line.nat_port))
        table.add(key, line.value)
        if line.remaining is not None:
            table.show(line.lifetime, int(line.remaining), line.report)


#: What every line ends in from 1.16 on, before what single versions add.
_LAST_FIELDS = {"RevNAT", "SourceSecurityID", "BackendID"}
#: And up to 1.15, from 1.6 on; ``IfIndex`` came later.
_LAST_FIELDS_1_15 = {"RevNAT", "SourceSecurityID"}


#: The rest of a line as 1.16 and later print it: nearly all there are, and read in a third of the time that looking
#: for each field takes.
_PLAIN = re.compile(
    r" Packets=(\d{1,20}) Bytes=(\d{1,20}) RxFlagsSeen=0x([0-9a-f]{1,8}) LastRxReport=(\d{1,10}) "
    r"TxFlagsSeen=0x([0-9a-f]{1,8}) LastTxReport=(\d{1,10}) Flags=0x([0-9a-f]{1,8}) \[ (?:[A-Za-z]{1,20} ){0,16}\] "
    r"RevNAT=(\d{1,10}) SourceSecurityID=(\d{1,10}) (?:IfIndex=(\d{1,10}) )?BackendID=(\d{1,20})"
    r"(?: NatPort=(\d{1,10}))?",
    re.ASCII,
)


class _Line:
    """The part of a line behind the addresses."""

    __slots__ = ("ends_early", "layout", "lifetime", "nat_port", "remaining", "report", "value")

    def __init__(self, text: str, lifetime: int, remaining: str | None, *, suffix: bool) -> None:
        self.lifetime, self.remaining = lifetime, remaining
        if not suffix and (plain := _PLAIN.fullmatch(text)) is not None:
            self._read_plain(plain)
            return
        numbers = {name: int(word, 16 if word[:2] == "0x" else 10) for name, word in _FIELD.findall(text)}
        if len(_NAMED.findall(text)) != len(numbers):
            raise DecodeError("a field has no number")
        if "Flags" not in numbers or not ("RxPackets" in numbers or "Packets" in numbers):
            raise DecodeError("fields are missing: the line is cut off or of another program")
        if not numbers.keys() >= (_LAST_FIELDS_1_15 if "RxPackets" in numbers else _LAST_FIELDS):
            raise DecodeError("the last fields are missing: the line is cut off")
        self.layout = Layout.V1_14 if suffix else layout_of_names(numbers, "RxPackets", "IfIndex", "NatPort")
        self.nat_port = numbers.get("NatPort", 0)
        self.ends_early = "RxPackets" in numbers and "IfIndex" not in numbers
        self.report = max(numbers.get("LastRxReport", 0), numbers.get("LastTxReport", 0))
        self.value = _value(numbers, lifetime, self.layout)

    def _read_plain(self, plain: re.Match[str]) -> None:
        """What the general way makes of such a line."""
        packets, octets, rx, rx_at, tx, tx_at, flags, rev_nat, identity, ifindex, backend, nat_port = plain.groups()
        self.layout = Layout.V1_16 if ifindex else Layout.V1_19 if nat_port else Layout.V1_18
        self.nat_port, self.ends_early = int(nat_port or 0), False
        first, second = int(rx_at), int(tx_at)
        self.report = max(first, second)
        word40 = int(ifindex) if ifindex else _swapped(whole(self.nat_port, 16))
        try:
            self.value = VALUE.pack(
                *(0, int(backend), int(packets), int(octets), self.lifetime, int(flags, 16)),
                *(_swapped(whole(int(rev_nat), 16)), word40, int(tx, 16), int(rx, 16), int(identity), second, first),
            )
        except struct.error as error:
            raise DecodeError(f"a number does not fit: {error}") from error


def settle_dsr(dump: Dump) -> None:
    """What text leaves open of 1.19's DSR entries, decided by all listings of the node.

    Some builds print the port's bytes the other way round, and of an IPv6 address only the last half. A port
    of a service tells which build it was: a known frontend's, one of the NodePort range, or a low one; where
    all do, or none does, the port is not given. A half is made whole where one frontend has it, with that port.
    """
    tables = [table for table in dump.tables.values() if table.nat_ports]
    if not tables:
        return
    known = {slot.port for slot in dump.listings.services}
    as_printed = swapped = False
    for port in {port for table in tables for _, port in table.nat_ports}:
        first, second = _like_service(port, known), _like_service(_swapped(port), known)
        as_printed |= first > second
        swapped |= second > first
    fronts = {(slot.addr.packed[8:], slot.port): slot.addr for slot in dump.listings.services if slot.addr.version == 6}
    for table in tables:
        if as_printed is swapped:
            table.absent |= {"nat_port"}
        whole_addresses = True
        for index, port in table.nat_ports:
            at = index * VALUE_SIZE
            number = _swapped(port) if swapped and not as_printed else port
            table.values[at + CT_ENTRY_IFINDEX : at + CT_ENTRY_IFINDEX + 2] = number.to_bytes(2, "big")
            if table.family == 6:
                half = bytes(table.values[at + 8 : at + 16])
                front = fronts.get((half, number))
                whole_addresses &= front is not None
                table.values[at : at + 16] = front.packed if front is not None else bytes(8) + half
        table.absent |= frozenset() if whole_addresses else {"nat_addr"}


def _like_service(port: int, known: Collection[int]) -> int:
    """How much a port is one of a service: 2 for a known frontend's, 1 for one that services have, else 0."""
    return 2 if port in known else int(0 < port < 1024 or 30000 <= port <= 32767)


def _protocol(text: str | None) -> int:
    if text is None:
        return 0
    if text.isdecimal():
        return digits(text, 8)
    number = PROTOCOLS.get(text.lower())
    if number is None:
        raise DecodeError(f"{text} is no protocol")
    return number


def _value(numbers: dict[str, int], lifetime: int, layout: Layout) -> bytes:
    get = numbers.get
    if layout.split_counters:
        head = (get("RxPackets", 0), get("RxBytes", 0), get("TxPackets", 0), get("TxBytes", 0))
    else:
        head = (0, get("BackendID", 0), get("Packets", 0), get("Bytes", 0))
    word40 = get("IfIndex", _swapped(whole(get("NatPort", 0), 16)))
    try:
        return VALUE.pack(
            *head,
            lifetime,
            numbers["Flags"],
            _swapped(whole(get("RevNAT", 0), 16)),
            word40,
            get("TxFlagsSeen", 0),
            get("RxFlagsSeen", 0),
            get("SourceSecurityID", 0),
            get("LastTxReport", 0),
            get("LastRxReport", 0),
        )
    except struct.error as error:
        raise DecodeError(f"a number does not fit: {error}") from error
