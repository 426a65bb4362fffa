"""How the ports of SNAT are used: one port range for each egress address, remote end and protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address, Direction
from ctctl.tables.snat_ports import PortRange, range_by


@dataclass(frozen=True, slots=True)
class PortUse:
    """Ports of ``egress`` towards one remote end. ``ports`` are those of the range that SNAT gives out.

    ``entries`` counts connections: also those that kept a port below the range.
    """

    proto: int
    egress: Address
    remote: Address
    remote_port: int
    ports: int
    entries: int
    range: PortRange

    @property
    def range_size(self) -> int:
        """How many ports there are."""
        return len(self.range)

    @property
    def share(self) -> float:
        """Of the range, 0 to 1."""
        return self.ports / self.range_size


def port_use(entries: Iterable[NatEntry], told: PortRange | None = None) -> list[PortUse]:
    """Port use by egress address and remote end, the fullest first. ``told``: the range that the node names."""
    used: dict[tuple[int, Address, Address, int], list[int]] = {}
    for entry in entries:
        if entry.direction is Direction.OUT and not entry.related:
            flow = entry.tuple
            used.setdefault((flow.proto, entry.to_addr, flow.dst, flow.dst_port), []).append(entry.to_port)
    found = []
    for key, ports in used.items():
        ranged = range_by(ports, told)
        found.append(PortUse(*key, len({port for port in ports if port in ranged}), len(ports), ranged))
    return sorted(found, key=_fullest)


def _fullest(one: PortUse) -> tuple[int, ...]:
    return -one.ports, -one.entries, one.egress.version, int(one.egress), int(one.remote), one.remote_port
