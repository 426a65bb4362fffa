"""How the ports of SNAT are used: one port range for each egress address, remote end and protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address, Direction

#: What the datapath takes ports from: above the default NodePort range, to the last one.
FIRST_PORT: Final = 32768
LAST_PORT: Final = 65535


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
    range_size: int

    @property
    def share(self) -> float:
        """Of the range, 0 to 1."""
        return self.ports / self.range_size


def port_use(entries: Iterable[NatEntry], first_port: int = FIRST_PORT) -> list[PortUse]:
    """Port use by egress address and remote end, the fullest first. ``first_port``: where the range begins."""
    used: dict[tuple[int, Address, Address, int], list[int]] = {}
    for entry in entries:
        if entry.direction is Direction.OUT and not entry.related:
            flow = entry.tuple
            used.setdefault((flow.proto, entry.to_addr, flow.dst, flow.dst_port), []).append(entry.to_port)
    size = LAST_PORT - first_port + 1
    found = [
        PortUse(*key, len({port for port in ports if port >= first_port}), len(ports), size)
        for key, ports in used.items()
    ]
    return sorted(found, key=_fullest)


def _fullest(one: PortUse) -> tuple[int, ...]:
    return -one.ports, -one.entries, one.egress.version, int(one.egress), int(one.remote), one.remote_port
