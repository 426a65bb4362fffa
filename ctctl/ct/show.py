"""Connections, statistics, heavy hitters, differences and events as text and records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, TextIO

from ctctl.ct.report import Connection, CtEvent, Difference, Member, TableStats, Talker
from ctctl.model.clock import Clock
from ctctl.model.row import CtRow
from ctctl.model.units import format_duration
from ctctl.out.cells import jsonable
from ctctl.out.fetched import says_node
from ctctl.out.fit import prose
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_document, write_rows
from ctctl.out.text import safe
from ctctl.out.view import Column, View
from ctctl.tables.show.entry import ct_view, entry_name, row_record
from ctctl.tables.show.nat import nat_record
from ctctl.tables.show.tuples import tuple_record

CONNECTION_SCHEMA = "ctctl/connection/v1"
CONNECTIONS_SCHEMA = "ctctl/connections/v1"
STATS_SCHEMA = "ctctl/ct-stats/v1"
TOP_SCHEMA = "ctctl/ct-top/v1"
DIFF_SCHEMA = "ctctl/ct-diff/v1"
EVENT_SCHEMA = "ctctl/ct-event/v1"


# ---- ct get


def write_connections(
    found: Sequence[Connection], options: OutputOptions, stream: TextIO, *, raw: bool = False
) -> None:
    """The joined view of each connection, at most ``--limit``; several in JSON are one list.

    Their entries as rows where fields or an order are asked for, and with ``-o cilium`` and ``csv``.
    """
    rows = [member.row for connection in found for member in connection.members]
    as_rows = bool(options.fields or options.sort)
    if options.format in (Format.json, Format.jsonl, Format.yaml) and not as_rows:
        records = [connection_record(connection, raw=raw) for connection in found[: options.limit]]
        if len(records) > 1 and options.format is not Format.jsonl:
            write_document(CONNECTIONS_SCHEMA, {"connections": records}, options, stream)
            return
        for record in records:
            write_document(CONNECTION_SCHEMA, record, options, stream)
        return
    if options.format not in (Format.table, Format.wide) or as_rows:
        write_rows(ct_view(raw=raw), rows, options, stream)
        return
    several = says_node({row.node for row in rows})
    entries = replace(options, limit=None)
    for number, connection in enumerate(found[: options.limit]):
        stream.write("\n" if number else "")
        _write_connection(connection, entries, stream, several=several)


def _write_connection(found: Connection, options: OutputOptions, stream: TextIO, *, several: bool) -> None:
    """One connection for people; ``several``: with the nodes of its entries."""
    stream.write(prose(safe(found.why), stream))
    for note in found.notes:
        stream.write(prose(safe(note), stream, rest="  "))
    if found.service is not None:
        backend = found.backend
        via = f" via backend {found.backend_id}" if found.backend_id else ""
        where = f" at {backend.where}" if backend is not None else ""
        state = f" ({backend.state})" if backend is not None and backend.state else ""
        stream.write(prose(safe(f"service {found.service}{via}{where}{state}"), stream, rest="  "))
    for entry in found.nat:
        stream.write(prose(safe(f"snat {entry}"), stream, rest="  "))
    if found.members:
        stream.write("\n")
        write_rows(_member_view(nodes=several), found.members, options, stream)


def _member_view(*, nodes: bool = False) -> View[Member]:
    base = ct_view(nodes=nodes)

    def lifted(column: Column[CtRow]) -> Column[Member]:
        text, style, short = column.text, column.style, column.short
        return Column(
            column.name,
            column.title,
            lambda member: column.value(member.row),
            (lambda member: text(member.row)) if text is not None else None,
            column.wide,
            column.right,
            (lambda member: style(member.row)) if style is not None else None,
            prose=column.prose,
            short=(lambda member: short(member.row)) if short is not None else None,
        )

    role: Column[Member] = Column("role", "ROLE", lambda member: member.role)
    return View(
        CONNECTION_SCHEMA,
        "entries",
        [role, *(lifted(column) for column in base.columns)],
        lambda member: entry_name(member.row.entry),
        aliases=base.aliases,
    )


def connection_record(found: Connection, *, raw: bool = False) -> dict[str, object]:
    """A connection's JSON form."""
    return {
        "flow": tuple_record(found.flow),
        "state": found.state,
        "why": found.why,
        "notes": list(found.notes),
        "service": found.service,
        "backend_id": found.backend_id,
        "backend": None if found.backend is None else {k: jsonable(v) for k, v in asdict(found.backend).items()},
        "snat": [nat_record(entry) for entry in found.nat],
        "entries": [{"role": member.role, **row_record(member.row, raw=raw)} for member in found.members],
    }


# ---- ct stats


def stats_record(stats: TableStats) -> dict[str, object]:
    """One table's statistics. Histograms are lists of {"le_s": upper end, "count": n} without empty buckets."""
    record: dict[str, object] = asdict(stats)
    record["pressure"] = stats.pressure
    for name in ("remaining", "overdue", "idle"):
        counts = getattr(stats, name)
        record[name] = None if counts is None else _histogram(counts)
    return record


def _histogram(counts: Sequence[int]) -> list[dict[str, int]]:
    return [{"le_s": (1 << bucket) - 1, "count": count} for bucket, count in enumerate(counts) if count]


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.1f}%"


def _stats_columns(*, nodes: bool) -> list[Column[TableStats]]:
    def by(mapping: str, key: str, priority: int) -> Column[TableStats]:
        return Column(key, key.upper(), lambda s: getattr(s, mapping).get(key, 0), right=True, priority=priority)

    return [
        Column("node", "NODE", lambda s: s.node, wide=not nodes),
        Column("map", "MAP", lambda s: s.map),
        Column("entries", "ENTRIES", lambda s: s.entries, right=True),
        Column("capacity", "CAPACITY", lambda s: s.capacity, right=True),
        Column("pressure", "PRESSURE", lambda s: s.pressure, lambda s: _percent(s.pressure), right=True),
        Column("expired", "EXPIRED", lambda s: s.expired, right=True),
        by("by_direction", "OUT", 5),
        by("by_direction", "IN", 5),
        by("by_direction", "SVC", 5),
        Column("related", "RELATED", lambda s: s.related, right=True, priority=6),
        by("by_state", "new", 2),
        by("by_state", "established", 1),
        by("by_state", "closing", 3),
        by("by_state", "closed", 4),
        Column("half_open", "HALF_OPEN", lambda s: s.half_open, wide=True, right=True),
        Column("half_closed", "HALF_CLOSED", lambda s: s.half_closed, wide=True, right=True),
        Column(
            "by_protocol",
            "PROTOCOLS",
            lambda s: s.by_protocol,
            lambda s: " ".join(f"{name}={number}" for name, number in s.by_protocol.items()) or "-",
            priority=7,
        ),
        Column("engine", "ENGINE", lambda s: s.engine, wide=True),
    ]


def write_stats(found: Iterable[TableStats], options: OutputOptions, stream: TextIO) -> None:
    """The table of counts; with ``-o wide`` also histograms of the time left, overdue and idle."""
    tables = list(found)
    nodes = says_node({stats.node for stats in tables})
    view = View(
        STATS_SCHEMA,
        "tables",
        _stats_columns(nodes=nodes),
        lambda s: s.map,
        stats_record,
        extra=[
            Column(name, name.upper(), lambda s, name=name: stats_record(s)[name])  # type: ignore[misc]
            for name in ("by_direction", "by_state", "flags", "remaining", "overdue", "idle")
        ],
        aliases={"out": "OUT", "in": "IN", "svc": "SVC", "protocols": "by_protocol"},
    )
    write_rows(view, tables, options, stream)
    if options.format is Format.wide and not options.fields:
        for stats in tables:
            for name, title in (("remaining", "time left"), ("overdue", "expired since"), ("idle", "idle")):
                counts = getattr(stats, name)
                if counts and any(counts):
                    whose = f"{stats.node}: " if nodes and stats.node is not None else ""
                    stream.write(f"\n{safe(whose + stats.map)}: {title}\n")
                    _write_histogram(counts, stream)


def _write_histogram(counts: Sequence[int], stream: TextIO) -> None:
    used = [bucket for bucket, count in enumerate(counts) if count]
    most = max(counts)
    for bucket in range(used[0], used[-1] + 1):
        label = format_duration((1 << bucket) - 1)
        bar = "#" * max(counts[bucket] * 40 // most, 1 if counts[bucket] else 0)
        stream.write(f"  up to {label:>12}  {counts[bucket]:>9}  {bar}".rstrip() + "\n")


# ---- ct top


def top_view(by: str, talkers: Iterable[Talker] = ()) -> View[Talker]:
    """The view of heavy hitters, with the node where the keys of some are a node's own numbers."""
    nodes = any(talker.node for talker in talkers)
    columns: list[Column[Talker]] = [
        Column("node", "NODE", lambda t: t.node, wide=not nodes),
        Column("key", by.replace("-", "_").upper(), lambda t: t.key, width=20),
        Column("name", "NAME", lambda t: t.name, width=12, prose=True),
        Column("entries", "ENTRIES", lambda t: t.entries, right=True, width=8),
        Column(
            "rate",
            "RATE",
            lambda t: t.rate,
            lambda t: "-" if t.rate is None else f"{t.rate:+.1f}",
            right=True,
            priority=4,
        ),
        Column("expired", "EXPIRED", lambda t: t.expired, right=True, width=8, priority=1),
        Column("packets", "PACKETS", lambda t: t.packets, right=True, width=8, priority=3),
        Column("bytes", "BYTES", lambda t: t.bytes, right=True, width=8, priority=2),
    ]
    return View(
        TOP_SCHEMA,
        "talkers",
        columns,
        lambda t: t.key,
        lambda t: {"by": by, **asdict(t)},
        extra=[Column("by", "BY", lambda _: by)],
        aliases={by.replace("-", "_"): "key"},
    )


# ---- ct diff and ct events


#: Titles of columns that stand for a longer name.
_SHORT = {"dir": "direction"}


def _fields_text(row: CtRow, fields: dict[str, tuple[object, object]]) -> str:
    """What changed, in the words of a trace; times relative to the row's, where the table's clock is known."""
    from ctctl.events.lines import ARROW, value_words  # with the hooks' events, which only these lines need

    clock, now = row.clock or Clock(), row.now
    words = []
    for name, (old, new) in fields.items():
        before, after = (value_words(name, value, clock, now) for value in (old, new))
        words.append(f"{name} {before} {ARROW} {after}")
    return ", ".join(words) or "-"


def _fields_record(fields: dict[str, tuple[object, object]]) -> dict[str, Any]:
    return {name: {"before": _plain(old), "after": _plain(new)} for name, (old, new) in fields.items()}


def _plain(value: object) -> object:
    return int(value) if isinstance(value, int) else jsonable(value)


SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_SIGN_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}
#: The same as escape sequences have them.
SIGN_CODES = {"added": "32", "removed": "31", "changed": "33"}


def diff_view() -> View[Difference]:
    """The view of differences."""
    columns: list[Column[Difference]] = [
        Column(
            "change",
            "CHANGE",
            lambda d: d.change,
            lambda d: SIGNS[d.change.value],
            style=lambda d: _SIGN_STYLES[d.change.value],
        ),
        Column("map", "MAP", lambda d: d.row.entry.map, wide=True),
        Column("direction", "DIR", lambda d: d.row.entry.direction),
        Column("entry", "ENTRY", lambda d: entry_name(d.row.entry), prose=True),
        Column("state", "STATE", lambda d: d.row.entry.state),
        Column(
            "fields", "FIELDS", lambda d: _fields_record(d.fields), lambda d: _fields_text(d.row, d.fields), prose=True
        ),
    ]
    return View(
        DIFF_SCHEMA, "differences", columns, lambda d: entry_name(d.row.entry), _difference_record, aliases=_SHORT
    )


def _difference_record(difference: Difference) -> dict[str, object]:
    return {
        "change": difference.change.value,
        "entry": row_record(difference.row),
        "fields": _fields_record(difference.fields),
    }


_EVENT_STYLES = {"NEW": "cyan", "UPDATE": "", "CLOSING": "yellow", "DESTROY": "red"}


def _clock_text(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment * 1000) % 1000:03d}"


def event_view() -> View[CtEvent]:
    """The view of events, for streaming."""
    columns: list[Column[CtEvent]] = [
        Column("time", "TIME", lambda e: e.time, lambda e: _clock_text(e.time), width=12),
        Column("event", "EVENT", lambda e: e.kind, style=lambda e: _EVENT_STYLES[e.kind.value], width=7),
        Column("direction", "DIR", lambda e: e.row.entry.direction, width=3),
        Column("entry", "ENTRY", lambda e: entry_name(e.row.entry), width=50, prose=True),
        Column("state", "STATE", lambda e: e.row.entry.state, width=11),
        Column("cause", "CAUSE", lambda e: e.cause, wide=True, width=14),
        Column(
            "fields", "FIELDS", lambda e: _fields_record(e.fields), lambda e: _fields_text(e.row, e.fields), prose=True
        ),
    ]
    return View(EVENT_SCHEMA, "events", columns, lambda e: entry_name(e.row.entry), _event_record, aliases=_SHORT)


def _event_record(event: CtEvent) -> dict[str, object]:
    return {
        "event": event.kind.value,
        "time": event.time,
        "cause": event.cause,
        "entry": row_record(event.row),
        "fields": _fields_record(event.fields),
    }
