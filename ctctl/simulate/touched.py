"""The part of a node's tables that packets of a simulation touched, where all of it would be too much to show."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.decode.ct import encode_key, flags_of_direction
from ctctl.decode.nat import encode_nat_key
from ctctl.model.event import HookEvent, LookupKind, LookupRecord, Why
from ctctl.model.tuples import ICMP, ICMPV6, FlowTuple
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
        if event.rev_nat is not None:
            source = event.tuple_in.src
            # lb4_affinity_key has the client's address zero extended to 8 bytes, lb6_affinity_key as it is.
            client = source.packed + bytes(4 if source.version == 4 else 0)
            name = pins.LB4_AFFINITY if source.version == 4 else pins.LB6_AFFINITY
            self._keys[name].add(client + event.rev_nat.to_bytes(2, "big") + bytes(6))

    def tables(self) -> SimulatedTables:
        """The noted entries that are there."""
        return SimulatedTables(
            ct={name: self._records(name) for name in self._simulator.ct_tables},
            snat=self._records(pins.SNAT4),
            affinity=self._records(pins.LB4_AFFINITY),
            snat6=self._records(pins.SNAT6),
            affinity6=self._records(pins.LB6_AFFINITY),
        )

    def _records(self, name: str) -> list[tuple[bytes, bytes]]:
        table = self._simulator.maps.get(name)
        if table is None:
            return []
        found = ((key, table.lookup(key)) for key in sorted(self._keys[name]))
        return [(key, value) for key, value in found if value is not None]

    def keys(self) -> dict[str, set[bytes]]:
        """The keys that packets met, by table, whether anything stands under them or not."""
        return {name: set(keys) for name, keys in self._keys.items()}


def _keys(lookup: LookupRecord) -> Iterator[tuple[str, bytes]]:
    if lookup.kind is LookupKind.SOCKET:
        return  # in no table of connections
    flow, six = lookup.flow, lookup.flow.src.version == 6
    snat = pins.SNAT_TABLES[flow.src.version]
    if lookup.kind is LookupKind.SNAT:
        # Its flow is the packet's, as SNAT keys are: that of the way out, with the pair's other half.
        yield snat, encode_nat_key(flow, 0)
        return
    key = encode_key(flow, flags_of_direction(lookup.direction, lookup.related))
    yield lookup.map, key
    if lookup.why & Why.RELATED_CREATED:
        related = FlowTuple(ICMPV6 if six else ICMP, flow.src, 0, flow.dst, 0)
        yield (
            pins.CT6_ANY if six else pins.CT4_ANY,
            encode_key(related, flags_of_direction(lookup.direction, related=True)),
        )
    if lookup.why & Why.SNAT_CREATED:
        yield snat, nat_key(key, dsr=True)
