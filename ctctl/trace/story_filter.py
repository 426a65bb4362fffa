"""Which events of a packet story are wanted: by the flow's ends, the filter language, and the node."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from ctctl.errors import DecodeError, UsageError
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.tuples import Direction, FlowTuple
from ctctl.packet.text import FlowSpec
from ctctl.tables.namebook import NameBook
from ctctl.tables.query.ast import fields_of
from ctctl.tables.query.context import Resolver, TableContext
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.trace.story_event import StoryEvent, StoryPacket

#: What a printed packet has of the fields that a filter can name.
FIELDS = frozenset({"ip", "src", "dst", "port", "src_port", "dst_port", "proto", "src_sec_id", "family"})


@dataclass(frozen=True, slots=True)
class StoryFilter:
    """``ends`` fit in either direction; ``wanted`` looks at each packet as it is, its source being the sender."""

    ends: FlowSpec | None = None
    wanted: Filter = EVERYTHING
    nodes: Sequence[str] = ()
    #: who knows names
    names: Resolver | None = None

    def check(self) -> None:
        """Raise UsageError for a field that no printed packet has."""
        strange = set() if self.wanted.node is None else fields_of(self.wanted.node) - FIELDS
        if strange:
            known = ", ".join(sorted(FIELDS))
            raise UsageError(f"a printed packet has no {', '.join(sorted(strange))}; what can be asked for: {known}")

    def __call__(self, event: StoryEvent) -> bool:
        """Whether to show ``event``. What a filter asks about and the event does not say is no match."""
        if self.nodes and not any(_is_node(event.node, name) for name in self.nodes):
            return False
        if self.ends is None and self.wanted.node is None:
            return True
        packet = _placed(event)
        if self.ends is not None and not _fits(self.ends, packet):
            return False
        if self.wanted.node is None:
            return True
        flow = packet.flow
        if flow is None:
            return False
        return self.wanted.matches(_pretended(flow, event), TableContext(family=flow.src.version, names=self.names))


def stand_in(name: str) -> IPv6Address:
    """An address for an end that is printed by its name only: of the prefix that nothing is routed to (RFC 6666)."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return IPv6Address(bytes.fromhex("0100000000000000") + digest)


def _placed(event: StoryEvent) -> StoryPacket:
    """The packet with a stand-in for an address that is not printed; then both ends are of one family."""
    packet = event.packet
    if (packet.src is not None and packet.dst is not None) or not (event.src_name or event.dst_name):
        return packet
    ends = [
        address if address is not None and address.version == 6 else stand_in(name or str(address))
        for address, name in ((packet.src, event.src_name), (packet.dst, event.dst_name))
    ]
    return replace(packet, src=ends[0], dst=ends[1])


def names_of_events(book: NameBook, events: Iterable[StoryEvent]) -> None:
    """Names and addresses that stand beside each other in events; a stand-in for a name without one. Never raises."""
    with suppress(DecodeError):
        for event in events:
            for name, address in ((event.src_name, event.packet.src), (event.dst_name, event.packet.dst)):
                if name:
                    book.add_pod(name, [str(address if address is not None else stand_in(name))])


def _is_node(node: str | None, name: str) -> bool:
    """Hubble's names are CLUSTER/NODE; the node's own name is enough."""
    return node is not None and name in {node, node.rpartition("/")[2]}


def _fits(ends: FlowSpec, packet: StoryPacket) -> bool:
    if ends.proto is not None and packet.proto != ends.proto:
        return False
    there = ((packet.src, packet.src_port), (packet.dst, packet.dst_port))
    for order in (there, (there[1], there[0])):
        if all(
            (network is None or (address is not None and address in network)) and wanted_port in {0, port}
            for network, wanted_port, (address, port) in zip(ends.networks, ends.ports, order, strict=True)
        ):
            return True
    return False


def _pretended(flow: FlowTuple, event: StoryEvent) -> CtEntry:
    """The packet as an entry, for the filter language: only FIELDS of it mean anything."""
    return CtEntry(
        map=None,
        tuple=flow,
        direction=Direction.OUT,
        related=False,
        tuple_flags=0,
        flags=CtFlags(0),
        lifetime=0,
        rev_nat=0,
        src_sec_id=event.src_identity or 0,
        tx_flags_seen=0,
        rx_flags_seen=0,
        last_tx_report=0,
        last_rx_report=0,
        backend_id=None,
    )
