"""``ct decode`` as text and JSON."""

from __future__ import annotations

from typing import TextIO

from ctctl.decode.ct import direction_of, flag_names, other_bits
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import FlowTuple, protocol_name
from ctctl.out.output import Format, OutputOptions, cell, write_document
from ctctl.tables.show.cilium import cilium_flags, cilium_line
from ctctl.tables.show.entry import endpoint, entry_record

SCHEMA = "ctctl/ct-decode/v1"


def write_decoded(
    *,
    flags: int | None = None,
    entry: CtEntry | None = None,
    flow: FlowTuple | None = None,
    tuple_flags: int = 0,
    value_only: bool = False,
    layout: Layout = Layout.V1_16,
    options: OutputOptions,
    stream: TextIO,
) -> None:
    """What was decoded: a flag word, an entry (or only its value), or a key."""
    record = _record(flags, entry, flow, tuple_flags, value_only=value_only, layout=layout)
    if options.format in (Format.json, Format.jsonl, Format.yaml):
        write_document(SCHEMA, record, options, stream)
        return
    if options.format is Format.cilium:
        stream.write(
            (cilium_flags(flags) if flags is not None else cilium_line(entry, layout) or "" if entry else "") + "\n"
        )
        return
    width = max(map(len, record))
    for name, value in record.items():
        stream.write(f"{name:<{width}}  {cell(value)}\n")


def _record(
    flags: int | None,
    entry: CtEntry | None,
    flow: FlowTuple | None,
    tuple_flags: int,
    *,
    value_only: bool,
    layout: Layout,
) -> dict[str, object]:
    if flags is not None:
        closing = "both sides closed" if CtFlags(flags).closing == CtFlags.RxClosing | CtFlags.TxClosing else None
        return {"kind": "flags", "flags": flags, "flag_names": flag_names(flags), "other_bits": other_bits(flags)} | (
            {"note": closing} if closing else {}
        )
    if entry is not None:
        record = entry_record(entry, layout=layout)
        if value_only:
            keys = (
                "map",
                "proto",
                "proto_name",
                "direction",
                "related",
                "src",
                "src_port",
                "dst",
                "dst_port",
                "tuple_flags",
            )
            record = {name: value for name, value in record.items() if name not in keys}
        return {"kind": "value" if value_only else "entry", "layout": layout.value, **record}
    assert flow is not None
    return {
        "kind": "key",
        "proto": flow.proto,
        "proto_name": protocol_name(flow.proto),
        "direction": direction_of(tuple_flags).value,
        "related": bool(tuple_flags & 2),
        "source": endpoint(flow.src, flow.src_port),
        "destination": endpoint(flow.dst, flow.dst_port),
        "tuple_flags": tuple_flags,
    }
