"""The tables of a node beside conntrack: services, backends, SNAT, identities and the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from ctctl.model.light import light

# Records of listings are named for types only: most commands read none, and the models take long to import.
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from ctctl.decode.nat_rows import NatRows, NatTable
    from ctctl.model.drops import DatapathCounter
    from ctctl.model.nat import NatEntry
    from ctctl.model.policy import PolicyEntry
    from ctctl.model.service import (
        Backend,
        EndpointRecord,
        IpcacheRecord,
        MaglevTable,
        RevNat,
        ServiceSlot,
        SocketNat,
        SourceRange,
        TunnelRecord,
    )
    from ctctl.tables.sources.nat_listed import ListedNat


@light
class Listings:
    """The other tables of one node, as far as the source shows them."""

    services: list[ServiceSlot] = field(default_factory=list)
    backends: list[Backend] = field(default_factory=list)
    rev_nats: list[RevNat] = field(default_factory=list)
    source_ranges: list[SourceRange] = field(default_factory=list)
    maglev: list[MaglevTable] = field(default_factory=list)
    #: SNAT entries one by one, and those of listings as bytes; ``nat`` is all of them
    nat_entries: list[NatEntry] = field(default_factory=list)
    nat_text: ListedNat | None = None
    ipcache: list[IpcacheRecord] = field(default_factory=list)
    endpoints: list[EndpointRecord] = field(default_factory=list)
    sockets: list[SocketNat] = field(default_factory=list)
    tunnels: list[TunnelRecord] = field(default_factory=list)
    policy: list[PolicyEntry] = field(default_factory=list)
    counters: list[DatapathCounter] = field(default_factory=list)
    #: kinds that were asked for and have no table in the source
    missing: set[str] = field(default_factory=set)
    #: kinds that a listing shows, be it without a record
    shown: set[str] = field(default_factory=set)
    #: what could not be read of these tables
    problems: list[str] = field(default_factory=list)
    #: names of addresses (pods, services) where the source knows them
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Listings]) -> Listings:
        """One of all parts of the same node: each record once, gaps filled from any of them."""
        found = cls()
        found._join_nat(parts)
        for name, key in _KEYS.items():
            setattr(found, name, _merged([record for part in parts for record in getattr(part, name)], key))
        for name in ("source_ranges", "maglev", "sockets", "tunnels"):
            setattr(found, name, list(dict.fromkeys(record for part in parts for record in getattr(part, name))))
        # Counters only grow: of several listings the largest is the newest.
        found.counters = _newest(max((part.counters for part in parts), key=_total, default=[]))
        for part in parts:
            found.problems += part.problems
            found.names.update(part.names)
            found.shown |= part.shown
        return found

    def _join_nat(self, parts: Sequence[Listings]) -> None:
        texts = [part.nat_text for part in parts if part.nat_text]
        # Bytes have the time of creation and text has the age: of both is known when they were read.
        forms = {form for text in texts for form in text.forms()}
        if any(part.nat_entries for part in parts) or len(forms) > 1:
            self.nat_entries = _merged([entry for part in parts for entry in part.nat], _NAT_KEY)
        elif texts:
            self.nat_text = texts[0].joined(texts)

    @property
    def nat(self) -> list[NatEntry]:
        """The SNAT entries one by one. To be read: ``add_nat`` adds one."""
        return [*self.nat_entries, *self.nat_text.entries()] if self.nat_text else self.nat_entries

    def add_nat(self, entry: NatEntry, *, text: bool = False) -> None:
        """Add an SNAT entry; ``text``: of a text listing."""
        if not text or not self.listed_nat().add(entry):
            self.nat_entries.append(entry)

    def listed_nat(self) -> ListedNat:
        """Where the SNAT entries of listings are kept as bytes."""
        if self.nat_text is None:
            from ctctl.tables.sources.nat_listed import ListedNat

            self.nat_text = ListedNat()
        return self.nat_text

    def nat_tables(self) -> list[NatTable] | None:
        """The SNAT entries as tables of bytes, where all of them are kept so; else None."""
        return self.nat_text.tables() if self.nat_text and not self.nat_entries else None

    def nat_rows(self) -> Iterator[NatRows]:
        """The SNAT entries batch by batch."""
        from ctctl.decode.nat_rows import rows_of

        tables = self.nat_tables()
        return rows_of(self.nat) if tables is None else (rows for table in tables for rows in table.read())

    def nat_counts(self) -> dict[str, int]:
        """How many SNAT entries there are by table, as far as that is known."""
        found = self.nat_text.counts() if self.nat_text else {}
        for entry in self.nat_entries:
            if entry.map is not None:
                found[entry.map] = found.get(entry.map, 0) + 1
        return found

    def count(self, kind: str) -> int:
        """How many records of this kind there are."""
        return len(self.nat_entries) + len(self.nat_text or ()) if kind == "nat" else len(getattr(self, kind))

    def has(self, kind: str) -> bool:
        """Whether the source shows records of this kind, or that there are none."""
        return kind in self.shown or self.count(kind) > 0


#: what makes a record of a listing the same record
_KEYS = {
    "services": ("addr", "port", "proto", "scope", "slot"),
    "backends": ("backend_id",),
    "rev_nats": ("rev_nat", "addr", "port"),
    "ipcache": ("prefix", "cluster_id"),
    "endpoints": ("addr",),
    "policy": ("endpoint_id", "egress", "identity", "labels", "proto", "port", "port_bits"),
}


_NAT_KEY = ("tuple", "direction", "related")


#: All kinds of listings.
KINDS = (*_KEYS, "nat", "source_ranges", "maglev", "sockets", "tunnels", "counters")


def _total(counters: list[DatapathCounter]) -> int:
    return sum(one.packets for one in counters)


def _newest(counters: list[DatapathCounter]) -> list[DatapathCounter]:
    """Each counter once, as large as it was seen: a listing that is there twice counts once."""
    found: dict[object, DatapathCounter] = {}
    for one in counters:
        at = (one.reason, one.direction, one.line, one.file, one.place)
        if at not in found or found[at].packets < one.packets:
            found[at] = one
    return list(found.values())


def complete_backends(found: Listings) -> None:
    """Give backends the ports that their listing leaves out, as far as the same node's services show them.

    By the number that a slot has, else by the address, where one backend of the protocol and one port stand for it.
    """
    if all(backend.port is not None for backend in found.backends):
        return
    by_number: dict[object, set[int]] = {}
    by_address: dict[object, set[int]] = {}
    for slot in found.services:
        end = slot.backend_end
        if end is not None and slot.slot:
            by_number.setdefault((slot.backend_id, end[0]), set()).add(end[1])
            by_address.setdefault((slot.proto or None, end[0]), set()).add(end[1])
    alike = Counter((backend.proto or None, backend.addr) for backend in found.backends)

    def port_of(backend: Backend) -> int | None:
        at = (backend.proto or None, backend.addr)
        ports = by_number.get((backend.backend_id, backend.addr)) or (by_address.get(at) if alike[at] == 1 else None)
        return next(iter(ports)) if ports is not None and len(ports) == 1 else None

    found.backends = [
        backend if backend.port is not None else replace(backend, port=port_of(backend)) for backend in found.backends
    ]


Record = TypeVar("Record", bound="DataclassInstance")


def _lacks(value: object) -> bool:
    return value is None or (type(value) is tuple and not value)


def _merged(records: list[Record], key: tuple[str, ...]) -> list[Record]:
    """The records with one a key; what one lacks comes from the others."""
    found: dict[object, Record] = {}
    of = attrgetter(*key)
    names = [item.name for item in fields(records[0])] if records else []
    for record in records:
        at = of(record)
        old = found.setdefault(at, record)
        if old is record:
            continue
        gaps = {
            name: theirs
            for name in names
            if _lacks(mine := getattr(old, name)) and (theirs := getattr(record, name)) != mine
        }
        if gaps:
            found[at] = replace(old, **gaps)
    return list(found.values())
