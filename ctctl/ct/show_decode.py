"""``ct decode`` as text and JSON."""

from __future__ import annotations

from typing import TextIO

from ctctl.ct.decode import TCP_FLAGS, Decoded
from ctctl.decode.ct import direction_of, flag_names, other_bits
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import endpoint, protocol_name
from ctctl.out.cells import cell
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_document
from ctctl.tables.show.cilium import cilium_flags, cilium_line
from ctctl.tables.show.entry import entry_record
from ctctl.tables.show.nat import nat_record

SCHEMA = "ctctl/ct-decode/v1"


def write_decoded(found: Decoded, layout: Layout, options: OutputOptions, stream: TextIO) -> None:
    """What was decoded: a flag word, an entry (or only its value), a key, or an SNAT entry."""
    layout = found.layout or layout
    record = _record(found, layout)
    if options.format in (Format.json, Format.jsonl, Format.yaml):
        write_document(SCHEMA, record, options, stream)
        return
    if options.format is Format.cilium:
        stream.write(_cilium(found, layout) + "\n")
        return
    width = max(map(len, record))
    for name, value in record.items():
        stream.write(f"{name:<{width}}  {cell(value)}\n")


def _cilium(found: Decoded, layout: Layout) -> str:
    if found.entry is not None:
        return cilium_line(found.entry, layout) or ""
    return cilium_flags(found.flags) if found.flags is not None else ""


def _record(found: Decoded, layout: Layout) -> dict[str, object]:
    if found.flags is not None or found.tcp_flags is not None:
        return _flags(found)
    if found.nat is not None:
        return {"kind": "snat", **nat_record(found.nat)}
    if found.entry is not None:
        return _entry(found.entry, layout, value_only=found.value_only)
    flow = found.flow
    assert flow is not None
    return {
        "kind": "key",
        "proto": flow.proto,
        "proto_name": protocol_name(flow.proto),
        "direction": direction_of(found.tuple_flags).value,
        "related": bool(found.tuple_flags & 2),
        "source": endpoint(flow.src, flow.src_port),
        "destination": endpoint(flow.dst, flow.dst_port),
        "tuple_flags": found.tuple_flags,
    }


def _flags(found: Decoded) -> dict[str, object]:
    """A flag word: the entry's, TCP's, or either reading."""
    record: dict[str, object] = {"kind": "flags"}
    if found.flags is not None:
        flags = found.flags
        record |= {"flags": flags, "flag_names": flag_names(flags), "other_bits": other_bits(flags)}
    if found.tcp_flags is not None:
        names = [name for bit, name in enumerate(TCP_FLAGS) if found.tcp_flags >> bit & 1]
        record |= {"tcp_flags": found.tcp_flags, "tcp_flag_names": names}
    notes = []
    if found.flags is not None and found.tcp_flags is not None:
        notes.append("flag_names if it is Flags= of an entry, tcp_flag_names if it is RxFlagsSeen= or TxFlagsSeen=")
    if found.flags is not None and CtFlags(found.flags).closing == CtFlags.RxClosing | CtFlags.TxClosing:
        notes.append("as Flags=: both sides closed" if found.tcp_flags is not None else "both sides closed")
    return record | ({"note": "; ".join(notes)} if notes else {})


#: Fields that a value without its key does not have.
_OF_THE_KEY = frozenset(
    ("map", "proto", "proto_name", "direction", "related", "src", "src_port", "dst", "dst_port", "tuple_flags")
)


def _entry(entry: CtEntry, layout: Layout, *, value_only: bool) -> dict[str, object]:
    record = entry_record(entry, layout=layout)
    if value_only:
        record = {name: value for name, value in record.items() if name not in _OF_THE_KEY}
    return {"kind": "value" if value_only else "entry", "layout": layout.value, **record}
