"""What a dump turned out to hold, collected record by record in compact form."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctctl._ffi.lines import kept_keys
from ctctl.abi import pins
from ctctl.abi.constants import CT_ENTRY_LAST_TX_REPORT
from ctctl.config.allowance import allowance
from ctctl.decode.ct import KEY_SIZE, VALUE_SIZE
from ctctl.errors import DecodeError
from ctctl.model.clock import Clock
from ctctl.model.entry import Layout
from ctctl.tables.sources.base import CtTable
from ctctl.tables.sources.clocks import Shown, Told, told_by
from ctctl.tables.sources.facts import NodeFacts
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.stream import nothing_spent

if TYPE_CHECKING:
    from ctctl.decode.columns import Matrix
    from ctctl.tables.sources.base import Rows

#: Records of one dump at most: 94 bytes each, so that a hostile one cannot take all memory.
MAX_RECORDS = 8_000_000
#: Machines that one file may have listings of, how long their names are, and what each costs.
MAX_HOSTS, MAX_NAME, _HOST_WORK = 500, 253, 4000
#: What a record costs that was recognised and is none.
_LOSS_WORK = 60
_BATCH = 16384
#: so many records and more are merged in one pass
_MANY = 4096
#: a table of so many records is kept as matrices too
_KEPT = 256
_PAIRS = 512
#: where a value has its two report times
_REPORTS = struct.Struct("<II")
_REPORTS_AT = CT_ENTRY_LAST_TX_REPORT
#: no clock of a machine gets here
_NO_TIME = 0xFFFFFF00


def host_work() -> int:
    """What another machine of a file costs, with what is done with each once it is read."""
    return _HOST_WORK + allowance().a_node


@dataclass(slots=True)
class Collected:
    """One table of a dump. ``shown`` is a sample of what lines with ``--time-diff`` say about the time.

    ``newest`` is the newest report of any entry: the table was read then or later.
    """

    name: str
    family: int
    layout: Layout = Layout.V1_16
    evidence: str = "assumed"
    raw: bool = True
    absent: frozenset[str] = frozenset()
    keys: bytearray = field(default_factory=bytearray)
    values: bytearray = field(default_factory=bytearray)
    shown: list[Shown] = field(default_factory=list)
    newest: int = 0
    known: set[bytes] | None = None
    #: clock and now of a listing that has a time of its own, whatever stands beside it
    time: tuple[Clock, int] | None = None
    #: of entries by number: ports as text shows them (``ct_text.settle_dsr``)
    nat_ports: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values) // VALUE_SIZE

    def alike(self, layout: Layout) -> bool:
        """Whether a record of the layout may be of this table beside those that are in it."""
        return not len(self) or self.layout is layout or (self.layout.split_counters and layout.split_counters)

    def describe(self, layout: Layout, evidence: str, *, raw: bool) -> None:
        """Take what a record shows. Raises DecodeError for one of another layout than the first."""
        if not self.alike(layout):
            raise OtherVersionError(f"an entry of layout {layout} in a listing of {self.layout}")
        if not len(self):
            self.layout, self.evidence, self.raw = layout, evidence, raw
        elif self.layout is not layout:
            self.layout = Layout.V1_14 if Layout.V1_14 in (self.layout, layout) else layout

    def add(self, key: bytes, value: bytes) -> None:
        """One record. Raises DecodeError on sizes that do not fit, or too many of them."""
        if len(key) != KEY_SIZE[self.family] or len(value) != VALUE_SIZE:
            raise DecodeError(f"{self.name}: key of {len(key)} and value of {len(value)} bytes")
        if len(self.keys) >= MAX_RECORDS * len(key):
            raise DecodeError(f"{self.name}: more than {MAX_RECORDS} entries")
        self.keys += key
        self.values += value
        first, second = _REPORTS.unpack_from(value, _REPORTS_AT)
        self.newest = max(self.newest, first if first < _NO_TIME else 0, second if second < _NO_TIME else 0)

    def add_many(self, keys: Matrix, values: Matrix) -> None:
        """Records beside each other, of the sizes of the table's. Raises DecodeError for too many of them."""
        if len(self) + len(keys) > MAX_RECORDS:
            raise DecodeError(f"{self.name}: more than {MAX_RECORDS} entries")
        self.keys += keys.tobytes()
        self.values += values.tobytes()
        reports = values[:, _REPORTS_AT : _REPORTS_AT + _REPORTS.size].copy().view("<u4")
        self.newest = max(self.newest, int(reports[reports < _NO_TIME].max(initial=0)))

    @property
    def room_to_show(self) -> int:
        """How many more lines are worth a ``show``."""
        return _PAIRS - len(self.shown)

    def show(self, lifetime: int, remaining: int, report: int) -> None:
        """Remember what a line with ``--time-diff`` shows, and its own last report."""
        if self.room_to_show > 0:
            self.shown.append(Shown(lifetime, remaining, report))

    def merge(self, other: Collected) -> None:
        """Add the records of another dump of the same table; those with a key that is there stay."""
        if other.family != self.family:
            raise DecodeError(f"{self.name}: entries of both families in one table")
        before = len(self)
        if len(other) >= max(_MANY, before >> 2):
            self._merge_many(other)
        else:
            self._merge_few(other)
        self.shown += other.shown[: _PAIRS - len(self.shown)]
        self.newest = max(self.newest, other.newest)
        self.time = self.time or other.time
        if len(self) > before or not before:
            self.raw = (self.raw or not before) and other.raw
            self.absent = other.absent | (self.absent if before else frozenset())
        if self.evidence == "assumed":
            self.layout, self.evidence = other.layout, other.evidence
        elif Layout.V1_14 is other.layout and self.layout.split_counters:
            self.layout = other.layout

    def go_on_with(self, other: Collected) -> None:
        """Add what follows in the same listing: of each key the last one counts. Raises DecodeError."""
        if other.family != self.family:
            raise DecodeError(f"{self.name}: entries of both families in one table")
        if len(self) + len(other) > MAX_RECORDS:
            raise DecodeError(f"{self.name}: more than {MAX_RECORDS} entries")
        before, self.known = len(self), None
        if len(other):
            self.describe(other.layout, other.evidence, raw=other.raw)
            self.raw = self.raw and other.raw
        self.nat_ports += [(before + index, ports) for index, ports in other.nat_ports]
        self.keys += other.keys
        self.values += other.values
        self.shown += other.shown[: self.room_to_show]
        self.newest = max(self.newest, other.newest)
        self.time = self.time or other.time
        self.absent |= other.absent

    def _merge_few(self, other: Collected) -> None:
        """What is kept of the keys makes it cheap: many small dumps may be of one table."""
        size = KEY_SIZE[self.family]
        if self.known is None:
            self.known = {bytes(self.keys[at : at + size]) for at in range(0, len(self.keys), size)}
        ports = dict(other.nat_ports)
        for index in range(len(other)):
            key = bytes(other.keys[index * size : (index + 1) * size])
            if key not in self.known:
                self.known.add(key)
                if index in ports:
                    self.nat_ports.append((len(self), ports[index]))
                self.add(key, bytes(other.values[index * VALUE_SIZE : (index + 1) * VALUE_SIZE]))

    def _merge_many(self, other: Collected) -> None:
        """The same in one pass over both."""
        import numpy as np

        size, before = KEY_SIZE[self.family], len(self)
        self.known = None
        keep, _ = kept_keys(self.keys + other.keys, size, last=False)
        new = np.flatnonzero(np.frombuffer(keep, np.uint8)[before:])
        too_many, new = len(new) > MAX_RECORDS - before, new[: MAX_RECORDS - before]
        if other.nat_ports:
            numbers, ports = np.array(other.nat_ports).T
            found = np.isin(numbers, new)
            places = before + np.searchsorted(new, numbers[found])
            self.nat_ports += zip(places.tolist(), ports[found].tolist(), strict=True)
        self.keys += np.frombuffer(other.keys, np.uint8).reshape(-1, size)[new].tobytes()
        self.values += np.frombuffer(other.values, np.uint8).reshape(-1, VALUE_SIZE)[new].tobytes()
        if too_many:
            raise DecodeError(f"{self.name}: more than {MAX_RECORDS} entries")

    def reader(self) -> Callable[[], Iterator[Rows]]:
        """``rows`` for as often as it is asked. A small table is made ready once: a source may have thousands."""
        kept: list[Rows] = []

        def read() -> Iterator[Rows]:
            if len(self) > _KEPT:
                return self.rows()
            if not kept:
                kept.extend(self.rows())
            return iter(kept)

        return read

    def rows(self) -> Iterator[Rows]:
        """The records as matrices of up to 16384 rows, of each key the last one."""
        import numpy as np

        size, count = KEY_SIZE[self.family], len(self)
        keep, kept = kept_keys(self.keys, size, last=True)
        for start in range(0, count, _BATCH):
            end = min(start + _BATCH, count)
            keys = np.frombuffer(bytes(self.keys[start * size : end * size]), np.uint8).reshape(-1, size)
            values = np.frombuffer(bytes(self.values[start * VALUE_SIZE : end * VALUE_SIZE]), np.uint8)
            rows = keys, values.reshape(-1, VALUE_SIZE)
            if kept < count:
                here = np.frombuffer(keep, np.bool_)[start:end]
                rows = rows[0][here], rows[1][here]
            if len(rows[0]):
                yield rows

    def told(self, clock: Clock | None) -> Told:
        """What the lines say about clock and time; ``clock`` is known from elsewhere."""
        if self.time is not None:
            return Told(*self.time, proven=True)
        return told_by(self.shown, clock)

    def table(self, node: str | None) -> CtTable:
        """As a source's table, without clock and time."""
        return CtTable(
            name=self.name,
            family=self.family,
            layout=self.layout,
            read=self.reader(),
            layout_evidence=self.evidence,
            node=node,
            absent=self.absent,
            raw=self.raw,
            count=len(self),
            stays=len(self) <= _KEPT,
        )


class OtherVersionError(DecodeError):
    """A record of a version that the records of its table before it are not of."""


@dataclass(slots=True)
class _Lost:
    count: int = 0
    first: str = ""


@dataclass(slots=True)
class Dump:
    """Everything one file (or all files of one node in an archive) holds.

    ``kinds`` are the forms that were recognised. ``partial`` is what is missing, by name; ``skipped``
    counts lines between the records that are no listing, which is nothing missing.
    """

    kinds: dict[str, None] = field(default_factory=dict)
    tables: dict[str, Collected] = field(default_factory=dict)
    listings: Listings = field(default_factory=Listings)
    facts: NodeFacts = field(default_factory=NodeFacts)
    clock: Clock | None = None
    now: int | None = None
    partial: list[str] = field(default_factory=list)
    #: the file itself is cut off or damaged, whatever it was
    broken: bool = False
    skipped: int = 0
    skipped_first: str = ""
    #: whether there are records of a map that nothing is known of
    unknown_map: bool = False
    parts: list[Listings] = field(default_factory=list)
    #: names of pinned maps that were dumped, be they of a kind that is read or not
    pins: dict[str, None] = field(default_factory=dict)
    #: files with names of pods, services and nodes as they are (``names_files.is_wanted``)
    documents: list[bytes] = field(default_factory=list)
    lost: dict[str, _Lost] = field(default_factory=dict)
    losses: int = 0
    #: what follows is not worth reading
    ended: bool = False
    #: the machine that the file itself names, and what it holds of other ones
    host: str | None = None
    others: dict[str, Dump] = field(default_factory=dict)
    #: is told the work of a machine more
    spend: Callable[[int], None] = nothing_spent

    def of_host(self, host: str | None) -> Dump:
        """What the file holds of a machine that it names."""
        if host is None or host == self.host:
            self.parts.append(self.listings)  # the same listing may come again
            self.listings = Listings()
            return self
        again = self.others.get(host)
        return again.of_host(host) if again is not None else self.others.setdefault(host, Dump(host=host))

    def of_node(self, node: object) -> Dump:
        """What a file's own records that name a node belong to. Raises DecodeError for what is no name."""
        if node is None or node == self.host:
            return self
        if not isinstance(node, str) or not 0 < len(node) <= MAX_NAME:
            raise DecodeError(f"{str(node)[:40]!r} is no name of a node")
        if self.host is None and not self.tables:
            self.host = node
            return self
        part = self.others.get(node)
        if part is None:
            if len(self.others) >= MAX_HOSTS:
                raise DecodeError(f"records of more than {MAX_HOSTS} nodes in one file")
            self.spend(host_work())
            part = self.others[node] = Dump(host=node, kinds=dict(self.kinds), clock=self.clock, now=self.now)
        return part

    def settle_hosts(self) -> None:
        """Keep of other machines what was found; where that is all there is, it is this dump's own."""
        for part in [*self.others.values()]:  # records in a part of the file may name nodes too
            for name, inner in part.others.items():
                known = self.others.setdefault(name, inner)
                if known is not inner:
                    known.merge(inner)
            part.others = {}
        self.others = {name: part for name, part in self.others.items() if part.kinds}
        for part in (self, *self.others.values()):
            part.join()
        if not self.kinds and self.others:
            self.host, first = next(iter(self.others.items()))
            del self.others[self.host]
            self.merge(first)
            self.join()

    def by_host(self, node: str | None) -> dict[str | None, Dump]:
        """The dumps of a file by node: ``node`` where it names no more than one machine."""
        if not self.others:
            return {node: self}
        others, self.others = self.others, {}
        if self.host is not None and (again := others.pop(self.host, None)) is not None:
            self.merge(again)
        found: dict[str | None, Dump] = {self.host: self}
        found.update(others)
        return found

    @property
    def kind(self) -> str:
        """The first form that was recognised, empty for none."""
        return next(iter(self.kinds), "")

    def found(self, kind: str) -> None:
        """Note that a form was recognised."""
        self.kinds[kind] = None

    def table(self, name: str, family: int) -> Collected:
        """The table of this name, made when it is first asked for. Raises DecodeError for one of the other family."""
        if name not in self.tables:
            self.tables[name] = Collected(name, family)
        if self.tables[name].family != family:
            raise DecodeError(f"{name}: entries of both families in one table")
        return self.tables[name]

    def table_for(self, count: int, name: str, family: int) -> Collected | None:
        """The table of so many records that are read at once. None: they are of the other family, and lost."""
        try:
            return self.table(name, family)
        except DecodeError as error:
            for _ in range(count):
                self.lose("record(s)", str(error))
            return None

    def add_described(self, name: str, family: int, layout: Layout, keys: Matrix, values: Matrix) -> None:
        """Records whose own fields say their layout, as they lay. Those of another than their table's are lost."""
        table = self.table_for(len(keys), name, family)
        if table is None:
            return
        try:
            table.describe(layout, "the records' fields", raw=True)
        except DecodeError as error:
            for _ in range(len(keys)):
                self.lose("record(s)", str(error))
            return
        table.add_many(keys, values)

    def lose(self, what: str, first: str, why: str = "that are no entry") -> None:
        """Count a record that was recognised and could not be understood; ``what`` is the listing it is of."""
        self.spend(_LOSS_WORK)
        lost = self.lost.setdefault(f"{what} {why}", _Lost())
        lost.count += 1
        self.losses += 1
        lost.first = lost.first or first

    def say(self, text: str) -> None:
        """Note once what is missing."""
        if text not in self.partial:
            self.partial.append(text)

    def skip(self, line: str) -> None:
        """Count a line that is of no listing."""
        self.skipped += 1
        self.skipped_first = self.skipped_first or line

    def settle(self) -> None:
        """Say what was lost, once the file is read."""
        for what, lost in self.lost.items():
            self.partial.append(f"{lost.count} {what}, the first: {lost.first[:80]!r}")
        self.lost = {}

    def merge(self, other: Dump) -> None:
        """Add another dump of the same node. Its listings count once ``join`` was called."""
        for name, theirs in other.tables.items():
            mine = self.tables.setdefault(name, theirs)
            if mine is not theirs:
                try:
                    mine.merge(theirs)
                except DecodeError as error:
                    self.partial.append(str(error))
        self.parts += [other.listings, *other.parts]
        self.facts.merge(other.facts)
        self.clock = self.clock or other.clock
        self.now = self.now if self.now is not None else other.now
        self.partial += [text for text in other.partial if text not in self.partial]
        self.kinds.update(other.kinds)
        self.documents += other.documents
        self.pins.update(other.pins)
        self.skipped += other.skipped
        self.unknown_map |= other.unknown_map
        self.skipped_first = self.skipped_first or other.skipped_first

    def join(self, *, again: bool = False) -> None:
        """Make one of the listings of everything merged: all at once, for there may be thousands.

        ``again``: one file may have the same listing twice.
        """
        if self.parts or again:
            self.listings = Listings.joined([self.listings, *self.parts])
            self.parts = []

    def ordered(self) -> list[Collected]:
        """The tables in the order the Cilium CLI lists them."""
        order = {name: index for index, name in enumerate(pins.CT_TABLES)}
        return sorted(self.tables.values(), key=lambda table: (order.get(table.name, len(order)), table.name))
