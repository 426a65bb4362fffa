"""Conntrack entries as lines in every format, a whole batch at a time.

``ct_view`` and ``cilium_line`` say what each field and each line is, one entry at a time; here the
same texts come from columns, through row programs (``out/rowtext.py``). A property test holds the
two together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import numpy as np

from ctctl._ffi.rows import OpFlags
from ctctl.decode.columns import CtColumns, Slot
from ctctl.decode.ct import TUPLE_RELATED, TUPLE_SERVICE, direction_of, flag_names, other_bits
from ctctl.model.entry import CtState, state_of
from ctctl.model.tuples import protocol_name
from ctctl.model.units import format_duration
from ctctl.out.rowtext import RowProgram, TextTable
from ctctl.tables.show.encode import Style, bare, encode, with_name
from ctctl.tables.show.entry import flags_text, protocol_word, state_text
from ctctl.tables.show.entry_facts import COUNTERS, SLOTS, EntryFacts, raw_name, seconds_of
from ctctl.tables.show.lookup import Numbers
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ctctl.out.rowtext import Column

    Array = NDArray[Any]

#: How this Python writes ::ffff:a.b.c.d, which changed in 3.13.
_PLAIN_IPV6 = OpFlags.DOTTED if "." in str(IPv6Address("::ffff:1.2.3.4")) else OpFlags.NONE


class EntryForm(EntryFacts):
    """The fields of one table's entries as text. ``time_diff``: the Cilium CLI's lines show the remaining time."""

    def __init__(self, table: CtTable, names: Mapping[str, str] | None = None, *, time_diff: bool = False) -> None:
        super().__init__(table, names)
        self.time_diff = time_diff
        self._tables: dict[tuple[str, Style], TextTable] = {}
        self._seen_numbers: dict[str, Numbers] = {}

    def program(self, columns: CtColumns) -> RowProgram:
        """An empty program over the rows of a batch."""
        return RowProgram(len(columns), columns.keys[:, -1], TUPLE_SERVICE)

    def texts(self, columns: CtColumns, name: str) -> list[bytes]:
        """The values of a field as JSON, a text a row."""
        program = self.program(columns)
        self.put(program, columns, name, Style.JSON)
        return program.lines()

    def put(self, program: RowProgram, columns: CtColumns, name: str, style: Style, *, record: bool = False) -> None:
        """Add a field's value in every row. ``record``: as records have it, counters that do not count as 0."""
        special = _SPECIAL.get(name)
        if name in self.lacks:
            self._constant(program, style, None)
        elif name in COUNTERS and not record:
            self._counter(name, program, columns, style)
        elif special is not None:
            special(self, program, columns, style)
        elif name in SLOTS:
            self._number(program, style, columns.raw(raw_name(name)))
        else:
            raise KeyError(name)

    def _counter(self, name: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """A counter, absent in entries that count nothing: each was made by a packet."""
        there = self.counted(columns)
        if name == "rx_bytes":
            there = there & self.has_word(columns, name)
        self._unless(program, style, there.view(np.uint8), lambda: program.decimal(columns.raw(raw_name(name))))

    @staticmethod
    def can(name: str) -> bool:
        """Whether a field has a form here."""
        return name in _SPECIAL or name in SLOTS

    def put_lower_proto(self, program: RowProgram, columns: CtColumns) -> None:
        """The protocol as a name of an entry has it."""
        lower = self.coded("lower proto", Style.TEXT, 256, lambda n: protocol_name(n).lower().encode())
        program.text(columns.raw("proto"), lower)

    def put_style(self, program: RowProgram, columns: CtColumns) -> None:
        """The escape sequence of a row's colour: by state, expired ones dim and red."""
        styles = self.coded("style", Style.TEXT, 256, lambda n: _style(n).encode())
        program.text(self.state_number(columns), styles)

    def _constant(self, program: RowProgram, style: Style, value: object, text: str | None = None) -> None:
        program.literal(encode(style, value, text))

    def _number(self, program: RowProgram, style: Style, column: Column) -> None:
        start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
        program.literal(start).decimal(column).literal(end)

    def coded(self, name: str, style: Style, limit: int, make: Callable[[int], bytes]) -> TextTable:
        """The texts of a field by number, made when they are first needed and kept."""
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
        return self.coded(name, style, limit, lambda n: encode(style, value(n), text(n) if text else None))

    def _choice(self, program: RowProgram, style: Style, column: Array, *values: object) -> None:
        program.text(column, TextTable.of([encode(style, value) for value in values]))

    def _by_value(self, program: RowProgram, columns: Array, make: Callable[[Any], bytes]) -> None:
        """A text per distinct value of the batch."""
        unique, inverse = np.unique(columns, return_inverse=True)
        texts = TextTable.of([make(value) for value in unique.tolist()])
        program.text(np.ascontiguousarray(inverse.reshape(-1), np.uint32), texts)

    def _name_texts(self, form: str, style: Style) -> TextTable:
        """Texts by ``_name_index``: 0 is an address without a name."""

        def make(number: int) -> bytes:
            name = self.addresses.names[number - 1] if number else None
            if form == "name":
                return encode(style, name)
            if form == "bare":
                return bare(style, name or "")
            return encode(style, None, f" ({name})") if name is not None else b""

        return self.coded(f"address {form}", style, len(self.addresses.names) + 1, make)

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
        if named and style is Style.TEXT and self.addresses.names:
            program.text(self.name_index(columns, side), self._name_texts("in brackets", style))
        program.literal(close)

    def _short_end(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """``ns/pod:80`` where the name is known, else as ``_end``."""
        there = (self.name_index(columns, side) != 0).view(np.uint8)
        if not there.any():
            self._end(side, program, columns, style, named=False)
            return
        quote, close = {Style.JSON: (b'"', b'"'), Style.YAML: (b" '", b"'\n")}.get(style, (b"", b""))
        with program.where(there, 1, 1):
            program.literal(quote).text(self.name_index(columns, side), self._name_texts("bare", style))
            program.literal(b":").decimal(columns.raw(f"{side}_port")).literal(close)
        with program.where(there, 1, 0):
            self._end(side, program, columns, style, named=False)

    def _side_name(self, side: str, program: RowProgram, columns: CtColumns, style: Style) -> None:
        program.text(self.name_index(columns, side), self._name_texts("name", style))

    def _state(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if style is not Style.TEXT:
            program.text(columns.raw("flags"), self._values("state", style, 1 << 16, state_of))
            return
        if self.table.now is None:
            words = self._values("state words", style, 256, int, lambda n: _state_words(n, None))
            program.text(self.state_number(columns), words)
            return
        number = _time_number(self.remaining(columns), self.expired(columns)) << 8 | self.state_number(columns)
        self._timed(program, "state", number, lambda n: _state_words(n & 255, _time_of(n >> 8)[0]))

    def _timed(self, program: RowProgram, name: str, number: NDArray[np.int64], text: Callable[[int], str]) -> None:
        """A text per distinct number that holds a time, kept from batch to batch."""
        known = self._seen_numbers.setdefault(name, Numbers(lambda n: text(n).encode()))
        program.text(known.places(number), known.table)

    def _remaining_field(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        elif style is not Style.TEXT:
            start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
            program.literal(start).signed(self.remaining(columns)).literal(end)
        else:
            number = _time_number(self.remaining(columns), self.expired(columns))
            self._timed(program, "remaining", number, lambda n: _remaining_text(*_time_of(n)))

    def _expired_field(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        else:
            self._choice(program, style, self.expired(columns), False, True)

    def _idle(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        now, clock = self.table.now, self.table.clock
        if now is None:
            self._constant(program, style, None)
            return
        last = np.maximum(columns.slot(Slot.LAST_TX_REPORT), columns.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
        idle = clock.seconds(now) - seconds_of(last, clock.hz)
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
        there = self.has_word(columns, name)
        named = style is Style.TEXT and name == "backend_id" and any(key.startswith("backend ") for key in self.names)

        def put() -> None:
            if named:
                self._by_value(program, numbers, lambda n: with_name(n, self.names.get(f"backend {n}") if n else None))
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
        if style is Style.TEXT and any(key.startswith("rev-nat ") for key in self.names):
            names = self.names
            table = self.coded("rev_nat", style, 1 << 16, lambda n: with_name(n, names.get(f"rev-nat {n}")))
            program.text(columns.slot(Slot.REV_NAT), table)
        else:
            self._number(program, style, columns.raw("rev_nat"))

    def _identity(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        """The number, in tables with its name."""
        self._number(program, style, columns.raw("src_sec_id"))
        if style is Style.TEXT:
            names, place = self._names_of("identity", columns.slot(Slot.SRC_SEC_ID))
            program.text(place, TextTable.of([b"", *(encode(style, None, f" ({name})") for name in names)]))

    def _identity_name(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        self._name_of(program, "identity", columns.slot(Slot.SRC_SEC_ID), style)

    def _backend(self, program: RowProgram, columns: CtColumns, style: Style) -> None:
        self._name_of(program, "backend", self.backend_column(columns), style)

    def _name_of(self, program: RowProgram, kind: str, numbers: Array, style: Style) -> None:
        """The name of a numbered thing, absent for 0 and for numbers without a name: a text a name, not a number."""
        names, place = self._names_of(kind, numbers)
        program.text(place, TextTable.of([encode(style, None), *(encode(style, name) for name in names)]))

    def _names_of(self, kind: str, numbers: Array) -> tuple[list[str], NDArray[np.uint32]]:
        """The names of a kind, and which each number has, from 1; 0: none."""
        named = {int(key.split()[1]): name for key, name in self.names.items() if re.fullmatch(rf"{kind} \d+", key)}
        known = np.array(sorted(number for number in named if number), np.uint64)
        place = np.zeros(len(numbers), np.uint32)
        if len(known):
            at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
            place = np.where(known[at] == numbers, at + 1, 0).astype(np.uint32)
        return [named[number] for number in known.tolist()], place

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


def _time_number(left: NDArray[np.int64], expired: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Seconds left and whether they are over: by jiffies a lifetime just over may be 0 s away."""
    return left << 1 | expired


def _time_of(number: int) -> tuple[int, bool]:
    return number >> 1, bool(number & 1)


def _state_words(number: int, left: int | None) -> str:
    return state_text(state_of(number & 19), related=bool(number & 64), left=left, expired=bool(number & 128))


_STYLES = {CtState.NEW: "36", CtState.ESTABLISHED: "32", CtState.CLOSING: "33", CtState.CLOSED: "2"}


def _style(number: int) -> str:
    return f"\033[{'2;31' if number & 128 else _STYLES[state_of(number & 19)]}m"


def _remaining_text(left: int, expired: bool) -> str:
    return f"expired {format_duration(-left)} ago" if expired else format_duration(left)


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
    "src_sec_id": EntryForm._identity,
    "src_identity": EntryForm._identity_name,
    "nat_addr": lambda form, *args: form._nat("nat_addr", *args),
    "nat_port": lambda form, *args: form._nat("nat_port", *args),
    "key_hex": lambda form, *args: form._raw("key", *args),
    "value_hex": lambda form, *args: form._raw("value", *args),
}
