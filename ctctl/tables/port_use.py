"""How the ports of SNAT are used: one port range for each egress address, remote end and protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ctctl.model.tuples import Address
from ctctl.tables.snat_ports import DEFAULT, SHARE, SMALLEST, PortRange, range_by
from ctctl.tables.snat_use import Read, SnatUse, Taken


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


def port_use(read: Read, told: PortRange | None = None, limit: int | None = None) -> list[PortUse]:
    """Port use by egress address and remote end, the fullest first. ``told``: the range that the node names.

    ``read`` gives the entries anew each time.
    """
    found = [use for taken in SnatUse(read).taken() for use in _uses(taken, told, limit)]
    return sorted(found, key=_fullest)[:limit]


def _uses(taken: Taken, told: PortRange | None, limit: int | None) -> Iterator[PortUse]:
    """The fullest ``limit`` of a family, in no order. Only what takes very many ports can say of which range."""
    usual = told or DEFAULT
    ports, ranges = taken.within(usual.first, usual.last), dict[int, PortRange]()
    if told is None:
        for at in np.flatnonzero(taken.counts >= SHARE * SMALLEST).tolist():
            numbers = taken.ports_of(at)
            ranges[at] = ranged = range_by(numbers, None)
            ports[at] = sum(number in ranged for number in numbers)
    entries = taken.entries
    for at in taken.order(ports, entries)[:limit].tolist():
        ends = taken.ends(at)
        yield PortUse(
            ends.proto,
            ends.egress,
            ends.remote,
            ends.remote_port,
            int(ports[at]),
            int(entries[at]),
            ranges.get(at, usual),
        )


def _fullest(one: PortUse) -> tuple[int, ...]:
    return -one.ports, -one.entries, one.egress.version, int(one.egress), int(one.remote), one.remote_port
