"""The checksums of the packets ctctl builds: Internet checksum (RFC 1071) and CRC32c (RFC 9260)."""

from __future__ import annotations

import struct
from functools import lru_cache


def internet_checksum(data: bytes) -> int:
    """The 16-bit one's complement checksum of ``data`` (RFC 1071), odd lengths padded with zero."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transport_checksum(src: bytes, dst: bytes, proto: int, segment: bytes) -> int:
    """The checksum over the pseudo header of either family and ``segment`` (its checksum field zero).

    A UDP checksum that comes out as 0 is sent as 0xffff (RFC 768).
    """
    # Both families' forms add up to the same: the length and the protocol, each in 16 bits.
    value = internet_checksum(src + dst + struct.pack(">HH", proto, len(segment)) + segment)
    return 0xFFFF if proto == 17 and value == 0 else value


@lru_cache(maxsize=1)
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """SCTP's CRC32c of ``data``, to be stored little endian (RFC 9260, appendix A)."""
    table = _crc32c_table()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
