"""Conntrack entries as lines in every format: the row program of each field.

``ct_view`` and ``cilium_line`` say what each field and each line is, one entry at a time; here the
same texts come from the bytes of a table, through row programs (``out/rowtext.py``). A property test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ctctl._ffi.rows import Field
from ctctl.decode.ct import TUPLE_RELATED, TUPLE_SERVICE, direction_of, flag_names, other_bits
from ctctl.model.entry import CtState, state_of
from ctctl.model.tuples import protocol_name
from ctctl.out.rowtables import TextTable
from ctctl.out.rowtext import ALL, RowProgram
from ctctl.tables.show.encode import Style, bare, encode, with_name
from ctctl.tables.show.entry import flags_text, protocol_word, state_words
from ctctl.tables.show.entry_facts import COUNTERS, EXPIRED_BIT, NUMBERS, RELATED_BIT, STATE_FLAGS, EntryFacts
from ctctl.tables.show.shared_texts import PLAIN_IPV6, around, quotes, shared_texts
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns


#: Keys of a record that are there only where the name is known.
OPTIONAL = ("src_name", "dst_name", "backend", "src_identity")


class EntryForm(EntryFacts):
    """The fields of one table's entries as text. ``time_diff``: the Cilium CLI's lines show the remaining time."""

    def __init__(self, table: CtTable, names: Mapping[str, str] | None = None, *, time_diff: bool = False) -> None:
        super().__init__(table, names)
        self.time_diff = time_diff
        self._tables: dict[tuple[str, Style], TextTable] = {}

    def program(self) -> RowProgram:
        """An empty program over rows of the table."""
        return RowProgram(self.fields["tuple_flags"], TUPLE_SERVICE)

    def texts(self, columns: CtColumns, name: str) -> list[bytes]:
        """The values of a field as JSON, a text a row."""
        program = self.program()
        self.put(program, name, Style.JSON)
        return program.lines(columns)

    def put(self, program: RowProgram, name: str, style: Style, *, record: bool = False) -> None:
        """Add a field's value. ``record``: as records have it, counters that do not count as 0."""
        special = _SPECIAL.get(name)
        if name in self.lacks:
            self._constant(program, style, None)
        elif name in COUNTERS and not record:
            self._counter(name, program, style)
        elif special is not None:
            special(self, program, style)
        elif name in NUMBERS:
            self._number(program, style, self.fields[NUMBERS[name]])
        else:
            raise KeyError(name)

    def knows(self, name: str) -> bool:
        """Whether any row can have a value of this optional key of a record."""
        if name in ("src_name", "dst_name"):
            return bool(self.addresses.names)
        if name == "backend":
            return bool(self.backends.names) and "backend_id" not in self.lacks
        return bool(self.identities.names)

    @contextmanager
    def where_known(self, program: RowProgram, name: str) -> Iterator[None]:
        """What is added inside stands only in rows that have a value of this optional key of a record."""
        if name == "backend":
            with (
                self._where_has(program, "backend_id"),
                program.where(self.backend_place(program), ALL, 0, other=True),
            ):
                yield
            return
        place = self.identity_place(program) if name == "src_identity" else self.name_place(program, name[:3])
        with program.where(place, ALL, 0, other=True):
            yield

    @contextmanager
    def _where_has(self, program: RowProgram, name: str, *, other: bool = False) -> Iterator[None]:
        """Only in rows whose word is a backend, up to 1.15 only in SERVICE entries, and else received bytes."""
        if self.table.layout.split_counters:
            with program.where(
                self.fields["tuple_flags"], TUPLE_SERVICE, TUPLE_SERVICE, other=other != (name != "backend_id")
            ):
                yield
            return
        with program.where(*self.translated(program), other=not other):
            yield

    def _always_has(self) -> bool:
        return not self.table.layout.split_counters and not self.table.layout.has_nat

    def _counter(self, name: str, program: RowProgram, style: Style) -> None:
        """A counter, absent in entries that count nothing."""
        field, split = self.fields[NUMBERS[name]], name == "rx_bytes"
        with program.where(*self.counted(program), other=True):
            if not split:
                self._number(program, style, field)
            else:
                with self._where_has(program, name):
                    self._number(program, style, field)
                with self._where_has(program, name, other=True):
                    self._constant(program, style, None)
        with program.where(*self.counted(program)):
            self._constant(program, style, None)

    def put_lower_proto(self, program: RowProgram) -> None:
        """The protocol as a name of an entry has it."""
        lower = shared_texts("lower proto", Style.TEXT, 256, lambda n: protocol_name(n).lower().encode())
        program.text(self.fields["proto"], lower)

    def put_entry_name(self, program: RowProgram, style: Style) -> None:
        """What names an entry (``entry_name``)."""
        start, end = quotes(style, quoted=False)
        self.put_lower_proto(program.literal(start))
        for between, side in ((b" ", "src"), (b" > ", "dst")):
            self._end(side, program.literal(between), Style.CSV)
        program.literal(end)

    def put_style(self, program: RowProgram) -> None:
        """The escape sequence of a row's colour: by state, expired ones dim and red."""
        styles = shared_texts("style", Style.TEXT, 256, lambda n: _style(n).encode())
        program.text(self.state_number(program), styles)

    def _constant(self, program: RowProgram, style: Style, value: object, text: str | None = None) -> None:
        program.literal(encode(style, value, text))

    def _number(self, program: RowProgram, style: Style, field: Field) -> None:
        start, end = around(style)
        program.literal(start).decimal(field).literal(end)

    def coded(self, name: str, style: Style, limit: int, make: Callable[[int], bytes]) -> TextTable:
        """The texts of a field of this table by number, made when they are first needed and kept."""
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
        """Texts of a field whose value follows from a small number, and from nothing else."""
        return shared_texts(name, style, limit, lambda n: encode(style, value(n), text(n) if text else None))

    def _listed(self, name: str, style: Style, names: list[str], make: Callable[[str | None], bytes]) -> TextTable:
        """Texts by a place among names, from 1; 0: none of them."""
        return self.coded(name, style, len(names) + 1, lambda n: make(names[n - 1] if n else None))

    # ---- the fields that are no plain number ------------------------------------

    def _map(self, program: RowProgram, style: Style) -> None:
        self._constant(program, style, self.table.name)

    def _node(self, program: RowProgram, style: Style) -> None:
        self._constant(program, style, self.table.node)

    def _proto(self, program: RowProgram, style: Style) -> None:
        if style is not Style.TEXT:
            self._number(program, style, self.fields["proto"])
        else:
            program.text(self.fields["proto"], self._values("proto", style, 256, lambda n: n, protocol_name))

    def _coded(self, name: str, field: str, value: Callable[[int], object], program: RowProgram, style: Style) -> None:
        program.text(self.fields[field], self._values(name, style, 1 << 8 * self.fields[field].width, value))

    def _address(self, side: str, program: RowProgram, style: Style) -> None:
        start, end = quotes(style, quoted=self.table.family == 6)
        program.literal(start).address(self.fields[side], PLAIN_IPV6).literal(end)

    def _end(self, side: str, program: RowProgram, style: Style, *, named: bool = True) -> None:
        """``10.0.0.1:80``, for people with the name behind it."""
        quote, close = quotes(style)
        open_, shut = (b"[", b"]:") if self.table.family == 6 else (b"", b":")
        program.literal(quote + open_).address(self.fields[side], PLAIN_IPV6).literal(shut)
        program.decimal(self.fields[f"{side}_port"])
        if named and style is Style.TEXT and self.addresses.names:
            behind = self._listed("in brackets", style, self.addresses.names, _in_brackets)
            program.text(self.name_place(program, side), behind)
        program.literal(close)

    def _short_end(self, side: str, program: RowProgram, style: Style) -> None:
        """``ns/pod:80`` where the name is known, else as ``_end``."""
        if not self.addresses.names:
            self._end(side, program, style, named=False)
            return
        quote, close = quotes(style)
        names = self._listed("bare", style, self.addresses.names, lambda name: bare(style, name or ""))
        place = self.name_place(program, side)
        with program.where(place, ALL, 0, other=True):
            program.literal(quote).text(place, names).literal(b":")
            program.decimal(self.fields[f"{side}_port"]).literal(close)
        with program.where(place, ALL, 0):
            self._end(side, program, style, named=False)

    def _side_name(self, side: str, program: RowProgram, style: Style) -> None:
        names = self._listed("name", style, self.addresses.names, lambda name: encode(style, name))
        program.text(self.name_place(program, side), names)

    def _state(self, program: RowProgram, style: Style) -> None:
        if style is not Style.TEXT:
            self._coded("state", "flags", state_of, program, style)
            return
        timed, number = self.table.now is not None, self.state_number(program)

        def words(part: int) -> Callable[[int], bytes]:
            return lambda n: encode(style, None, _state_words(n, timed=timed)[part])

        program.text(number, self.coded("state before", style, 256, words(0)))
        if timed:
            program.duration(self.remaining(program), 2)
            program.text(number, self.coded("state behind", style, 256, words(1)))

    def _remaining_field(self, program: RowProgram, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        elif style is not Style.TEXT:
            start, end = around(style)
            program.literal(start).signed(self.remaining(program)).literal(end)
        else:
            expired = self.expired(program)
            program.text(expired, TextTable.of([b"", b"expired "])).duration(self.remaining(program), 4)
            program.text(expired, TextTable.of([b"", b" ago"]))

    def _expired_field(self, program: RowProgram, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
        else:
            program.text(self.expired(program), TextTable.of([encode(style, value) for value in (False, True)]))

    def _idle(self, program: RowProgram, style: Style) -> None:
        if self.table.now is None:
            self._constant(program, style, None)
            return
        start, end = around(style)
        last = self.last_report(program)
        with program.where(last, ALL, 0, other=True):
            program.literal(start).signed(self.idle(program)).literal(end)
        with program.where(last, ALL, 0):
            self._constant(program, style, None)

    def _flag_names(self, program: RowProgram, style: Style) -> None:
        names = self._values("flag_names", style, 1 << 16, flag_names, flags_text)
        program.text(self.fields["flags"], names)

    def _hex(self, name: str, digits: int, program: RowProgram, style: Style) -> None:
        if style is Style.TEXT:
            program.literal(b"0x").hexadecimal(self.fields[name], digits)
        else:
            self._number(program, style, self.fields[name])

    def _shared(self, name: str, program: RowProgram, style: Style) -> None:
        """The word that is a backend, up to 1.15 only in SERVICE entries, else received bytes."""

        def put() -> None:
            self._number(program, style, self.fields["word8"])
            if style is Style.TEXT and name == "backend_id" and self.backends.names:
                behind = self._listed("backend in brackets", style, self.backends.names, _in_brackets)
                program.text(self.backend_place(program), behind)

        self._if_has(program, style, name, put)

    def _if_has(self, program: RowProgram, style: Style, name: str, put: Callable[[], None]) -> None:
        if self._always_has():
            put()
            return
        with self._where_has(program, name):
            put()
        with self._where_has(program, name, other=True):
            self._constant(program, style, None)

    def _rev_nat(self, program: RowProgram, style: Style) -> None:
        if style is Style.TEXT and any(key.startswith("rev-nat ") for key in self.names):
            names = self.names
            table = self.coded("rev_nat", style, 1 << 16, lambda n: with_name(n, names.get(f"rev-nat {n}")))
            program.text(self.fields["rev_nat"], table)
        else:
            self._number(program, style, self.fields["rev_nat"])

    def _identity(self, program: RowProgram, style: Style) -> None:
        """The number, in tables with its name."""
        self._number(program, style, self.fields["src_sec_id"])
        if style is Style.TEXT and self.identities.names:
            behind = self._listed("identity in brackets", style, self.identities.names, _in_brackets)
            program.text(self.identity_place(program), behind)

    def _identity_name(self, program: RowProgram, style: Style) -> None:
        names = self._listed("identity", style, self.identities.names, lambda name: encode(style, name))
        program.text(self.identity_place(program), names)

    def _backend(self, program: RowProgram, style: Style) -> None:
        if "backend_id" in self.lacks or not self.backends.names:
            self._constant(program, style, None)
            return
        names = self._listed("backend", style, self.backends.names, lambda name: encode(style, name))
        self._if_has(program, style, "backend_id", lambda: _ignore(program.text(self.backend_place(program), names)))

    def _nat_port(self, program: RowProgram, style: Style) -> None:
        """The service's port of a DSR entry (1.19)."""
        translated = self.translated(program)
        with program.where(*translated):
            self._number(program, style, self.fields["nat_port"])
        with program.where(*translated, other=True):
            self._constant(program, style, None)

    def _nat_address(self, program: RowProgram, style: Style) -> None:
        """The service's address of a DSR entry."""
        translated = self.translated(program)
        with program.where(*translated):
            self.put_nat_octets(program, style)
        with program.where(*translated, other=True):
            self._constant(program, style, None)

    def put_nat_octets(self, program: RowProgram, style: Style, matrix: int = 1) -> None:
        """The service's address of a value that has one; IPv4 stands in the last or the first four of its bytes."""

        def octets(at: int, width: int) -> Field:
            return Field(matrix, at, width)

        def kind(to: Field) -> None:
            program.test(to, octets(0, 8), ALL, 0)
            program.test(to, octets(8, 4), ALL, 0, bit=1)
            program.test(to, octets(4, 4), ALL, 0, bit=2)
            program.test(to, octets(8, 8), ALL, 0, bit=3)

        where = program.number(("nat kind", matrix), kind)
        start, end = quotes(style, quoted=False)
        with program.where(where, 3, 3):
            program.literal(start).address(octets(12, 4)).literal(end)
        with program.where(where, 3, 3, other=True):
            with program.where(where, 12, 12):
                program.literal(start).address(octets(0, 4)).literal(end)
            with program.where(where, 12, 12, other=True):
                start, end = quotes(style)
                program.literal(start).address(octets(0, 16), PLAIN_IPV6).literal(end)

    def _raw(self, part: str, program: RowProgram, style: Style) -> None:
        if not self.table.raw:
            self._constant(program, style, None)
            return
        start, end = quotes(style)
        program.literal(start).raw(self.fields[part]).literal(end)


def _ignore(_program: RowProgram) -> None:
    return None


def _in_brackets(name: str | None) -> bytes:
    return encode(Style.TEXT, None, f" ({name})") if name is not None else b""


def _state_words(number: int, *, timed: bool) -> tuple[str, str]:
    """What stands before and behind the time of ``EntryFacts.state_number``."""
    related, expired = bool(number >> RELATED_BIT & 1), bool(number >> EXPIRED_BIT & 1)
    return state_words(state_of(number & STATE_FLAGS), related=related, expired=expired if timed else None)


_STYLES = {CtState.NEW: "36", CtState.ESTABLISHED: "32", CtState.CLOSING: "33", CtState.CLOSED: "2"}


def _style(number: int) -> str:
    return f"\033[{'2;31' if number >> EXPIRED_BIT & 1 else _STYLES[state_of(number & STATE_FLAGS)]}m"


_SPECIAL: dict[str, Callable[[EntryForm, RowProgram, Style], None]] = {
    "map": EntryForm._map,
    "node": EntryForm._node,
    "proto": EntryForm._proto,
    "proto_name": lambda form, *args: form._coded("proto_name", "proto", protocol_word, *args),
    "direction": lambda form, *args: form._coded("direction", "tuple_flags", direction_of, *args),
    "related": lambda form, *args: form._coded("related", "tuple_flags", lambda n: bool(n & TUPLE_RELATED), *args),
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
    "flags": lambda form, *args: form._hex("flags", 4, *args),
    "flag_names": EntryForm._flag_names,
    "other_bits": lambda form, *args: form._coded("other_bits", "flags", other_bits, *args),
    "tx_flags_seen": lambda form, *args: form._hex("tx_flags_seen", 2, *args),
    "rx_flags_seen": lambda form, *args: form._hex("rx_flags_seen", 2, *args),
    "backend_id": lambda form, *args: form._shared("backend_id", *args),
    "rx_bytes": lambda form, *args: form._shared("rx_bytes", *args),
    "rev_nat": EntryForm._rev_nat,
    "backend": EntryForm._backend,
    "src_sec_id": EntryForm._identity,
    "src_identity": EntryForm._identity_name,
    "nat_addr": EntryForm._nat_address,
    "nat_port": EntryForm._nat_port,
    "key_hex": lambda form, *args: form._raw("key", *args),
    "value_hex": lambda form, *args: form._raw("value", *args),
}
