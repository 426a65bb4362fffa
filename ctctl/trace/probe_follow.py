"""What the probes are told of a followed tuple: its key, and the slot by which they tell most other packets."""

from __future__ import annotations

from typing import Final

from ctctl.abi import pins
from ctctl.kernel.map import Map
from ctctl.model.tuples import SCTP, TCP, UDP, FlowTuple
from ctctl.trace.story import canonical

_SLOT_BITS: Final = 14
_SET: Final = b"\1"


def follow(maps: dict[str, Map], flow: FlowTuple) -> None:
    """Have the probes tell of one more tuple. Raises KernelError."""
    key = follow_key(flow)
    # Key first: it is there when a probe finds the slot set.
    maps[pins.PROBE_FOLLOW].update(key, _SET)
    maps[pins.PROBE_SLOTS].update(slot_of(key).to_bytes(4, "little"), _SET)


def follow_key(flow: FlowTuple) -> bytes:
    """The key of ``ctctl_probe_follow``: the lesser end as source, flags zero, IPv4 in the first 4 bytes."""
    proto, (low, high) = canonical(flow)
    size = len(flow.src.packed)
    ends = [end[0].to_bytes(size, "big").ljust(16, b"\0") for end in (high, low)]
    ports = b"".join(end[1].to_bytes(2, "big") for end in (high, low))
    return b"".join(ends) + ports + bytes((proto, 0))


def slot_of(key: bytes) -> int:
    """The element of ``ctctl_probe_slots`` that is set for a key (``probe_slot`` in bpf/lib/probe.h)."""
    words = [int.from_bytes(key[at : at + 4], "little") for at in range(0, 32, 4)]
    ports = [int.from_bytes(key[at : at + 2], "little") for at in (32, 34)]
    mixed = 0
    for word in (*words, *(ports if key[36] in (TCP, UDP, SCTP) else ())):
        mixed ^= word
    return (mixed * 0x9E3779B1 & 0xFFFF_FFFF) >> (32 - _SLOT_BITS)
