"""The part of a node's tables that packets of a simulation touched, where all of it would be too much to show."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.decode.ct import encode_key, flags_of_direction
from ctctl.model.event import HookEvent, LookupRecord, Why
from ctctl.model.tuples import ICMP, FlowTuple
from ctctl.simulate.simulator import SimulatedTables, Simulator
from ctctl.tables.pairs import nat_key

if TYPE_CHECKING:
    from collections.abc import Iterator


class Touched:
    """Keys that the events of one simulated node named, and what stands under them now."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._keys: defaultdict[str, set[bytes]] = defaultdict(set)

    def note(self, event: HookEvent) -> None:
        """Remember the entries that a packet met or made."""
        for lookup in event.lookups:
            for table, key in _keys(lookup):
                self._keys[table].add(key)
        if event.rev_nat is not None and event.tuple_in.src.version == 4:
            # lb4_affinity_key: the client's address, zero extended to 8 bytes, and the rev-NAT id
            client = event.tuple_in.src.packed + bytes(4)
            self._keys[pins.LB4_AFFINITY].add(client + event.rev_nat.to_bytes(2, "big") + bytes(6))

    def tables(self) -> SimulatedTables:
        """The noted entries that are there."""
        return SimulatedTables(
            ct={name: self._records(name) for name in pins.OWN_CT_TABLES},
            snat=self._records(pins.SNAT4),
            affinity=self._records(pins.LB4_AFFINITY),
        )

    def _records(self, name: str) -> list[tuple[bytes, bytes]]:
        table = self._simulator.maps.get(name)
        if table is None:
            return []
        found = ((key, table.lookup(key)) for key in sorted(self._keys[name]))
        return [(key, value) for key, value in found if value is not None]


def _keys(lookup: LookupRecord) -> Iterator[tuple[str, bytes]]:
    key = encode_key(lookup.flow, flags_of_direction(lookup.direction, lookup.related))
    yield lookup.map, key
    if lookup.why & Why.RELATED_CREATED:
        flow = FlowTuple(ICMP, lookup.flow.src, 0, lookup.flow.dst, 0)
        yield pins.OWN_CT_TABLES[1], encode_key(flow, flags_of_direction(lookup.direction, related=True))
    if lookup.why & Why.SNAT_CREATED:
        yield pins.SNAT4, nat_key(key, dsr=True)
