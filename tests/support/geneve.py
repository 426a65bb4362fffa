"""The DSR option of encapsulated packets, read back."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

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
