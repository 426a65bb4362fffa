"""Conntrack entries as tables, records and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctctl.decode.ct import LAYOUT_LACKS, flag_names, other_bits
from ctctl.model.clock import Clock
from ctctl.model.entry import CtState, Layout
from ctctl.model.tuples import PROTOCOL_NAMES, Address, endpoint, protocol_name
from ctctl.model.units import format_duration, short_duration
from ctctl.out.view import Column, View
from ctctl.tables.query.aliases import ALIASES

if TYPE_CHECKING:
    from ctctl.model.entry import CtEntry
    from ctctl.model.row import CtRow
    from ctctl.tables.sources.base import CtTable

SCHEMA = "ctctl/ct-entry/v1"

_STYLES = {CtState.NEW: "cyan", CtState.ESTABLISHED: "green", CtState.CLOSING: "yellow", CtState.CLOSED: "dim"}
_PLAIN = (
    "backend_id",
    "packets",
    "bytes",
    "rx_packets",
    "rx_bytes",
    "tx_packets",
    "tx_bytes",
    "rev_nat",
    "ifindex",
    "tx_flags_seen",
    "rx_flags_seen",
    "src_sec_id",
    "last_tx_report",
    "last_rx_report",
    "tuple_flags",
)

_HEAD = (
    *("map", "proto", "proto_name", "direction", "related", "src", "src_port", "dst", "dst_port"),
    *("state", "lifetime", "flags", "flag_names", "other_bits"),
)


def protocol_word(proto: int) -> str | None:
    """The protocol's name in JSON: "ANY" for 0, null where it has none."""
    return PROTOCOL_NAMES.get(proto) if proto else "ANY"


def entry_record(
    entry: CtEntry,
    *,
    layout: Layout = Layout.V1_16,
    clock: Clock | None = None,
    now: int | None = None,
    raw: bool = False,
) -> dict[str, object]:
    """An entry's JSON form. Fields the layout does not have are left out; those the source lacks are null.

    ``now`` adds ``remaining`` (seconds) and ``expired``, ``raw`` adds ``key_hex`` and ``value_hex``.
    """
    flow, flags = entry.tuple, int(entry.flags)
    record: dict[str, object] = {
        "map": entry.map,
        "proto": flow.proto,
        "proto_name": protocol_word(flow.proto),
        "direction": entry.direction.value,
        "related": entry.related,
        "src": str(flow.src),
        "src_port": flow.src_port,
        "dst": str(flow.dst),
        "dst_port": flow.dst_port,
        "state": entry.state.value,
        "lifetime": entry.lifetime,
        "flags": flags,
        "flag_names": flag_names(flags),
        "other_bits": other_bits(flags),
    }
    lacks = LAYOUT_LACKS[layout]
    record.update((name, getattr(entry, name)) for name in _PLAIN if name not in lacks)
    record.update((name, getattr(entry, name)) for name in ("nat_addr", "nat_port") if name not in lacks)
    if now is not None:
        record["remaining"] = (clock or Clock()).remaining_s(entry.lifetime, now)
        record["expired"] = entry.expired(now)
    if raw:
        record["key_hex"] = entry.key.hex() if entry.key is not None else None
        record["value_hex"] = entry.value.hex() if entry.value is not None else None
    return record


def record_fields(table: CtTable, *, raw: bool = False) -> list[str]:
    """The keys of a row's JSON form (``row_record``), in order; names stand only where they are known."""
    lacks = LAYOUT_LACKS[table.layout]
    names = [*_HEAD, *(name for name in (*_PLAIN, "nat_addr", "nat_port") if name not in lacks)]
    names += ["remaining", "expired"] if table.now is not None else []
    names += ["key_hex", "value_hex"] if raw and table.raw else []
    return [*names, *(["node"] if table.node is not None else []), "src_name", "dst_name", "backend", "src_identity"]


def entry_name(entry: CtEntry) -> str:
    """One word-like line that names an entry and that ``ct get`` takes."""
    flow = entry.tuple
    return (
        f"{protocol_name(flow.proto).lower()} {endpoint(flow.src, flow.src_port)} > {endpoint(flow.dst, flow.dst_port)}"
    )


def flags_text(flags: int) -> str:
    """Names of the set bits, the rest as hex."""
    rest = other_bits(flags)
    return " ".join([*flag_names(flags), *([f"0x{rest:04x}"] if rest else [])]) or "-"


def _named(row: CtRow, address: Address, port: int) -> str:
    name = row.names.get(str(address))
    return endpoint(address, port) + (f" ({name})" if name else "")


def _remaining(row: CtRow) -> str:
    left = row.remaining_s
    if left is None:
        return "-"
    return f"expired {format_duration(-left)} ago" if row.expired else format_duration(left)


def state_words(state: CtState, *, related: bool, expired: bool | None) -> tuple[str, str]:
    """What stands before and behind the time in ``state_text``; ``expired`` None: no time is known."""
    word = state.value
    if related:  # an ICMP error's entry stays new: that it is related is all there is to say
        word = "related" if state is CtState.NEW else f"{word} related"
    if expired is None:
        return word, ""
    return f"{word}, ", " over" if expired else " left"


def state_text(state: CtState, *, related: bool, left: int | None, expired: bool | None) -> str:
    """The state of an entry and its time in words: ``established, 2h13m left``, ``closed, 8s over``."""
    before, behind = state_words(state, related=related, expired=bool(expired) if left is not None else None)
    return before + (short_duration(abs(left)) + behind if left is not None else "")


def _state(row: CtRow) -> str:
    entry = row.entry
    return state_text(entry.state, related=entry.related, left=row.remaining_s, expired=row.expired)


def _short(row: CtRow, address: Address, port: int) -> str:
    name = row.names.get(str(address))
    return f"{name}:{port}" if name is not None else endpoint(address, port)


def _style(row: CtRow) -> str:
    return "red dim" if row.expired else _STYLES[row.entry.state]


def _backend_name(row: CtRow) -> str | None:
    backend = row.entry.backend_id
    return row.names.get(f"backend {backend}") if backend else None


def _identity_name(row: CtRow) -> str | None:
    """Reserved name or labels of the source's identity; 0, which is also "not told", has none."""
    number = row.entry.src_sec_id
    return row.names.get(f"identity {number}") if number else None


def _identity(row: CtRow) -> str:
    name = _identity_name(row)
    return f"{row.entry.src_sec_id} ({name})" if name is not None else str(row.entry.src_sec_id)


def _backend(row: CtRow) -> str:
    number, name = row.entry.backend_id, _backend_name(row)
    return "-" if number is None else f"{number} ({name})" if name is not None else str(number)


def _rev_nat(row: CtRow) -> str:
    name = row.names.get(f"rev-nat {row.entry.rev_nat}")
    return f"{row.entry.rev_nat} ({name})" if name is not None else str(row.entry.rev_nat)


def _shown() -> list[Column[CtRow]]:
    """What tables show."""
    return [
        Column("proto", "PROTO", lambda r: r.entry.tuple.proto, lambda r: protocol_name(r.entry.tuple.proto), width=6),
        Column("direction", "DIR", lambda r: r.entry.direction, width=3),
        Column(
            "source",
            "SOURCE",
            lambda r: endpoint(r.entry.tuple.src, r.entry.tuple.src_port),
            lambda r: _named(r, r.entry.tuple.src, r.entry.tuple.src_port),
            width=21,
            short=lambda r: _short(r, r.entry.tuple.src, r.entry.tuple.src_port),
        ),
        Column(
            "destination",
            "DESTINATION",
            lambda r: endpoint(r.entry.tuple.dst, r.entry.tuple.dst_port),
            lambda r: _named(r, r.entry.tuple.dst, r.entry.tuple.dst_port),
            width=21,
            short=lambda r: _short(r, r.entry.tuple.dst, r.entry.tuple.dst_port),
        ),
        Column("state", "STATE", lambda r: r.entry.state, _state, style=_style, width=23),
        Column("remaining", "REMAINING", lambda r: r.remaining_s, _remaining, wide=True, right=True, style=_style),
        Column(
            "flag_names",
            "FLAG_NAMES",
            lambda r: flag_names(int(r.entry.flags)),
            lambda r: flags_text(int(r.entry.flags)),
            wide=True,
        ),
        Column("rev_nat", "REV_NAT", lambda r: r.entry.rev_nat, _rev_nat, wide=True),
        Column("backend_id", "BACKEND_ID", lambda r: r.entry.backend_id, _backend, wide=True),
        Column("src_sec_id", "SRC_SEC_ID", lambda r: r.entry.src_sec_id, _identity, wide=True, right=True),
        _counter("packets"),
        _counter("bytes"),
        Column(
            "tx_flags_seen",
            "TX_FLAGS_SEEN",
            lambda r: r.entry.tx_flags_seen,
            lambda r: f"{r.entry.tx_flags_seen:#04x}",
            True,
        ),
        Column(
            "rx_flags_seen",
            "RX_FLAGS_SEEN",
            lambda r: r.entry.rx_flags_seen,
            lambda r: f"{r.entry.rx_flags_seen:#04x}",
            True,
        ),
        _wide("lifetime", "LIFETIME"),
        _wide("ifindex", "IFINDEX"),
        Column("map", "MAP", lambda r: r.entry.map, wide=True),
        Column("node", "NODE", lambda r: r.node, wide=True),
    ]


def _hidden(*, raw: bool) -> list[Column[CtRow]]:
    """What only --fields and --sort know."""
    hidden: list[Column[CtRow]] = [
        Column("proto_name", "PROTO_NAME", lambda r: protocol_word(r.entry.tuple.proto)),
        Column("src", "SRC", lambda r: r.entry.tuple.src),
        Column("src_port", "SRC_PORT", lambda r: r.entry.tuple.src_port, right=True),
        Column("dst", "DST", lambda r: r.entry.tuple.dst),
        Column("dst_port", "DST_PORT", lambda r: r.entry.tuple.dst_port, right=True),
        Column("related", "RELATED", lambda r: r.entry.related),
        Column("expired", "EXPIRED", lambda r: r.expired),
        Column("idle", "IDLE", lambda r: r.idle_s, right=True),
        Column("flags", "FLAGS", lambda r: int(r.entry.flags), lambda r: f"{int(r.entry.flags):#06x}", right=True),
        Column("other_bits", "OTHER_BITS", lambda r: other_bits(int(r.entry.flags)), right=True),
        Column("src_name", "SRC_NAME", lambda r: r.names.get(str(r.entry.tuple.src))),
        Column("dst_name", "DST_NAME", lambda r: r.names.get(str(r.entry.tuple.dst))),
        Column("source_short", "SOURCE", lambda r: _short(r, r.entry.tuple.src, r.entry.tuple.src_port)),
        Column("destination_short", "DESTINATION", lambda r: _short(r, r.entry.tuple.dst, r.entry.tuple.dst_port)),
        Column("backend", "BACKEND", _backend_name),
        Column("src_identity", "SRC_IDENTITY", _identity_name),
        Column("nat_addr", "NAT_ADDR", lambda r: r.entry.nat_addr),
        Column("nat_port", "NAT_PORT", lambda r: r.entry.nat_port, right=True),
        *(_wide(name, name.upper()) for name in ("last_tx_report", "last_rx_report", "tuple_flags")),
        *map(_counter, ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")),
    ]
    if raw:
        hidden += [
            Column("key_hex", "KEY_HEX", lambda r: r.entry.key if r.raw else None),
            Column("value_hex", "VALUE_HEX", lambda r: r.entry.value if r.raw else None),
        ]
    return hidden


def _wide(name: str, title: str) -> Column[CtRow]:
    return Column(name, title, lambda r: getattr(r.entry, name), wide=True, right=True)


def _seen(name: str) -> Column[CtRow]:
    """A byte of TCP flags, in tables as hex."""
    return Column(
        name, name.upper(), lambda r: getattr(r.entry, name), lambda r: f"{getattr(r.entry, name):#04x}", True
    )


_PACKET_COUNTERS = ("packets", "rx_packets", "tx_packets")


def counted(entry: CtEntry) -> bool:
    """Whether the entry's counters count: each entry was made by a packet, so one that counts has one at least."""
    return any(getattr(entry, name) for name in _PACKET_COUNTERS)


def _counter(name: str) -> Column[CtRow]:
    """A counter, absent where accounting is off (the record has zeros then)."""
    title = name.upper()
    return Column(name, title, lambda r: getattr(r.entry, name) if counted(r.entry) else None, wide=True, right=True)


def row_record(row: CtRow, *, raw: bool = False) -> dict[str, object]:
    """A row's JSON form: the entry's, the node it is of, and names where they are known."""
    record = entry_record(row.entry, layout=row.layout, clock=row.clock, now=row.now, raw=raw and row.raw)
    if row.node is not None:
        record["node"] = row.node
    for side, address in (("src_name", row.entry.tuple.src), ("dst_name", row.entry.tuple.dst)):
        name = row.names.get(str(address))
        if name is not None:
            record[side] = name
    backend = _backend_name(row)
    if backend is not None:
        record["backend"] = backend
    identity = _identity_name(row)
    if identity is not None:
        record["src_identity"] = identity
    return record


def ct_view(*, raw: bool = False, nodes: bool = False, time_diff: bool = False) -> View[CtRow]:
    """The view of conntrack rows. ``nodes``: several nodes, so say which; ``raw``: bytes as hex too."""
    shown, hidden = _shown(), _hidden(raw=raw)
    if nodes:
        shown = [column for column in shown if column.name != "node"]
        shown.insert(0, Column("node", "NODE", lambda r: r.node))
    return View(
        schema=SCHEMA,
        plural="entries",
        columns=shown,
        name=lambda row: entry_name(row.entry),
        record=lambda row: row_record(row, raw=raw),
        cilium=lambda row: _cilium_line(row, time_diff=time_diff),
        extra=hidden,
        aliases=ALIASES,
    )


def _cilium_line(row: CtRow, *, time_diff: bool) -> str:
    from ctctl.tables.show.cilium import cilium_line

    return cilium_line(row.entry, row.layout, row.clock, row.now if time_diff else None) or ""


#: Every field that --fields, --sort know, for completion and help.
def field_names() -> list[str]:
    """Names of all fields of a conntrack row."""
    return [column.name for column in (*_shown(), *_hidden(raw=True))]
