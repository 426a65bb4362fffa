"""Service entries of a backend, also of one that is gone: its id is all that they have of it.

While the backend is in its table, the table tells the id. Afterwards the connections do that it was chosen
for: an OUT entry of the same client port and rev-NAT index has the backend's address as its destination.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from ctctl.errors import NotFoundError, UsageError
from ctctl.model.entry import CtEntry
from ctctl.model.tuples import Address, Direction
from ctctl.model.units import decimal
from ctctl.tables.names import book_of
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import Source


def entries_of_backend(source: Source, text: str) -> tuple[Filter, str]:
    """The filter for the service entries of a backend (address, name or id), and what is known of it in words.

    Raises UsageError for what is none of them, NotFoundError where no service entry uses it.
    """
    nodes: list[str | None] = [*source.nodes()] or [None]
    ends = {node: frozenset[Address]() for node in nodes} if decimal(text) is not None else _ends(source, nodes, text)
    found = {node: _found(source, node, text, ends[node]) for node in nodes}
    if not any(one.ids for one in found.values()):
        raise NotFoundError(f"no service entry uses a backend at {text} (ctctl lb list --backends shows what there is)")
    # Each node gives its backends numbers of its own.
    several = len(nodes) > 1
    chosen = [
        (f'node == "{node}" and ' if several else "") + f"backend_id in ({one.numbers})"
        for node, one in found.items()
        if one.ids
    ]
    known = [(f"{node}: " if several else "") + one.words(text) for node, one in found.items() if one.ids]
    return Filter.parse(f"svc and ({' or '.join(f'({part})' for part in chosen)})"), "; ".join(known)


class _Found(NamedTuple):
    """A backend's numbers at a node, and those of them that its table has; None: nothing shows that table."""

    ids: set[int]
    there: list[int] | None

    @property
    def numbers(self) -> str:
        return ", ".join(map(str, sorted(self.ids)))

    def words(self, text: str) -> str:
        """What is known of the backend that was asked for."""
        some = f"id{'' if len(self.ids) == 1 else 's'} {self.numbers}"
        name = f"backend {self.numbers}" if decimal(text) is not None else f"backend {text} ({some})"
        if self.there is None:
            return f"{name}: the source does not show the backend table, so it may be gone or not"
        if not self.there:
            return f"{name} is not in the backend table: it is gone"
        only = f" as {', '.join(map(str, self.there))}" if set(self.there) != self.ids else ""
        return f"{name} is still in the backend table{only}"


def _found(source: Source, node: str | None, text: str, ends: frozenset[Address]) -> _Found:
    listings = source.some(node, "backends")
    present = {backend.backend_id: backend.addr for backend in listings.backends}
    number = decimal(text)
    ids = {number} if number is not None else {one for end in ends for one in _ids_at(source, node, end, present)}
    return _Found(ids, None if "backends" in listings.missing else sorted(ids & present.keys()))


def _ends(source: Source, nodes: list[str | None], text: str) -> dict[str | None, frozenset[Address]]:
    """The addresses that are meant, by node: one that was typed, or those of a name where that is known.

    Raises UsageError for a name that no node knows.
    """
    try:
        return dict.fromkeys(nodes, frozenset({ip_address(text.strip("[]"))}))
    except ValueError:
        pass
    found: dict[str | None, frozenset[Address]] = {}
    unknown: UsageError | None = None
    for node in nodes:
        try:
            found[node] = frozenset(one.network_address for one in book_of(source, node).networks(text))
        except UsageError as error:
            found[node], unknown = frozenset(), unknown or error
    if unknown is not None and not any(found.values()):
        raise UsageError(f"--backend {text}: an address, a name or a backend id: {unknown}") from unknown
    return found


def _ids_at(source: Source, node: str | None, address: Address, present: dict[int, Address]) -> set[int]:
    """Ids of the backends at an address: by the table, and by the connections of ids that it has no more."""
    ids = {number for number, where in present.items() if where == address}
    legs = {
        _client(entry)
        for entry in _entries(
            source, node, f"not svc and not related and rev_nat > 0 and dst == {address}", address.version
        )
    }
    for entry in _entries(source, node, "svc", address.version) if legs else ():
        number = entry.backend_id
        if number and number not in present and _client(entry) in legs:
            ids.add(number)
    return ids


def _client(entry: CtEntry) -> tuple[int, Address, int, int]:
    flow = entry.tuple
    return flow.proto, flow.src, flow.src_port, entry.rev_nat


def _entries(source: Source, node: str | None, text: str, family: int) -> Iterable[CtEntry]:
    wanted = Filter.parse(text)
    for table in source.own_tables(node):
        if table.family == family:
            for columns in matching(table, wanted):
                for index in range(len(columns)):
                    entry = columns.entry(index, table.name, table.absent)
                    if entry.direction is not Direction.IN:
                        yield entry
