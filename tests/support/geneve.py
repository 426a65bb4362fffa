"""Encapsulated packets as another node sends them, and the DSR option read back."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from ctctl.packet.checksum import internet_checksum
from ctctl.packet.geneve import GENEVE_PORT, Geneve
from ctctl.packet.spec import PROTO_UDP

_ETH_P_IP = 0x0800
_TRANSPARENT_ETHERNET = 0x6558
_CRITICAL = 0x40
_DSR = (0x014B, 0x81)


def parse_dsr_option(options: bytes) -> tuple[IPv4Address, int] | None:
    """VIP and port of the DSR option among ``options``; None without one."""
    at = 0
    while at + 4 <= len(options):
        klass, kind, words = struct.unpack_from(">HBB", options, at)
        size = 4 + (words & 0x1F) * 4
        if (klass, kind) == _DSR and at + 12 <= len(options) and words & 0x1F >= 2:
            address, port = struct.unpack_from(">4sH", options, at + 4)
            return IPv4Address(address), port
        at += size
    return None


def wrap_geneve(inner: bytes, outer: Geneve, *, src_mac: bytes, dst_mac: bytes, src_port: int = 50000) -> bytes:
    """``inner`` (a whole Ethernet frame) encapsulated: the outer packet goes from ``remote`` to ``local``.

    As the datapath sends it: TTL 64, DF, no UDP checksum.
    """
    flags = _CRITICAL if outer.options else 0
    words = len(outer.options) // 4
    header = struct.pack(">BBHI", words, flags, _TRANSPARENT_ETHERNET, outer.vni << 8) + outer.options
    udp = struct.pack(">HHHH", src_port, GENEVE_PORT, 8 + len(header) + len(inner), 0)
    total = 20 + 8 + len(header) + len(inner)
    ip = (
        struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0x4000, 64, PROTO_UDP, 0) + outer.remote.packed + outer.local.packed
    )
    ip = ip[:10] + struct.pack(">H", internet_checksum(ip)) + ip[12:]
    return dst_mac + src_mac + struct.pack(">H", _ETH_P_IP) + ip + udp + header + inner
