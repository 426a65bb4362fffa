"""Parts of a file that are kept apart until it is known whether the names above them are those of machines."""

from __future__ import annotations

from collections.abc import Callable

from ctctl.errors import DecodeError
from ctctl.tables.sources.dump import Dump, host_work
from ctctl.tables.sources.hosts import Hosts
from ctctl.tables.sources.names_alone import NamesAlone


class Apart:
    """Such parts of ``dump``. ``first``: whose its lines are before the first of them."""

    def __init__(self, dump: Dump, first: Hosts, spend: Callable[[int], None]) -> None:
        self._dump = dump
        self._first = first
        self._spend = spend
        self._parts: list[tuple[Dump, Dump]] = []
        self.names = NamesAlone()

    def __len__(self) -> int:
        return len(self._parts)

    def part(self, name: str | None, before: Dump) -> Dump:
        """What follows in the file below a name, behind what is in ``before``."""
        part = Dump(host=name, spend=self._spend)
        self._parts.append((before, part))
        self._spend(host_work())
        return part

    def settle(self) -> None:
        """Make of them nodes, or of each what it follows, and say it where that is not known."""
        dump, machines, joined = self._dump, self.names.are_machines, False
        if self._first.alone:
            dump.host = dump.host or (self._first.name if machines else self._first.under)
        for before, part in self._parts if machines else reversed(self._parts):
            if not machines and _may_be_one(before, part):
                _go_on(before, part)
                joined = True
            elif part.host == dump.host or part.host is None:
                _go_on(dump, part)
            elif (known := dump.others.setdefault(part.host, part)) is not part:
                _go_on(known, part)
        if (line := self.names.doubt(joined=joined)) is not None:
            dump.say(
                f"{line.strip()[:80]!r} between listings may name another machine: shown as one node's; if it does,"
                " give each a file"
            )


def _may_be_one(before: Dump, part: Dump) -> bool:
    """Whether what follows may be of the same node, by the layout of its entries."""
    mine = before.tables
    return all(name not in mine or mine[name].alike(theirs.layout) for name, theirs in part.tables.items())


def _go_on(before: Dump, part: Dump) -> None:
    """Add what follows in the same file and is of the same node."""
    tables, part.tables = part.tables, {}
    for name, theirs in tables.items():
        mine = before.tables.setdefault(name, theirs)
        if mine is not theirs:
            try:
                mine.go_on_with(theirs)
            except DecodeError as error:
                before.say(str(error))
    part.settle()
    before.merge(part)
    before.broken |= part.broken
    before.ended |= part.ended
    for host, other in part.others.items():
        known = before.others.setdefault(host, other)
        if known is not other:
            _go_on(known, other)
