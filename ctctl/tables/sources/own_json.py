"""What ``ctctl ct list -o json|jsonl|yaml`` wrote, read back; raw bytes are used where ``--raw`` kept them."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from typing import Any

from ctctl.decode.ct import KEY_SIZE, OPTIONAL_FIELDS, direction_of, encode_key, encode_value, table_name
from ctctl.errors import DecodeError
from ctctl.model.clock import parse_clock
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import FlowTuple
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import EndedEarlyError, Prefixed, Reader, json_array, lines, text_of, yaml_items

_NUMBERS = (
    "lifetime",
    "rev_nat",
    "src_sec_id",
    "tx_flags_seen",
    "rx_flags_seen",
    "last_tx_report",
    "last_rx_report",
)


def read_lines(stream: Reader, dump: Dump) -> None:
    """JSON lines. A last line that is cut off is said to be missing."""
    for line in lines(stream):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            dump.partial.append(f"a line that is no JSON: {line[:60]!r}")
            continue
        add(dump, record)


def read_document(stream: Reader, dump: Dump) -> None:
    """One JSON object with the list of entries last. Raises DecodeError for any other."""
    source = stream if isinstance(stream, Prefixed) else Prefixed(b"", stream)
    head = text_of(source.peek(1 << 16))
    match = re.search(r'"entries": \[', head)
    if match is None:
        raise DecodeError("the document has no list of entries")
    try:
        _take_meta(dump, json.loads(head[: match.start()].rstrip().rstrip(",") + "}"))
    except ValueError as error:
        raise DecodeError(f"damaged JSON: {error}") from error
    source.read(len(head[: match.end() - 1].encode()))
    try:
        for record in json_array(source):
            add(dump, record)
    except EndedEarlyError as error:
        dump.partial.append(str(error))


def read_yaml(stream: Reader, dump: Dump) -> None:
    """The YAML form: a head, then the list of entries."""
    source = stream if isinstance(stream, Prefixed) else Prefixed(b"", stream)
    head = text_of(source.peek(1 << 16))
    match = re.search(r"^entries:.*\n", head, re.MULTILINE)
    if match is None:
        raise DecodeError("the document has no list of entries")
    import yaml

    try:
        _take_meta(dump, yaml.safe_load(head[: match.start()]))
    except yaml.YAMLError as error:
        raise DecodeError(f"damaged YAML: {error}") from error
    source.read(len(head[: match.end()].encode()))
    try:
        for record in yaml_items(source):
            add(dump, record)
    except EndedEarlyError as error:
        dump.partial.append(str(error))


def _take_meta(dump: Dump, meta: Any) -> None:
    if not isinstance(meta, dict):
        return
    clocks = meta.get("clock") or []
    if len(clocks) == 1 and isinstance(clocks[0], dict):
        dump.clock = parse_clock(str(clocks[0].get("clock")), str(clocks[0].get("evidence", "")))
    if isinstance(meta.get("now"), int):
        dump.now = meta["now"]


def add(dump: Dump, record: Any) -> None:
    """One entry's record. Raises DecodeError if it is none."""
    try:
        entry, layout = _entry_of(record)
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"no conntrack record of ctctl: {error}") from error
    family = 6 if ":" in record["src"] or ":" in record["dst"] else 4
    name = entry.map or table_name(family, entry.tuple.proto)
    table = dump.table(name, family)
    raw = record.get("key_hex") is not None and record.get("value_hex") is not None
    if not len(table):
        table.layout, table.evidence, table.raw = layout, "the records' fields", raw
        table.absent = frozenset(field for field in OPTIONAL_FIELDS if field in record and record[field] is None)
    table.absent &= frozenset(field for field in OPTIONAL_FIELDS if record.get(field) is None)
    table.raw = table.raw and raw
    if raw:
        key, value = bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])
    else:
        key, value = encode_key(entry.tuple, entry.tuple_flags, family), encode_value(entry, layout)
    if len(key) != KEY_SIZE[table.family]:
        raise DecodeError(f"{name}: entries of both families in one table")
    table.add(key, value)
    remaining = record.get("remaining")
    if isinstance(remaining, int):
        table.pair(entry.lifetime, remaining)


def _entry_of(record: dict[str, Any]) -> tuple[CtEntry, Layout]:
    told = (("rx_packets", Layout.V1_15), ("ifindex", Layout.V1_16), ("nat_port", Layout.V1_19))
    layout = next((layout for name, layout in told if name in record), Layout.V1_18)
    flow = FlowTuple(
        int(record["proto"]),
        ip_address(record["src"]),
        int(record["src_port"]),
        ip_address(record["dst"]),
        int(record["dst_port"]),
    )
    flags = int(record["tuple_flags"])
    plain: dict[str, Any] = {name: int(record[name]) for name in _NUMBERS}
    optional: dict[str, Any] = {name: record.get(name) for name in OPTIONAL_FIELDS}
    entry = CtEntry(
        map=record.get("map"),
        tuple=flow,
        direction=direction_of(flags),
        related=bool(flags & 2),
        tuple_flags=flags,
        flags=CtFlags(int(record["flags"])),
        **plain,
        **optional,
    )
    return entry, layout
