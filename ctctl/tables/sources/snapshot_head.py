"""ctctl's own snapshot: the raw bytes of tables, compact, streamed both ways, every frame checked.

    magic "CTCTLSNP", u16 version, u32 length and zlib JSON head: tables, clock, now, node, listings
    frames (``frames``): the conntrack tables' rows, the SNAT tables', the end

Numbers of the format are little-endian; keys and values are as they lie in the map. Most of an
entry's bytes are the same in a whole batch (reserved, counters without accounting, high bytes of
times), so a snapshot has about half the table's size before any compression.

Here is what its writer (``snapshot_write``) and its reader (``snapshot``) both know.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ctctl.model.drops import DatapathCounter
from ctctl.model.policy import PolicyEntry
from ctctl.model.service import (
    Backend,
    EndpointRecord,
    IpcacheRecord,
    MaglevTable,
    RevNat,
    ServiceSlot,
    SocketNat,
    SourceRange,
    TunnelRecord,
)

MAGIC = b"CTCTLSNP"
#: 2 has SNAT tables in frames; 1, still written where there are none, has SNAT entries in the head.
VERSION = 2
PREFIX = struct.Struct("<8sHI")
#: SNAT entries that are text, a frame.
TEXTS = 4096


@dataclass(frozen=True, slots=True)
class TableHead:
    """What the head says of a conntrack table."""

    name: str
    family: int
    layout: str
    layout_evidence: str
    node: str | None
    absent: tuple[str, ...]
    raw: bool
    max_entries: int | None
    clock: str
    clock_evidence: str
    now: int | None


#: The listings that its head has, and of what each is.
LISTED: dict[str, type] = {
    "services": ServiceSlot,
    "backends": Backend,
    "rev_nats": RevNat,
    "source_ranges": SourceRange,
    "maglev": MaglevTable,
    "ipcache": IpcacheRecord,
    "endpoints": EndpointRecord,
    "sockets": SocketNat,
    "tunnels": TunnelRecord,
    "policy": PolicyEntry,
    "counters": DatapathCounter,
}
