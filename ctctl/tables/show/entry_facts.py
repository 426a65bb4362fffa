"""What a row program makes of an entry before its text: times, states, what counts, and which name it has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ctctl._ffi.rows import Field
from ctctl.decode.columns import fields_of
from ctctl.decode.ct import LAYOUT_LACKS, TUPLE_IN, TUPLE_RELATED, TUPLE_SERVICE
from ctctl.model.entry import CtFlags
from ctctl.out.rowtext import ALL, RowProgram
from ctctl.tables.show.lookup import KnownAddresses, KnownNumbers
from ctctl.tables.sources.base import CtTable

#: Bits of ``state_number`` beside those of the flags that make the state word.
STATE_FLAGS = int(CtFlags.RxClosing | CtFlags.TxClosing | CtFlags.SeenNonSyn)
RELATED_BIT, EXPIRED_BIT = 6, 7

#: Fields whose text is the number as it lies in the table, and where.
NUMBERS = {
    "proto": "proto",
    "src_port": "src_port",
    "dst_port": "dst_port",
    "lifetime": "lifetime",
    "flags": "flags",
    "backend_id": "word8",
    "packets": "word16",
    "bytes": "word24",
    "rx_packets": "word0",
    "rx_bytes": "word8",
    "tx_packets": "word16",
    "tx_bytes": "word24",
    "rev_nat": "rev_nat",
    "ifindex": "ifindex",
    "tx_flags_seen": "tx_flags_seen",
    "rx_flags_seen": "rx_flags_seen",
    "src_sec_id": "src_sec_id",
    "last_tx_report": "last_tx_report",
    "last_rx_report": "last_rx_report",
    "tuple_flags": "tuple_flags",
}
COUNTERS = ("packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes")

#: A condition that a row program tests: field, mask and what the field is then.
Condition = tuple[Field, int, int]


class EntryFacts:
    """Facts of one table's rows. ``names``: of addresses, ``backend N``, ``identity N`` and ``rev-nat N``."""

    def __init__(self, table: CtTable, names: Mapping[str, str] | None = None) -> None:
        self.table = table
        self.names = names or {}
        self.fields = fields_of(table.family)
        self.lacks = LAYOUT_LACKS[table.layout] | table.absent

    @cached_property
    def addresses(self) -> KnownAddresses:
        """Those that have names."""
        return KnownAddresses(self.names, self.table.family)

    @cached_property
    def backends(self) -> KnownNumbers:
        """Those that have names."""
        return KnownNumbers(self.names, "backend", 8)

    @cached_property
    def identities(self) -> KnownNumbers:
        """Those that have names."""
        return KnownNumbers(self.names, "identity", 4)

    def remaining(self, program: RowProgram) -> Field:
        """Seconds until expiry of each row."""
        clock, now = self.table.clock, self.table.now or 0
        lifetime = self.fields["lifetime"]
        return program.number("remaining", lambda to: program.seconds(to, lifetime, clock.hz, clock.seconds(now)))

    def expired(self, program: RowProgram) -> Field:
        """1 in rows that have expired."""
        return program.number("expired", lambda to: program.below(to, self.fields["lifetime"], self.table.now or 0))

    def last_report(self, program: RowProgram) -> Field:
        """The later of the report times."""

        def make(to: Field) -> None:
            program.greatest(to, self.fields["last_tx_report"])
            program.greatest(to, self.fields["last_rx_report"])

        return program.number("last report", make)

    def idle(self, program: RowProgram) -> Field:
        """Seconds since the last report."""
        clock, now, last = self.table.clock, self.table.now or 0, self.last_report(program)
        return program.number("idle", lambda to: program.seconds(to, last, clock.hz, clock.seconds(now), passed=True))

    def state_number(self, program: RowProgram) -> Field:
        """The flag bits that make the state word, ``RELATED_BIT``, ``EXPIRED_BIT``."""

        def make(to: Field) -> None:
            program.take(to, self.fields["flags"], STATE_FLAGS)
            program.test(to, self.fields["tuple_flags"], TUPLE_RELATED, TUPLE_RELATED, bit=RELATED_BIT)
            if self.table.now is not None:
                program.below(to, self.fields["lifetime"], self.table.now, bit=EXPIRED_BIT)

        return program.number("state", make)

    def counted(self, program: RowProgram) -> Condition:
        """Which entries count packets: each was made by one, so one that counts has one at least."""

        def make(to: Field) -> None:
            for word in ("word0", "word16") if self.table.layout.split_counters else ("word16",):
                program.take(to, self.fields[word])

        return program.number("counted", make), ALL, 0

    def translated(self, program: RowProgram) -> Condition:
        """Which entries hold a service's address and port in place of a backend (1.19, DSR): all bits are set."""

        def make(to: Field) -> None:
            if not self.table.layout.has_nat:
                return
            outgoing, dsr = TUPLE_SERVICE | TUPLE_IN, int(CtFlags.DSRInternal)
            program.test(to, self.fields["tuple_flags"], outgoing, 0)
            program.test(to, self.fields["flags"], dsr, dsr, bit=1)
            for word in ("word0", "word8"):
                program.test(to, self.fields[word], ALL, 0, bit=2, other=True)

        return program.number("translated", make), 7, 7

    def name_place(self, program: RowProgram, side: str) -> Field:
        """Which of the names each row's address has, from 1; 0: none."""
        return program.number(f"{side} name", lambda to: program.find(to, self.fields[side], self.addresses.keys))

    def backend_place(self, program: RowProgram) -> Field:
        """Which of the names the number that may be a backend has, from 1; 0: none."""
        return program.number("backend", lambda to: program.find(to, self.fields["word8"], self.backends.keys))

    def identity_place(self, program: RowProgram) -> Field:
        """Which of the names each row's identity has, from 1; 0: none."""
        return program.number("identity", lambda to: program.find(to, self.fields["src_sec_id"], self.identities.keys))
