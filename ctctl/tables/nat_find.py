"""SNAT entries of a source by the flows and addresses in them: only what is found is made an entry of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import encode_nat_key
from ctctl.decode.nat_rows import NatRows, NatTable, nat_fields
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address, FlowTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.tables.sources.base import Source
    from ctctl.tables.sources.listings import Listings

#: Rows, and the fields that their listing does not show.
_Part: TypeAlias = tuple[NatRows, frozenset[str]]
#: A key without its last octet, the flags.
_Flow: TypeAlias = bytes
#: A row, and the fields that its listing does not show.
_Place: TypeAlias = tuple[NatRows, int, frozenset[str]]


class NatFinder:
    """The SNAT entries of one node of a source."""

    def __init__(self, source: Source, node: str | None) -> None:
        self._source, self._node = source, node
        self._listings: Listings | None = None
        self._places: dict[_Flow, list[_Place]] | None = None
        self._by_flow: dict[FlowTuple, list[NatEntry]] | None = None

    def of(self, flows: Sequence[FlowTuple]) -> list[NatEntry]:
        """Those of packets of these flows, a flow after the other."""
        if self._source.nat_of is not None:
            return self._source.nat_of(flows)
        parts = self._parts()
        if parts is None:
            if self._by_flow is None:
                self._by_flow = {}
                for entry in self._others():
                    self._by_flow.setdefault(entry.tuple, []).append(entry)
            return [entry for flow in flows for entry in self._by_flow.get(flow, ())]
        if self._places is None:
            self._places = _places(parts)
        keys = [encode_nat_key(flow, 0)[:-1] for flow in flows]
        return [rows.entry(at, absent) for key in keys for rows, at, absent in self._places.get(key, ())]

    def with_address(self, address: Address) -> Iterator[NatEntry]:
        """Those that have the address at an end, before or after translation."""
        parts = self._parts()
        if parts is None:
            for entry in self._others():
                if address in (entry.tuple.src, entry.tuple.dst, entry.to_addr):
                    yield entry
            return
        for rows, absent in parts:
            if rows.family == address.version:
                for at in _having(rows, address).tolist():
                    yield rows.entry(at, absent)

    def _parts(self) -> Iterator[_Part] | None:
        """All rows, batch by batch, those of a live table read anew; None where a listing's are not kept as bytes."""
        if self._source.snat is not None:
            tables: Sequence[NatTable] | None = self._source.snat(self._node)
        else:
            tables = self._listed().nat_tables()
        return None if tables is None else ((rows, table.absent) for table in tables for rows in table.read())

    def _others(self) -> list[NatEntry]:
        return self._listed().nat

    def _listed(self) -> Listings:
        if self._listings is None:
            self._listings = self._source.some(self._node, "nat")
        return self._listings


def _places(parts: Iterable[_Part]) -> dict[_Flow, list[_Place]]:
    found: defaultdict[_Flow, list[_Place]] = defaultdict(list)
    for batch, absent in parts:
        # A live batch is valid until the next.
        rows, size = NatRows.joined(batch.family, batch.name, [batch]), KEY_SIZE[batch.family]
        keys = bytes(rows.keys)
        for at in range(len(rows)):
            found[keys[at * size : (at + 1) * size - 1]].append((rows, at, absent))
    return dict(found)


def _having(rows: NatRows, address: Address) -> NDArray[np.intp]:
    """The places of rows with the address in them."""
    import numpy as np

    wanted, fields = np.frombuffer(address.packed, np.uint8), nat_fields(rows.family)
    found = np.zeros(len(rows), np.bool_)
    for name in ("src", "dst", "to_addr"):
        field = fields[name]
        memory, width = rows.matrices[field.matrix]
        octets = np.frombuffer(memory, np.uint8).reshape(-1, width)[:, field.at : field.at + field.width]
        found |= (octets == wanted).all(axis=1)
    return np.flatnonzero(found)
