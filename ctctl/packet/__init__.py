"""Packets: as text, as frames, and back."""

from __future__ import annotations

from ctctl.packet.describe import describe_frame
from ctctl.packet.frame import build_frame
from ctctl.packet.spec import PacketSpec
from ctctl.packet.text import parse_packet_text

__all__ = ["PacketSpec", "build_frame", "describe_frame", "parse_packet_text"]
