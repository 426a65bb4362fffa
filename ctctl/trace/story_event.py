"""One line of a packet story: what an agent's monitor or Hubble said of one packet at one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from ctctl.model.identity import RESERVED_NUMBERS
from ctctl.model.tuples import Address, FlowTuple


class StoryKind(StrEnum):
    """What the event tells."""

    TRACE = "trace"
    DROP = "drop"
    POLICY = "policy"
    SOCKET = "socket"
    L7 = "l7"


@dataclass(frozen=True, slots=True)
class StoryPacket:
    """Headers as far as they were told; None where they were not. ``tcp_flags`` is the flag byte.

    ``other`` is the text of what has no address: an ARP frame, an unknown packet. ``tunnel`` is the outer packet.
    """

    proto: int | None = None
    src: Address | None = None
    src_port: int | None = None
    dst: Address | None = None
    dst_port: int | None = None
    tcp_flags: int | None = None
    icmp: str | None = None
    other: str | None = None
    tunnel: str | None = None

    @property
    def flow(self) -> FlowTuple | None:
        """The packet's tuple, ports 0 where it has none; None without addresses. Protocol 0 is unknown."""
        if self.src is None or self.dst is None:
            return None
        return FlowTuple(self.proto or 0, self.src, self.src_port or 0, self.dst, self.dst_port or 0)


@dataclass(frozen=True, slots=True)
class StoryEvent:
    """What was said of one packet at one place; None where the source does not say it.

    ``number`` counts the events of the file from 1; ``time_ns`` is since 1970 (Hubble only); ``place`` is the
    observation point in Cilium's words; ``state`` is what conntrack said; an identity is a number, never 0.
    """

    kind: StoryKind
    packet: StoryPacket
    number: int = 0
    time_ns: int | None = None
    node: str | None = None
    place: str | None = None
    endpoint: int | None = None
    device: str | None = None
    src_identity: int | None = None
    dst_identity: int | None = None
    src_name: str | None = None
    dst_name: str | None = None
    state: str | None = None
    verdict: str | None = None
    reason: str | None = None
    file: str | None = None
    line: int | None = None
    length: int | None = None
    detail: str | None = None

    def numbered(self, number: int) -> StoryEvent:
        """The same as the file's event of that number."""
        return replace(self, number=number)


def identity_of(value: object) -> int | None:
    """An identity from its number or reserved name; None for 0, "unknown" and what is none."""
    if isinstance(value, str):
        if value in RESERVED_NUMBERS:
            value = RESERVED_NUMBERS[value]
        elif value.isascii() and value.isdecimal() and len(value) <= 10:
            value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 32:
        return value
    return None
