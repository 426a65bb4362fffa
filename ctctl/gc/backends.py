"""Service entries of a backend, also of one that is gone: its id is all that they have of it.

While the backend is in its table, the table tells the id. Afterwards the connections do that it was chosen
for: an OUT entry of the same client port and rev-NAT index has the backend's address as its destination.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from ctctl.errors import NotFoundError, UsageError
from ctctl.model.entry import CtEntry
from ctctl.model.tuples import Address, Direction
from ctctl.model.units import decimal
from ctctl.tables.query.filter import Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import Source


def entries_of_backend(source: Source, text: str) -> tuple[Filter, str]:
    """The filter for the service entries of a backend (address, or id), and what is known of it in words.

    Raises UsageError for what is neither, NotFoundError where no service entry uses it.
    """
    nodes: list[str | None] = [*source.nodes()] or [None]
    present = {backend.backend_id: backend for node in nodes for backend in source.some(node, "backends").backends}
    number = decimal(text)
    if number is not None:
        ids = {number}
    else:
        ids = _ids_at(source, _address(text), {number: found.addr for number, found in present.items()})
    if not ids:
        raise NotFoundError(f"no service entry uses a backend at {text} (ctctl lb list --backends shows what there is)")
    there = sorted(ids & present.keys())
    numbers = ", ".join(map(str, sorted(ids)))
    name = f"backend {numbers}" if number is not None else f"backend {text} (id {numbers})"
    only = f" as {', '.join(map(str, there))}" if there and set(there) != ids else ""
    state = f"is still in the backend table{only}" if there else "is not in the backend table: it is gone"
    return Filter.parse(f"svc and backend_id in ({numbers})"), f"{name} {state}"


def _address(text: str) -> Address:
    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        raise UsageError(f"--backend {text}: an address or a backend id") from None


def _ids_at(source: Source, address: Address, present: dict[int, Address]) -> set[int]:
    """Ids of the backends at an address: by the table, and by the connections of ids that it has no more."""
    ids = {number for number, where in present.items() if where == address}
    legs = {
        _client(entry)
        for entry in _entries(source, f"not svc and not related and rev_nat > 0 and dst == {address}", address.version)
    }
    for entry in _entries(source, "svc", address.version) if legs else ():
        number = entry.backend_id
        if number and number not in present and _client(entry) in legs:
            ids.add(number)
    return ids


def _client(entry: CtEntry) -> tuple[int, Address, int, int]:
    flow = entry.tuple
    return flow.proto, flow.src, flow.src_port, entry.rev_nat


def _entries(source: Source, text: str, family: int) -> Iterable[CtEntry]:
    wanted = Filter.parse(text)
    for table in source.tables:
        if table.family == family:
            for columns in matching(table, wanted):
                for index in range(len(columns)):
                    entry = columns.entry(index, table.name, table.absent)
                    if entry.direction is not Direction.IN:
                        yield entry
