"""How the ends of a connection or packet look as JSON, the same in every record."""

from __future__ import annotations

from typing import Any

from ctctl.model.tuples import FlowTuple, protocol_name


def tuple_record(flow: FlowTuple, **kind: Any) -> dict[str, Any]:
    """Protocol and ends of ``flow``; ``kind`` (direction, related) stands between them."""
    return {
        "proto": flow.proto,
        "proto_name": protocol_name(flow.proto),
        **kind,
        "src": str(flow.src),
        "src_port": flow.src_port,
        "dst": str(flow.dst),
        "dst_port": flow.dst_port,
    }
