"""How an SNAT entry looks as JSON."""

from __future__ import annotations

from ctctl.model.nat import NatEntry
from ctctl.model.tuples import protocol_name


def nat_record(entry: NatEntry) -> dict[str, object]:
    """An SNAT entry's JSON form."""
    flow = entry.tuple
    return {
        "map": entry.map,
        "proto": flow.proto,
        "proto_name": protocol_name(flow.proto),
        "direction": entry.direction.value,
        "related": entry.related,
        "src": str(flow.src),
        "src_port": flow.src_port,
        "dst": str(flow.dst),
        "dst_port": flow.dst_port,
        "xlate": entry.xlate,
        "to_addr": str(entry.to_addr),
        "to_port": entry.to_port,
        "created": entry.created,
        "age": entry.age_s,
        "needs_ct": entry.needs_ct,
        "key_hex": entry.key.hex() if entry.key is not None else None,
    }
