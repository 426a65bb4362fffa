"""What ``ctctl ct list -o json|jsonl|yaml`` wrote, read back; raw bytes are used where ``--raw`` kept them."""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

from ctctl.decode.ct import KEY_SIZE, OPTIONAL_FIELDS, direction_of, encode_key, encode_value, table_name
from ctctl.errors import CtctlError, DecodeError, UsageError
from ctctl.model.clock import parse_clock
from ctctl.model.entry import CtEntry, CtFlags, Layout
from ctctl.model.tuples import FlowTuple
from ctctl.tables.sources.ct_elements import own_like
from ctctl.tables.sources.documents import DECODER, ELEMENT_WORK, Elements, YamlItems, json_array, yaml_value
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.regular import ElementRuns, Learned, Sample
from ctctl.tables.sources.stream import Lines
from ctctl.tables.sources.values import address, whole

_NUMBERS = {
    "lifetime": 32,
    "rev_nat": 16,
    "src_sec_id": 32,
    "tx_flags_seen": 8,
    "rx_flags_seen": 8,
    "last_tx_report": 32,
    "last_rx_report": 32,
}
_OPTIONAL_BITS = {"ifindex": 16, "nat_port": 16}
#: A name of a table; anything else is no name that a kernel or a program gave.
_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")
_HEAD = 1 << 16


def read_line(lines: Lines, dump: Dump) -> tuple[dict[str, Any] | None, str]:
    """One line of JSON lines: its record (None: it is none) and its text. One that is cut off is said to be missing."""
    line = lines.next() or ""
    try:
        record = DECODER.decode(line)
    except (ValueError, RecursionError):
        dump.partial.append(f"a line that is no JSON: {line[:60]!r}")
        return None, line
    try:
        add(dump, record)
    except DecodeError as error:
        dump.lose("record(s)", str(error))
        return None, line
    return record, line


def _take(items: Iterator[Any], dump: Dump, spend: Callable[[int], None], others: Callable[[Any], None]) -> None:
    try:
        for record in items:
            spend(ELEMENT_WORK)
            try:
                add(dump, record)
            except DecodeError as error:
                dump.lose("record(s)", str(error))
            else:
                others(record)
    except DecodeError as error:
        dump.partial.append(str(error))


def record_like(dump: Dump, sample: Sample) -> Learned | None:
    """The form of records like this one, which was added. None: it is written in a way that tells none."""
    return own_like(dump.of_node(sample.element.get("node")), sample, layout_of(sample.element))


def read_document(lines: Lines, dump: Dump) -> None:
    """One JSON object with the list of entries last."""
    head = lines.peek(_HEAD)
    match = re.search(r'"entries": \[', head)
    if match is None:
        dump.partial.append("the document has no list of entries")
        lines.next()
        return
    try:
        _take_meta(dump, DECODER.decode(head[: match.start()].strip().rstrip(",") + "}"))
    except (ValueError, RecursionError) as error:
        dump.partial.append(f"damaged JSON: {error}")
    _pass(lines, len(head[: match.end() - 1].encode()))
    elements, runs = Elements(lines), ElementRuns(functools.partial(record_like, dump))

    def others(record: Any) -> None:
        runs.read_on(elements, lambda: elements.sample(record))

    _take(json_array(elements), dump, lines.spend, others)
    closing = lines.next()
    if closing is not None and closing.strip() not in ("}", ""):
        lines.back(closing + "\n")


def _pass(lines: Lines, size: int) -> None:
    while size > 0 and (part := lines.read(size)):
        size -= len(part)


def read_yaml(lines: Lines, dump: Dump) -> None:
    """The YAML form: a head, then the list of entries."""
    head: list[str] = []
    size = 0
    while (line := lines.next()) is not None and not line.startswith("entries:") and size < _HEAD:
        head.append(line)
        size += len(line)
    if line is None or not line.startswith("entries:"):
        dump.partial.append("the document has no list of entries")
        return
    try:
        _take_meta(dump, yaml_value("\n".join(head)))
    except DecodeError as error:
        dump.partial.append(str(error))
    if line.strip() == "entries:":
        items, runs = YamlItems(lines), ElementRuns(functools.partial(record_like, dump))

        def others(record: Any) -> None:
            runs.read_on(lines, lambda: items.sample(record))
            lines.spend(runs.work)

        _take(iter(items), dump, lines.spend, others)


def _take_meta(dump: Dump, meta: Any) -> None:
    if not isinstance(meta, dict):
        return
    clocks = meta.get("clock")
    if isinstance(clocks, list) and len(clocks) == 1 and isinstance(clocks[0], dict):
        try:
            dump.clock = parse_clock(str(clocks[0].get("clock"))[:20], str(clocks[0].get("evidence", ""))[:200])
        except UsageError:
            dump.partial.append("the document names a clock that is none")
    now = meta.get("now")
    if isinstance(now, int) and not isinstance(now, bool) and 0 <= now < 1 << 40:
        dump.now = now


def add(dump: Dump, record: Any, evidence: str = "the records' fields") -> None:
    """One entry's record, to the node that it names. Raises DecodeError if it is none.

    ``evidence``: of the layout that its fields are in.
    """
    try:
        entry, layout = _entry_of(record)
        family = 6 if ":" in record["src"] or ":" in record["dst"] else 4
        name = entry.map or table_name(family, entry.tuple.proto)
        raw = record.get("key_hex") is not None and record.get("value_hex") is not None
        if raw:
            key, value = bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])
        else:
            key, value = encode_key(entry.tuple, entry.tuple_flags, family), encode_value(entry, layout)
    except (KeyError, TypeError, ValueError, OverflowError, struct.error, CtctlError) as error:
        raise DecodeError(f"no conntrack record of ctctl: {error}") from error
    table = dump.of_node(record.get("node")).table(name, family)
    if not len(table):
        table.layout, table.evidence, table.raw = layout, evidence, raw
        table.absent = frozenset(field for field in OPTIONAL_FIELDS if field in record and record[field] is None)
    table.absent &= frozenset(field for field in OPTIONAL_FIELDS if record.get(field) is None)
    table.raw = table.raw and raw
    if len(key) != KEY_SIZE[table.family]:
        raise DecodeError(f"{name}: entries of both families in one table")
    table.add(key, value)
    remaining = record.get("remaining")
    if isinstance(remaining, int) and not isinstance(remaining, bool):
        table.show(entry.lifetime, remaining, max(entry.last_tx_report, entry.last_rx_report))


def _entry_of(record: Any) -> tuple[CtEntry, Layout]:
    if not isinstance(record, dict):
        raise DecodeError("it is no object")
    flow = FlowTuple(
        whole(record["proto"], 8),
        address(record["src"]),
        whole(record["src_port"], 16),
        address(record["dst"]),
        whole(record["dst_port"], 16),
    )
    name = record.get("map")
    if name is not None and (not isinstance(name, str) or _NAME.fullmatch(name) is None):
        raise DecodeError(f"{str(name)[:40]!r} is no table's name")
    flags = whole(record["tuple_flags"], 8)
    plain: dict[str, Any] = {field: whole(record[field], bits) for field, bits in _NUMBERS.items()}
    optional: dict[str, Any] = {field: _optional(record, field) for field in OPTIONAL_FIELDS}
    entry = CtEntry(
        map=name,
        tuple=flow,
        direction=direction_of(flags),
        related=bool(flags & 2),
        tuple_flags=flags,
        flags=CtFlags(whole(record["flags"], 16)),
        **plain,
        **optional,
    )
    return entry, layout_of(record)


def layout_of(record: dict[str, Any]) -> Layout:
    """The layout of a record, by the fields that it has."""
    told = (("rx_packets", Layout.V1_15), ("ifindex", Layout.V1_16), ("nat_port", Layout.V1_19))
    return next((layout for name, layout in told if name in record), Layout.V1_18)


def _optional(record: dict[str, Any], field: str) -> int | str | None:
    value = record.get(field)
    if value is None:
        return None
    return str(address(value)) if field == "nat_addr" else whole(value, _OPTIONAL_BITS.get(field, 64))
