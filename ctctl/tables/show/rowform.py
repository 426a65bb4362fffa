"""Conntrack entries as lines in every format, a whole batch at a time.

``ct_view`` and ``cilium_line`` say what each field and each line is, one entry at a time; here the
same texts come from columns, through row programs (``out/rowtext.py``). A property test holds the
two together.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl._ffi.rows import OpFlags
from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_RELATED, TUPLE_SERVICE, direction_of, flag_names, other_bits
from ctctl.model.entry import CtState, Layout, state_of
from ctctl.model.tuples import protocol_name
from ctctl.model.units import format_duration
from ctctl.out.output import cell, csv_cell
from ctctl.out.rowtext import RowProgram, TextTable
from ctctl.tables.show.cilium import cilium_flags, cilium_protocol
from ctctl.tables.show.entry import flags_text, protocol_word, state_text
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.out.rowtext import Column

    Array = NDArray[Any]

#: How this Python writes ::ffff:a.b.c.d, which changed in 3.13.
_PLAIN_IPV6 = OpFlags.DOTTED if "." in str(IPv6Address("::ffff:1.2.3.4")) else OpFlags.NONE
_SLOTS = {
    "proto": Slot.PROTO,
    "src_port": Slot.SRC_PORT,
    "dst_port": Slot.DST_PORT,
    "lifetime": Slot.LIFETIME,
    "flags": Slot.FLAGS,
    "backend_id": Slot.WORD8,
    "packets": Slot.WORD16,
    "bytes": Slot.WORD24,
    "rx_packets": Slot.WORD0,
    "rx_bytes": Slot.WORD8,
    "tx_packets": Slot.WORD16,
    "tx_bytes": Slot.WORD24,
    "rev_nat": Slot.REV_NAT,
    "ifindex": Slot.IFINDEX,
    "tx_flags_seen": Slot.TX_FLAGS_SEEN,
    "rx_flags_seen": Slot.RX_FLAGS_SEEN,
    "src_sec_id": Slot.SRC_SEC_ID,
    "last_tx_report": Slot.LAST_TX_REPORT,
    "last_rx_report": Slot.LAST_RX_REPORT,
    "tuple_flags": Slot.TUPLE_FLAGS,
}


_COUNTERS = ("packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


def _raw_name(name: str) -> str:
    return _SLOTS[name].name.lower()


class Style(Enum):
    """How a value is written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    YAML = "yaml"


def encode(style: Style, value: object, text: str | None = None) -> bytes:
    """A value in a style; ``text`` is what people see. YAML: all that comes after the key's colon."""
    from ctctl.out.output import jsonable
    from ctctl.out.text import safe

    if style is Style.TEXT:
        return (safe(text) if text is not None else cell(value)).encode()
    if style is Style.JSON:
        return json.dumps(jsonable(value)).encode()
    if style is Style.CSV:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([csv_cell(value), ""])
        return line.getvalue()[:-1].encode()
    return _yaml(jsonable(value))


def _yaml(value: Any) -> bytes:
    import yaml

    document = yaml.safe_dump({"k": value}, sort_keys=False, width=2**30)
    first, *rest = document[2:].splitlines()
    return "\n".join([first, *("  " + line for line in rest), ""]).encode()


class EntryForm:
    """The fields of one table's entries, and the lines made of them. ``names``: of addresses and ``backend N``."""

    def __init__(self, table: CtTable, names: Mapping[str, str] | None = None, *, time_diff: bool = False) -> None:
        self.table = table
        self._names = names or {}
        self._time_diff = time_diff
        self._tables: dict[tuple[str, Style], TextTable] = {}
        self._seen_numbers: dict[str, _Numbers] = {}
        self._known = _KnownAddresses(self._names, table.family)
        self._lacks = LAYOUT_LACKS[table.layout] | table.absent

    def program(self, columns: CtColumns) -> RowProgram:
        """An empty program over the rows of a batch."""
        return RowProgram(len(columns), columns.keys[:, -1], TUPLE_SERVICE)

    # ---- lines ------------------------------------------------------------------

    def cilium(self, columns: CtColumns) -> RowProgram:
        """The Cilium CLI's lines. Protocol 0 has none: its rows are to be left out before."""
        layout = self.table.layout
        old = layout is Layout.V1_14  # which reads the tuple of a SERVICE entry like any other's
        program = RowProgram(len(columns)) if old else self.program(columns)

        def head(number: int) -> bytes:
            shown = number & 255 & ~TUPLE_SERVICE if old else number & 255
            return f"{cilium_protocol(number >> 8, layout)} {direction_of(shown).value} ".encode()

        def after(number: int) -> bytes:
            service = " service" if old and number & TUPLE_SERVICE else ""
            return f"{' related' if number & TUPLE_RELATED else ''}{service} expires=".encode()

        program.text(columns.key_end, self._coded("cilium head", Style.TEXT, 1 << 16, head))
        for side, end in (("src", b" -> "), ("dst", b"")):
            program.address(columns.raw(side), OpFlags.MAPPED).literal(b":")
            program.decimal(columns.raw(f"{side}_port")).literal(end)
        program.text(columns.raw("tuple_flags"), self._coded("cilium after", Style.TEXT, 256, after))
        program.decimal(columns.raw("lifetime"))
        if self._time_diff and self.table.now is not None:
            program.literal(b" (remaining: ").signed(self._remaining(columns)).literal(b" sec(s))")
        self._cilium_rest(program, columns)
        return program

    def _cilium_rest(self, program: RowProgram, columns: CtColumns) -> None:
        layout = self.table.layout

        def add(label: bytes, name: str) -> None:
            program.literal(label).decimal(columns.raw(name))

        def seen(side: str, label: bytes) -> None:
            program.literal(b" " + label + b"FlagsSeen=0x").hexadecimal(columns.raw(f"{side}_flags_seen"), 2)
            add(b" Last" + label + b"Report=", f"last_{side}_report")

        if layout.split_counters:
            add(b" RxPackets=", "word0")
            add(b" RxBytes=", "word8")
            seen("rx", b"Rx")
            add(b" TxPackets=", "word16")
            add(b" TxBytes=", "word24")
        else:
            add(b" Packets=", "word16")
            add(b" Bytes=", "word24")
            seen("rx", b"Rx")
        seen("tx", b"Tx")
        flags = self._coded("cilium flags", Style.TEXT, 1 << 16, lambda n: cilium_flags(n).encode())
        program.literal(b" ").text(columns.raw("flags"), flags)
        add(b" RevNAT=", "rev_nat")
        add(b" SourceSecurityID=", "src_sec_id")
        if "ifindex" not in LAYOUT_LACKS[layout]:
            add(b" IfIndex=", "ifindex")
        if not layout.split_counters:
            add(b" BackendID=", "word8")
        if layout.has_nat:
            program.literal(b" NatPort=").decimal(columns.raw("nat_port"))
        program.literal(b" \n")

    # ---- fields -----------------------------------------------------------------

    def put(self, program: RowProgram, columns: CtColumns, name: str, style: Style, *, record: bool = False) -> None:
        """Add a field's value in every row. ``record``: as records have it, counters that do not count as 0."""
        special = _SPECIAL.get(name)
        if name in self._lacks:
            self._constant(program, style, None)
        elif name in _COUNTERS and not record:
            self._counter(name, program, columns, style)
        elif special is not None:
            special(self, program, columns, style)
        elif name in _SLOTS:
            self._number(program, style, columns.raw(_raw_name(name)))
        else:
            raise KeyError(name)

    def _counter(self, name: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """A counter, absent in entries that count nothing: each was made by a packet."""
        there = self._counted(columns)
        if name == "rx_bytes":
            there = there & self._has_word(columns, name)
        self._unless(program, style, there.view(np.uint8), lambda: program.decimal(columns.raw(_raw_name(name))))

    def _counted(self, columns: CtColumns) -> NDArray[np.bool_]:
        words = (Slot.WORD0, Slot.WORD16) if self.table.layout.split_counters else (Slot.WORD16,)
        found: NDArray[np.bool_] = np.logical_or.reduce([columns.slot(word) != 0 for word in words])
        return found

    @staticmethod
    def can(name: str) -> bool:
        """Whether a field has a form here."""
        return name in _SPECIAL or name in _SLOTS

    def put_lower_proto(self, program: RowProgram, columns: CtColumns) -> None:
        """The protocol as a name of an entry has it."""
        lower = self._coded("lower proto", Style.TEXT, 256, lambda n: protocol_name(n).lower().encode())
        program.text(columns.raw("proto"), lower)

    def put_style(self, program: RowProgram, columns: CtColumns) -> None:
        """The escape sequence of a row's colour: by state, expired ones dim and red."""
        styles = self._coded("style", Style.TEXT, 256, lambda n: _style(n).encode())
        program.text(self._state_number(columns), styles)

    def sort_keys(self, columns: CtColumns, name: str) -> tuple[list[Array], NDArray[np.bool_]]:
        """What rows are sorted by, the weightiest first, and which rows lack the field. Texts are bytes."""
        present = np.zeros(len(columns), np.bool_)
        absent = ~present
        if name in self._lacks:
            return [np.zeros(len(columns), np.uint64)] * (3 if name in ("src", "dst") else 1), absent
        if name in ("src", "dst"):
            high, low = (columns.slot(Slot[name.upper() + part]).astype(np.uint64) for part in ("_HI", ""))
            return [np.full(len(columns), columns.family, np.uint64), high, low], present
        if name in ("remaining", "expired"):
            if self.table.now is None:
                return [np.zeros(len(columns), np.int64)], absent
            return [
                self._remaining(columns) if name == "remaining" else self._expired(columns).astype(np.int64)
            ], present
        if name == "idle":
            last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
            idle = self.table.clock.seconds(self.table.now or 0) - _seconds(last, self.table.clock.hz)
            return [idle], (last == 0) | (self.table.now is None)
        if name == "related":
            return [(columns.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)).astype(np.uint64)], present
        if name in ("backend_id", "rx_bytes"):
            there = self._has_word(columns, name)
            if name == "rx_bytes":
                there = there & self._counted(columns)
            return [columns.slot(Slot.WORD8).astype(np.uint64)], ~there
        if name == "nat_port":
            return [columns.slot(Slot.IFINDEX).byteswap().astype(np.uint64)], ~columns.translated
        if name in _COUNTERS:
            return [columns.slot(_SLOTS[name]).astype(np.uint64)], ~self._counted(columns)
        if name in _SLOTS:
            return [columns.slot(_SLOTS[name]).astype(np.uint64)], present
        if name == "other_bits":
            return [(columns.slot(Slot.FLAGS) & np.uint16(other_bits(0xFFFF))).astype(np.uint64)], present
        program = self.program(columns)
        self.put(program, columns, name, Style.JSON)
        texts = np.array(program.lines(), dtype=object)
        return [texts], texts == b"null"

    def _has_word(self, columns: CtColumns, name: str) -> NDArray[np.bool_]:
        """Which rows have the word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""
        if self.table.layout.split_counters:
            return columns.service if name == "backend_id" else ~columns.service
        return ~columns.translated

    def _constant(self, program: RowProgram, style: Style, value: object, text: str | None = None) -> None:
        program.literal(encode(style, value, text))

    def _number(self, program: RowProgram, style: Style, column: Column) -> None:
        start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
        program.literal(start).decimal(column).literal(end)

    def _coded(self, name: str, style: Style, limit: int, make: Callable[[int], bytes]) -> TextTable:
        table = self._tables.get((name, style))
        if table is None:
            table = self._tables[name, style] = TextTable(make, limit)
        return table

    def _values(
        self,
        name: str,
        style: Style,
        limit: int,
        value: Callable[[int], object],
        text: Callable[[int], str] | None = None,
    ) -> TextTable:
        """Texts of a field whose value follows from a small number."""
        return self._coded(name, style, limit, lambda n: encode(style, value(n), text(n) if text else None))

    def _choice(self, program: RowProgram, style: Style, column: Array, *values: object) -> None:
        program.text(column, TextTable.of([encode(style, value) for value in values]))

    def _remaining(self, columns: CtColumns) -> NDArray[np.int64]:
        clock, now = self.table.clock, self.table.now or 0
        times = columns.slot(Slot.LIFETIME).astype(np.int64)
        return _seconds(times, clock.hz) - clock.seconds(now)

    def _expired(self, columns: CtColumns) -> NDArray[np.uint8]:
        return (columns.slot(Slot.LIFETIME) < (self.table.now or 0)).astype(np.uint8)

    def _by_value(self, program: RowProgram, columns: Array, make: Callable[[Any], bytes]) -> None:
        """A text per distinct value of the batch."""
        unique, inverse = np.unique(columns, return_inverse=True)
        texts = TextTable.of([make(value) for value in unique.tolist()])
        program.text(np.ascontiguousarray(inverse.reshape(-1), np.uint32), texts)

    def _name_texts(self, form: str, style: Style) -> TextTable:
        """Texts by ``_name_index``: 0 is an address without a name."""

        def make(number: int) -> bytes:
            name = self._known.names[number - 1] if number else None
            if form == "name":
                return encode(style, name)
            if form == "bare":
                return _bare(style, name or "")
            return encode(style, None, f" ({name})") if name is not None else b""

        return self._coded(f"address {form}", style, len(self._known.names) + 1, make)

    def _name_index(self, columns: CtColumns, side: str) -> NDArray[np.uint32]:
        return self._known.find(columns, side)

    def known(self, columns: CtColumns, name: str) -> NDArray[np.uint8]:
        """1 in rows where a name (``src_name``, ``dst_name``, ``backend``) is known."""
        if name == "backend":
            backends = self._backend_column(columns)
            named = np.array([int(key[8:]) for key in self._names if re.fullmatch(r"backend \d+", key)], np.uint64)
            there: NDArray[np.bool_] = np.isin(backends, named) & (backends != 0)
        else:
            there = self._name_index(columns, name[:3]) != 0
        return there.view(np.uint8)

    def _backend_column(self, columns: CtColumns) -> NDArray[np.uint64]:
        if "backend_id" in self._lacks:
            return np.zeros(len(columns), np.uint64)
        backends = columns.slot(Slot.WORD8) * ~columns.translated
        return backends * columns.service if self.table.layout.split_counters else backends

    # ---- the fields that are no plain number ------------------------------------

    def _map(self, program: RowProgram, _columns: CtColumns, style: Style) -> None:
        self._constant(program, style, self.table.name)

    def _node(self, program: RowProgram, _columns: CtColumns, style: Style) -> None:
        self._constant(program, style, self.table.node)

    def _proto(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is not Style.TEXT:
            self._number(program, style, columns.raw("proto"))
        else:
            program.text(columns.raw("proto"), self._values("proto", style, 256, lambda n: n, protocol_name))

    def _proto_name(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(columns.raw("proto"), self._values("proto_name", style, 256, protocol_word))

    def _direction(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(columns.raw("tuple_flags"), self._values("direction", style, 256, direction_of))

    def _related(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(columns.raw("tuple_flags"), self._values("related", style, 256, lambda n: bool(n & TUPLE_RELATED)))

    def _address(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        start, end = {
            Style.JSON: (b'"', b'"'),
            Style.YAML: (b" '", b"'\n") if columns.family == 6 else (b" ", b"\n"),
        }.get(style, (b"", b""))
        program.literal(start).address(columns.raw(side), _PLAIN_IPV6).literal(end)

    def _end(self, side: str, program: RowProgram, columns: CtColumns, style: Style, *, named: bool = True) -> None:
        """``10.0.0.1:80``, for people with the name behind it."""
        quote, close = {Style.JSON: (b'"', b'"'), Style.YAML: (b" '", b"'\n")}.get(style, (b"", b""))
        open_, shut = (b"[", b"]:") if columns.family == 6 else (b"", b":")
        program.literal(quote + open_).address(columns.raw(side), _PLAIN_IPV6).literal(shut)
        program.decimal(columns.raw(f"{side}_port"))
        if named and style is Style.TEXT and self._known.names:
            program.text(self._name_index(columns, side), self._name_texts("in brackets", style))
        program.literal(close)

    def _short_end(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """``ns/pod:80`` where the name is known, else as ``_end``."""
        there = (self._name_index(columns, side) != 0).view(np.uint8)
        if not there.any():
            self._end(side, program, columns, style, named=False)
            return
        quote, close = {Style.JSON: (b'"', b'"'), Style.YAML: (b" '", b"'\n")}.get(style, (b"", b""))
        with program.where(there, 1, 1):
            program.literal(quote).text(self._name_index(columns, side), self._name_texts("bare", style))
            program.literal(b":").decimal(columns.raw(f"{side}_port")).literal(close)
        with program.where(there, 1, 0):
            self._end(side, program, columns, style, named=False)

    def _side_name(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(self._name_index(columns, side), self._name_texts("name", style))

    def _state(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is not Style.TEXT:
            program.text(columns.raw("flags"), self._values("state", style, 1 << 16, state_of))
            return
        if self.table.now is None:
            words = self._values("state words", style, 256, int, lambda n: _state_words(n, None))
            program.text(self._state_number(columns), words)
            return
        number = _time_number(self._remaining(columns), self._expired(columns)) << 8 | self._state_number(columns)
        self._timed(program, "state", number, lambda n: _state_words(n & 255, _time_of(n >> 8)[0]))

    def _timed(self, program: RowProgram, name: str, number: NDArray[np.int64], text: Callable[[int], str]) -> None:
        """A text per distinct number that holds a time, kept from batch to batch."""
        known = self._seen_numbers.setdefault(name, _Numbers(lambda n: text(n).encode()))
        program.text(known.places(number), known.table)

    def _state_number(self, columns: CtColumns) -> NDArray[np.uint8]:
        """The flag bits that make the state word, 64 for related, 128 for expired."""
        number: NDArray[np.uint8] = (columns.slot(Slot.FLAGS) & 19).astype(np.uint8)
        number |= (columns.slot(Slot.TUPLE_FLAGS) & np.uint8(TUPLE_RELATED)) << 5
        if self.table.now is not None:
            number |= self._expired(columns) << 7
        return number

    def _remaining_field(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        elif style is not Style.TEXT:
            start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
            program.literal(start).signed(self._remaining(columns)).literal(end)
        else:
            number = _time_number(self._remaining(columns), self._expired(columns))
            self._timed(program, "remaining", number, lambda n: _remaining_text(*_time_of(n)))

    def _expired_field(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        else:
            self._choice(program, style, self._expired(columns), False, True)

    def _idle(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        now, clock = self.table.now, self.table.clock
        if now is None:
            self._constant(program, style, None)
            return
        last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
        idle = clock.seconds(now) - _seconds(last, clock.hz)
        self._unless(program, style, (last != 0).astype(np.uint8), lambda: program.signed(idle))

    def _unless(self, program: RowProgram, style: Style, there: NDArray[np.uint8], put: Callable[[], object]) -> None:
        """What ``put`` adds where ``there`` is 1, else what absent is."""
        start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
        with program.where(there, 1, 1):
            program.literal(start)
            put()
            program.literal(end)
        with program.where(there, 1, 0):
            self._constant(program, style, None)

    def _flag_names(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(columns.raw("flags"), self._values("flag_names", style, 1 << 16, flag_names, flags_text))

    def _flags(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is Style.TEXT:
            program.literal(b"0x").hexadecimal(columns.raw("flags"), 4)
        else:
            self._number(program, style, columns.raw("flags"))

    def _other_bits(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(columns.raw("flags"), self._values("other_bits", style, 1 << 16, other_bits))

    def _seen(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is Style.TEXT:
            program.literal(b"0x").hexadecimal(columns.raw(f"{side}_flags_seen"), 2)
        else:
            self._number(program, style, columns.raw(f"{side}_flags_seen"))

    def _shared(self, name: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """The word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""
        numbers = columns.slot(Slot.WORD8)
        there = self._has_word(columns, name)
        named = style is Style.TEXT and name == "backend_id" and any(key.startswith("backend ") for key in self._names)

        def put() -> None:
            if named:
                self._by_value(
                    program, numbers, lambda n: _with_name(n, self._names.get(f"backend {n}") if n else None)
                )
            else:
                program.decimal(columns.raw("word8"))

        if there.all():
            start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
            program.literal(start)
            put()
            program.literal(end)
        else:
            self._unless(program, style, there.astype(np.uint8), put)

    def _rev_nat(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is Style.TEXT and any(key.startswith("rev-nat ") for key in self._names):
            names = self._names
            table = self._coded("rev_nat", style, 1 << 16, lambda n: _with_name(n, names.get(f"rev-nat {n}")))
            program.text(columns.slot(Slot.REV_NAT), table)
        else:
            self._number(program, style, columns.raw("rev_nat"))

    def _backend(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        def text(number: int) -> bytes:
            return encode(style, self._names.get(f"backend {number}") if number else None)

        self._by_value(program, self._backend_column(columns), text)

    def _nat(self, name: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """The service's address and port of a DSR entry (1.19): few, so one by one."""
        there = columns.translated
        if not there.any():
            self._constant(program, style, None)
            return
        texts = [encode(style, None)]
        number = np.zeros(len(columns), np.uint32)
        for at in np.flatnonzero(there).tolist():
            number[at] = len(texts)
            texts.append(encode(style, getattr(columns.entry(at), name)))
        program.text(number, TextTable.of(texts))

    def _raw(self, part: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if not self.table.raw:
            self._constant(program, style, None)
            return
        start, end = {Style.JSON: (b'"', b'"'), Style.YAML: (b" '", b"'\n")}.get(style, (b"", b""))
        program.literal(start).raw(columns.keys if part == "key" else columns.values).literal(end)


class _KnownAddresses:
    """Addresses of one family that have names: looked up for a whole batch at once."""

    def __init__(self, names: Mapping[str, str], family: int) -> None:
        found: list[tuple[int, int, str]] = []
        for text, name in names.items():
            if text.startswith(("backend ", "rev-nat ")):
                continue
            try:
                address = ip_address(text)
            except ValueError:
                continue
            if address.version == family:
                found.append((int(address) & _LOW, int(address) >> 64, name))
        found.sort()
        self.names = [name for _low, _high, name in found]
        self._low = np.array([low for low, _high, _name in found], np.uint64)
        self._high = np.array([high for _low, high, _name in found], np.uint64)
        #: addresses that end alike stand beside each other: at most so many
        self._alike = max(np.unique(self._low, return_counts=True)[1], default=0)

    def find(self, columns: CtColumns, side: str) -> NDArray[np.uint32]:
        """Which of the names each row's address has, from 1; 0: none."""
        result = np.zeros(len(columns), np.uint32)
        if not self.names:
            return result
        low = columns.slot(Slot[side.upper()]).astype(np.uint64)
        high = columns.slot(Slot[f"{side.upper()}_HI"])
        first = np.searchsorted(self._low, low)
        for step in range(int(self._alike)):
            at = np.minimum(first + step, len(self.names) - 1)
            hit = (self._low[at] == low) & (self._high[at] == high)
            result[hit] = at[hit] + 1
        return result


_LOW = (1 << 64) - 1


class _Numbers:
    """Texts of numbers from a wide range, of which a table has few: each made once."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._numbers: NDArray[np.int64] = np.zeros(0, np.int64)
        self._ids: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._by_id: list[int] = []
        self.table = TextTable(lambda place: make(self._by_id[place]), 0)

    def places(self, numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Where in the table each number's text is."""
        if not len(numbers):
            return np.zeros(0, np.uint32)
        at = self._find(numbers)
        missing = np.ones(len(numbers), np.bool_) if at is None else self._numbers[at] != numbers
        if missing.any():
            fresh = np.unique(numbers[missing])
            ids = np.arange(len(self._by_id), len(self._by_id) + len(fresh), dtype=np.uint32)
            self._by_id += fresh.tolist()
            order = np.argsort(joined := np.concatenate([self._numbers, fresh]))
            self._numbers, self._ids = joined[order], np.concatenate([self._ids, ids])[order]
            self.table.grow(len(self._by_id))
            at = self._find(numbers)
        return self._ids[at]

    def _find(self, numbers: NDArray[np.int64]) -> NDArray[np.intp] | None:
        if not len(self._numbers):
            return None
        return np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)


def _time_number(left: NDArray[np.int64], expired: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Seconds left and whether they are over: by jiffies a lifetime just over may be 0 s away."""
    return left << 1 | expired


def _time_of(number: int) -> tuple[int, bool]:
    return number >> 1, bool(number & 1)


def _seconds(times: NDArray[np.int64], hz: int | None) -> NDArray[np.int64]:
    return times if hz is None else (times << 8) // hz


def _state_words(number: int, left: int | None) -> str:
    return state_text(state_of(number & 19), related=bool(number & 64), left=left, expired=bool(number & 128))


_STYLES = {CtState.NEW: "36", CtState.ESTABLISHED: "32", CtState.CLOSING: "33", CtState.CLOSED: "2"}


def _style(number: int) -> str:
    return f"\033[{'2;31' if number & 128 else _STYLES[state_of(number & 19)]}m"


def _remaining_text(left: int, expired: bool) -> str:
    return f"expired {format_duration(-left)} ago" if expired else format_duration(left)


def _bare(style: Style, name: str) -> bytes:
    """A name within a text of that style, whose quotes stand around it already."""
    if style is Style.JSON:
        return encode(style, name)[1:-1]
    return name.replace("'", "''").encode() if style is Style.YAML else encode(Style.TEXT, None, name)


def _with_name(number: int, name: str | None) -> bytes:
    return encode(Style.TEXT, None, f"{number} ({name})" if name is not None else str(number))


_SPECIAL: dict[str, Callable[[EntryForm, RowProgram, CtColumns, Style], None]] = {
    "map": EntryForm._map,
    "node": EntryForm._node,
    "proto": EntryForm._proto,
    "proto_name": EntryForm._proto_name,
    "direction": EntryForm._direction,
    "related": EntryForm._related,
    "src": lambda form, *args: form._address("src", *args),
    "dst": lambda form, *args: form._address("dst", *args),
    "source": lambda form, *args: form._end("src", *args),
    "destination": lambda form, *args: form._end("dst", *args),
    "source_short": lambda form, *args: form._short_end("src", *args),
    "destination_short": lambda form, *args: form._short_end("dst", *args),
    "src_name": lambda form, *args: form._side_name("src", *args),
    "dst_name": lambda form, *args: form._side_name("dst", *args),
    "state": EntryForm._state,
    "remaining": EntryForm._remaining_field,
    "expired": EntryForm._expired_field,
    "idle": EntryForm._idle,
    "flags": EntryForm._flags,
    "flag_names": EntryForm._flag_names,
    "other_bits": EntryForm._other_bits,
    "tx_flags_seen": lambda form, *args: form._seen("tx", *args),
    "rx_flags_seen": lambda form, *args: form._seen("rx", *args),
    "backend_id": lambda form, *args: form._shared("backend_id", *args),
    "rx_bytes": lambda form, *args: form._shared("rx_bytes", *args),
    "rev_nat": EntryForm._rev_nat,
    "backend": EntryForm._backend,
    "nat_addr": lambda form, *args: form._nat("nat_addr", *args),
    "nat_port": lambda form, *args: form._nat("nat_port", *args),
    "key_hex": lambda form, *args: form._raw("key", *args),
    "value_hex": lambda form, *args: form._raw("value", *args),
}
