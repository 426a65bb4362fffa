"""Checksums as a receiver judges them.

Zero has two forms in ones' complement, 0 and 0xFFFF, and either is right (RFC 1624, section 3): the kernel sends
0xFFFF where it computes a checksum in software (``skb_checksum_help``), and 0 or 0xFFFF where it updates one. One
packet in 65,536 has it. Only for UDP 0 is something else: none at all (RFC 768).
"""

from __future__ import annotations

from typing import Any


def same_checksum(layer: type[Any], seen: int, made: int) -> bool:
    """Whether a receiver that reckons ``made`` for this layer of scapy's takes ``seen`` for right."""
    from scapy.layers.inet import UDP

    return seen == made or (layer is not UDP and {seen, made} == {0, 0xFFFF})
