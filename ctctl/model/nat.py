"""Records of the SNAT tables."""

from __future__ import annotations

from dataclasses import replace

from ctctl.model.light import light_value
from ctctl.model.tuples import Address, Direction, FlowTuple, endpoint


@light_value
class NatEntry:
    """One SNAT entry, in real packet order (unlike conntrack keys).

    OUT entries rewrite the source of what leaves ("SRC"), IN entries the destination of what comes
    back ("DST"). ``created`` is in the table's clock; listings show its age instead (``age_s``).
    """

    map: str | None
    tuple: FlowTuple
    direction: Direction
    related: bool
    xlate: str
    to_addr: Address
    to_port: int
    created: int | None = None
    age_s: int | None = None
    needs_ct: int | None = None
    key: bytes | None = None
    value: bytes | None = None

    def turned(self, flow: FlowTuple) -> FlowTuple:
        """What a packet of this entry's tuple becomes."""
        if self.direction is Direction.OUT:
            return replace(flow, src=self.to_addr, src_port=self.to_port)
        return replace(flow, dst=self.to_addr, dst_port=self.to_port)

    def __str__(self) -> str:
        return f"{self.tuple} XLATE_{self.xlate} {endpoint(self.to_addr, self.to_port)}"
