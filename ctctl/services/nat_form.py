"""SNAT entries as lines in every format, by row programs: what ``nat_view`` says, from a table's bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar

from ctctl._ffi.rows import Field
from ctctl.decode.ct import TUPLE_IN, TUPLE_RELATED
from ctctl.decode.nat_rows import AGE, nat_fields
from ctctl.model.clock import Clock
from ctctl.model.tuples import Direction, protocol_name
from ctctl.out.rowtables import TextTable
from ctctl.out.rowtext import ALL, RowProgram
from ctctl.tables.show.encode import Style, encode
from ctctl.tables.show.lookup import KnownAddresses
from ctctl.tables.show.shared_texts import PLAIN_IPV6, quotes

_SIGN = 1 << 63
#: Keys of a record, in order (``nat_record``).
RECORD = (
    *("map", "proto", "proto_name", "direction", "related", "src", "src_port", "dst", "dst_port"),
    *("xlate", "to_addr", "to_port", "created", "age", "needs_ct", "key_hex"),
)


class NatForm:
    """The fields of one SNAT table's entries as text. ``now`` turns the time of creation into an age.

    ``absent``: fields that a listing does not show; one that does not show the time of creation has ages.
    """

    #: fields that are an address and port
    ENDS = ("source", "destination", "to")
    #: what stands for them where there is little room: the name instead of the address, if there is one
    SHORT: ClassVar = {f"{name}_short": name for name in ENDS}
    #: fields that are numbers
    NUMBERS = ("proto", "src_port", "dst_port", "to_port", "created", "needs_ct")

    def __init__(
        self,
        name: str,
        family: int,
        names: Mapping[str, str],
        clock: Clock,
        now: int | None,
        *,
        absent: Collection[str] = (),
    ) -> None:
        self.name = name
        self.family = family
        self.clock = clock
        self.now = now
        self.has_ages = "created" in absent
        #: fields that no entry has
        self.absent = frozenset(absent) | ({"age"} if now is None and not self.has_ages else set())
        self.addresses = KnownAddresses(names, family)
        fields = nat_fields(family)
        self._ends = {
            "source": (fields["src"], fields["src_port"]),
            "destination": (fields["dst"], fields["dst_port"]),
            "to": (fields["to_addr"], fields["to_port"]),
        }
        self.numbers = {name: fields[name] for name in self.NUMBERS}
        self.addresses_of = {name: fields[name] for name in ("src", "dst", "to_addr")}
        self._proto, self._flags, self._key = fields["proto"], fields["tuple_flags"], fields["key"]

    def put(self, program: RowProgram, name: str, style: Style) -> None:
        """Add a field's value."""
        start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
        if name in self.absent:
            program.literal(encode(style, None))
        elif name == "map":
            program.literal(encode(style, self.name))
        elif name == "age":
            self._age(program, style)
        elif name == "key_hex":
            before, behind = quotes(style)
            program.literal(before).raw(self._key).literal(behind)
        elif name in self._ends:
            self._end(program, name, style)
        elif name in self.SHORT:
            self._short_end(program, self.SHORT[name])
        elif name in self.addresses_of:
            before, behind = quotes(style, quoted=self.family == 6)
            program.literal(before).address(self.addresses_of[name], PLAIN_IPV6).literal(behind)
        elif name in self.NUMBERS and (name != "proto" or style is not Style.TEXT):
            program.literal(start).decimal(self.numbers[name]).literal(end)
        elif name in ("proto", "proto_name"):
            program.text(self._proto, TextTable(lambda n: encode(style, protocol_name(n)), 256))
        else:
            value = _BY_FLAGS[name]
            program.text(self._flags, TextTable(lambda n: encode(style, value(n)), 256))

    def _end(self, program: RowProgram, name: str, style: Style) -> None:
        """``10.0.0.1:80``, for people with the name behind it."""
        (octets, _port), (before, behind) = self._ends[name], quotes(style)
        self.end(program.literal(before), name)
        if style is Style.TEXT and self.addresses.names:
            place = program.number(f"{name} name", lambda to: program.find(to, octets, self.addresses.keys))
            names = self.addresses.names
            program.text(place, TextTable.of([b"", *(encode(style, None, f" ({one})") for one in names)]))
        program.literal(behind)

    def _short_end(self, program: RowProgram, name: str) -> None:
        """``ns/pod:80`` for people where the name is known, else ``10.0.0.1:80``."""
        if not self.addresses.names:
            self.end(program, name)
            return
        octets, port = self._ends[name]
        names = TextTable.of([b"", *(encode(Style.TEXT, one) for one in self.addresses.names)])
        place = program.number(f"{name} name", lambda to: program.find(to, octets, self.addresses.keys))
        with program.where(place, ALL, 0, other=True):
            program.text(place, names).literal(b":").decimal(port)
        with program.where(place, ALL, 0):
            self.end(program, name)

    def end(self, program: RowProgram, name: str) -> None:
        """Address and port."""
        octets, port = self._ends[name]
        before, between = (b"[", b"]:") if self.family == 6 else (b"", b":")
        program.literal(before).address(octets, PLAIN_IPV6).literal(between).decimal(port)

    def plain(self, program: RowProgram, name: str) -> None:
        """A field's words without names of addresses: what it is sorted by."""
        if name in self._ends:
            self.end(program, name)
        else:
            self.put(program, name, Style.TEXT)

    def related(self, program: RowProgram) -> Field:
        """Whether an entry is of an ICMP error: 0 or 1."""
        return program.number("related", lambda to: program.test(to, self._flags, TUPLE_RELATED, TUPLE_RELATED))

    def age(self, program: RowProgram) -> Field:
        """Seconds since an entry was made."""
        if self.has_ages:
            return AGE
        created, clock, now = self.numbers["created"], self.clock, self.now or 0
        return program.number("age", lambda to: program.seconds(to, created, clock.hz, clock.seconds(now), passed=True))

    def _age(self, program: RowProgram, style: Style) -> None:
        age = self.age(program)
        if style is Style.TEXT:
            with program.where(age, _SIGN, _SIGN):
                program.literal(b"-")
            program.duration(age, 4)
        else:
            start, end = (b" ", b"\n") if style is Style.YAML else (b"", b"")
            program.literal(start).signed(age).literal(end)

    # ---- lines

    def fields(self, names: Sequence[str], style: Style, around: tuple[str, str, str], label: str = "") -> RowProgram:
        """A line of fields; ``around`` it and between them, ``label`` with {} for the field's name before each."""
        start, between, end = around
        program = RowProgram()
        for index, name in enumerate(names):
            program.literal(f"{between if index else start}{label.format(name)}".encode())
            self.put(program, name, style)
        return program.literal(end.encode())

    def name_line(self) -> RowProgram:
        """What ``str`` of an entry is."""
        program = RowProgram()
        self.put(program, "proto_name", Style.TEXT)
        for before, name in ((b" ", "source"), (b" -> ", "destination")):
            self.end(program.literal(before), name)
        self.put(program.literal(b" XLATE_"), "xlate", Style.CSV)
        self.end(program.literal(b" "), "to")
        return program.literal(b"\n")

    def cilium_line(self) -> RowProgram:
        """The Cilium CLI's line; protocol 0 has none."""
        program = RowProgram()
        with program.where(self._proto, 0xFF, 0, other=True):
            self.put(program, "proto_name", Style.TEXT)
            self.put(program.literal(b" "), "direction", Style.CSV)
            for before, name in ((b" ", "source"), (b" -> ", "destination")):
                self.end(program.literal(before), name)
            program.text(self._flags, TextTable(lambda n: b" related" if n & TUPLE_RELATED else b"", 256))
            self.put(program.literal(b" XLATE_"), "xlate", Style.CSV)
            self.end(program.literal(b" "), "to")
            program.literal(b" Created=")
            if "age" in self.absent:
                program.literal(b"0")
            else:
                program.signed(self.age(program))
            program.literal(b"sec ago NeedsCT=")
            if "needs_ct" in self.absent:
                program.literal(b"0\n")
            else:
                program.decimal(self.numbers["needs_ct"]).literal(b"\n")
        return program


_BY_FLAGS: dict[str, Callable[[int], object]] = {
    "direction": lambda n: Direction.IN if n & TUPLE_IN else Direction.OUT,
    "xlate": lambda n: "DST" if n & TUPLE_IN else "SRC",
    "related": lambda n: bool(n & TUPLE_RELATED),
}
