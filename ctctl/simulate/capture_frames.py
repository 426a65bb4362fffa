"""The Ethernet frames of a capture: which run as they stand, and between which addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ctctl.packet.capture import LinkType
from ctctl.packet.cooked import ETHERNET, VXLAN_PORTS
from ctctl.packet.geneve import GENEVE_PORT

Rows: TypeAlias = npt.NDArray[np.int64]

IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"
#: By EtherType, where a frame has source and destination address. One that ends before is run by no kernel.
ADDRESSES: Final = {IPV4: slice(26, 34), IPV6: slice(22, 54)}
#: where it has the protocol, and a UDP header behind no options or extension headers
_PROTOCOL: Final = {IPV4: 23, IPV6: 20}
UDP: Final = {IPV4: 34, IPV6: 54}
#: a UDP header and a tunnel's, and behind those the inner Ethernet header
_TUNNEL: Final = 16


@dataclass(frozen=True, slots=True)
class Frames:
    """Ethernet frames in a capture: where each begins, and how many bytes of it there are (0: it is none)."""

    data: npt.NDArray[np.uint8]
    offsets: Rows
    sizes: Rows

    def as_they_stand(self, ethertype: bytes, *, geneve_apart: bool) -> Rows:
        """Which are IP packets of this type that one program runs as they are.

        What is inside VXLAN is what concerns the node. Our own datapath unpacks Geneve itself; for IPv6 in it
        (``geneve_apart``) by one program after the other.
        """
        rows = np.flatnonzero(self.sizes >= ADDRESSES[ethertype].stop)
        rows = rows[self._number(rows, 12) == int.from_bytes(ethertype)]
        udp = UDP[ethertype]
        may_be = rows[(self.sizes[rows] >= udp + _TUNNEL) & (self._byte(rows, _PROTOCOL[ethertype]) == 17)]
        if ethertype == IPV4:
            may_be = may_be[self._byte(may_be, ETHERNET) == 0x45]
        ports = self._number(may_be, udp + 2)
        apart = may_be[np.isin(ports, VXLAN_PORTS)]
        if geneve_apart and ethertype == IPV4:
            apart = np.concatenate([apart, self._with_ipv6(may_be[ports == GENEVE_PORT], udp)])
        stand: Rows = np.setdiff1d(rows, apart, assume_unique=True)
        return stand

    def _with_ipv6(self, rows: Rows, udp: int) -> Rows:
        """Of packets in Geneve those that have IPv6 in it."""
        inner = udp + _TUNNEL + (self._byte(rows, udp + 8) & 0x3F) * 4
        whole = self.sizes[rows] >= inner + ETHERNET
        rows, inner = rows[whole], inner[whole]
        with_ipv6: Rows = rows[self._number(rows, inner + 12) == int.from_bytes(IPV6)]
        return with_ipv6

    def columns(self, rows: Rows, where: slice) -> npt.NDArray[np.object_]:
        """These bytes of each frame, as ``bytes``."""
        found = self.data[self.offsets[rows][:, None] + np.arange(where.start, where.stop)]
        cells: npt.NDArray[np.object_] = found.view(f"V{where.stop - where.start}").ravel().astype(object)
        return cells

    def _byte(self, rows: Rows, at: int | Rows) -> Rows:
        found: Rows = self.data[self.offsets[rows] + at].astype(np.int64)
        return found

    def _number(self, rows: Rows, at: int | Rows) -> Rows:
        return self._byte(rows, at) << 8 | self._byte(rows, at + 1)


def ends_of(frame: bytes) -> bytes:
    """Source and destination address of an Ethernet frame with IP, empty of any other."""
    where = ADDRESSES.get(frame[12:14])
    return frame[where] if where is not None and len(frame) >= where.stop else b""


def is_geneve4(packet: bytes, link_type: int) -> bool:
    """Whether it is an Ethernet frame with Geneve over IPv4, without options in that."""
    udp = UDP[IPV4]
    is_udp = packet[12:15] == IPV4 + b"\x45" and packet[_PROTOCOL[IPV4]] == 17
    return link_type == LinkType.ETHERNET and is_udp and packet[udp + 2 : udp + 4] == GENEVE_PORT.to_bytes(2)


def halves(addresses: bytes) -> tuple[bytes, bytes]:
    """Source and destination."""
    return addresses[: len(addresses) // 2], addresses[len(addresses) // 2 :]


def version_of(addresses: bytes) -> int:
    """4 or 6, by their length."""
    return 4 if len(addresses) == 8 else 6
