"""Writing pcapng (draft-ietf-opsawg-pcapng): packets with a comment each, an interface per device."""

from __future__ import annotations

import struct
from typing import BinaryIO

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC = 0x1A2B3C4D
_LINKTYPE_ETHERNET = 1
_OPT_END, _OPT_COMMENT, _IF_NAME, _IF_TSRESOL = 0, 1, 2, 9
_PACKET_FLAGS, _INBOUND, _OUTBOUND = 2, 1, 2
#: Time stamps in nanoseconds: 10 to the power of minus this.
_NANOSECONDS = 9


def _option(code: int, data: bytes) -> bytes:
    return struct.pack("<HH", code, len(data)) + data + bytes(-len(data) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


class PcapngWriter:
    """Packets to a binary stream. Frames are Ethernet; interfaces are announced as they first come up."""

    def __init__(self, stream: BinaryIO, *, application: str = "ctctl trace") -> None:
        self._stream = stream
        self._interfaces: dict[str, int] = {}
        options = _option(4, application.encode()) + _option(_OPT_END, b"")
        stream.write(_block(_SECTION, struct.pack("<IHHq", _MAGIC, 1, 0, -1) + options))

    def packet(
        self,
        frame: bytes,
        *,
        time_ns: int,
        interface: str,
        comment: str,
        original_length: int = 0,
        outbound: bool | None = None,
    ) -> None:
        """Write one packet. ``time_ns``: Unix time; ``original_length``: bytes on the wire if more than ``frame``.

        ``outbound``: whether it is as it left there, or as it came; None: nothing is said.
        """
        number = self._interface(interface)
        options = _option(_OPT_COMMENT, comment.encode()[:0xFFFC])
        if outbound is not None:
            options += _option(_PACKET_FLAGS, struct.pack("<I", _OUTBOUND if outbound else _INBOUND))
        options += _option(_OPT_END, b"")
        length = max(original_length, len(frame))
        head = struct.pack("<IIIII", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), length)
        self._stream.write(_block(_PACKET, head + frame + bytes(-len(frame) % 4) + options))

    def _interface(self, name: str) -> int:
        if name not in self._interfaces:
            self._interfaces[name] = len(self._interfaces)
            options = _option(_IF_NAME, name.encode()) + _option(_IF_TSRESOL, bytes([_NANOSECONDS]))
            body = struct.pack("<HHI", _LINKTYPE_ETHERNET, 0, 0) + options + _option(_OPT_END, b"")
            self._stream.write(_block(_INTERFACE, body))
        return self._interfaces[name]
