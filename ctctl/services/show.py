"""SNAT, load balancer, identity and endpoint tables as views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctctl.model.nat import NatEntry
from ctctl.model.service import (
    Backend,
    EndpointRecord,
    IpcacheRecord,
    MaglevTable,
    RevNat,
    ServiceFlags,
    ServiceSlot,
    SourceRange,
)
from ctctl.model.tuples import protocol_name
from ctctl.model.units import format_duration
from ctctl.out.output import Column, View
from ctctl.tables.show.entry import endpoint
from ctctl.tables.show.nat import nat_record


@dataclass(frozen=True, slots=True)
class Frontend:
    """A frontend with its slots in order, and names where they are known."""

    head: ServiceSlot
    slots: tuple[ServiceSlot, ...]
    backends: dict[int, Backend]
    name: str | None = None


def frontends(slots: Sequence[ServiceSlot], backends: Sequence[Backend], names: dict[str, str]) -> list[Frontend]:
    """Slots grouped by frontend, in order of address and port."""
    by_id = {backend.backend_id: backend for backend in backends}
    grouped: dict[tuple[Any, ...], list[ServiceSlot]] = {}
    for slot in slots:
        grouped.setdefault((slot.addr.version, int(slot.addr), slot.port, slot.proto or 0, slot.scope), []).append(slot)
    found = []
    for key in sorted(grouped):
        group = sorted(grouped[key], key=lambda slot: slot.slot)
        head = group[0]
        rest = tuple(slot for slot in group if slot.slot)
        found.append(Frontend(head, rest, by_id, names.get(f"service {head.rev_nat}", names.get(str(head.addr)))))
    return found


def _slot_text(frontend: Frontend, slot: ServiceSlot) -> str:
    backend = frontend.backends.get(slot.backend_id or 0)
    if backend is not None and backend.port is not None:
        state = f" ({backend.state})" if backend.state not in (None, "active") else ""
        return f"{slot.backend_id}:{endpoint(backend.addr, backend.port)}{state}"
    if slot.backend is not None:
        return slot.backend if slot.backend_id is None else f"{slot.backend_id}:{slot.backend}"
    return f"{slot.backend_id} (not in the backend table)"


def _flags(head: ServiceSlot) -> list[str]:
    if head.flags is None:
        return list(head.flag_words)
    return [str(flag.name) for flag in ServiceFlags if head.flags & flag]


def frontend_view() -> View[Frontend]:
    """``lb list``."""
    columns: list[Column[Frontend]] = [
        Column("frontend", "FRONTEND", lambda f: endpoint(f.head.addr, f.head.port)),
        Column("name", "NAME", lambda f: f.name),
        Column("proto", "PROTO", lambda f: f.head.proto, lambda f: _proto(f.head.proto)),
        Column("scope", "SCOPE", lambda f: f.head.scope, wide=True),
        Column("rev_nat", "REVNAT", lambda f: f.head.rev_nat, right=True),
        Column("type", "TYPE", lambda f: f.head.type),
        Column("flags", "FLAGS", lambda f: _flags(f.head), wide=True),
        Column("affinity_timeout", "AFFINITY", lambda f: f.head.affinity_timeout, _affinity, wide=True, right=True),
        Column("backends", "BACKENDS", lambda f: [_slot_text(f, slot) for slot in f.slots]),
    ]
    return View("ctctl/lb-frontend/v1", "frontends", columns, lambda f: endpoint(f.head.addr, f.head.port))


def _affinity(frontend: Frontend) -> str:
    timeout = frontend.head.affinity_timeout
    return format_duration(timeout) if timeout else "-"


def _proto(number: int | None) -> str:
    return protocol_name(number) if number else "ANY"


def backend_view() -> View[Backend]:
    """``lb list --backends``."""
    columns: list[Column[Backend]] = [
        Column("backend_id", "ID", lambda b: b.backend_id, right=True),
        Column("addr", "ADDRESS", lambda b: b.addr),
        Column("port", "PORT", lambda b: b.port, right=True),
        Column("proto", "PROTO", lambda b: b.proto, lambda b: _proto(b.proto)),
        Column("state", "STATE", lambda b: b.state),
        Column("cluster_id", "CLUSTER", lambda b: b.cluster_id, wide=True, right=True),
        Column("zone", "ZONE", lambda b: b.zone, wide=True, right=True),
    ]
    return View("ctctl/lb-backend/v1", "backends", columns, lambda b: str(b.backend_id))


def rev_nat_view() -> View[RevNat]:
    """``lb list --revnat``."""
    columns: list[Column[RevNat]] = [
        Column("rev_nat", "ID", lambda r: r.rev_nat, right=True),
        Column("addr", "ADDRESS", lambda r: r.addr),
        Column("port", "PORT", lambda r: r.port, right=True),
    ]
    return View("ctctl/lb-revnat/v1", "revnats", columns, lambda r: str(r.rev_nat))


def source_range_view() -> View[SourceRange]:
    """``lb list --source-ranges``."""
    columns: list[Column[SourceRange]] = [
        Column("rev_nat", "REVNAT", lambda r: r.rev_nat, right=True),
        Column("cidr", "CIDR", lambda r: r.cidr),
    ]
    return View("ctctl/lb-source-range/v1", "source_ranges", columns, lambda r: r.cidr)


def _share(table: MaglevTable) -> dict[str, int]:
    return {str(backend): table.table.count(backend) for backend in sorted(set(table.table))}


def maglev_view() -> View[MaglevTable]:
    """``lb list --maglev``: how the slots are shared; the whole table in JSON."""
    columns: list[Column[MaglevTable]] = [
        Column("rev_nat", "REVNAT", lambda m: m.rev_nat, right=True),
        Column("family", "FAMILY", lambda m: m.family, lambda m: f"v{m.family}"),
        Column("size", "SIZE", lambda m: len(m.table), right=True),
        Column("share", "SLOTS BY BACKEND", _share, lambda m: " ".join(f"{b}={n}" for b, n in _share(m).items())),
    ]

    def record(table: MaglevTable) -> dict[str, object]:
        return {"rev_nat": table.rev_nat, "family": table.family, "share": _share(table), "table": list(table.table)}

    return View("ctctl/lb-maglev/v1", "maglev", columns, lambda m: str(m.rev_nat), record)


def ipcache_view() -> View[IpcacheRecord]:
    """``ipcache list``."""
    columns: list[Column[IpcacheRecord]] = [
        Column("prefix", "PREFIX", lambda r: r.prefix),
        Column("identity", "IDENTITY", lambda r: r.identity, right=True),
        Column("tunnel_endpoint", "TUNNEL ENDPOINT", lambda r: r.tunnel_endpoint),
        Column("encrypt_key", "KEY", lambda r: r.encrypt_key, wide=True, right=True),
        Column("cluster_id", "CLUSTER", lambda r: r.cluster_id, wide=True, right=True),
        Column("skip_tunnel", "SKIP TUNNEL", lambda r: r.skip_tunnel, wide=True),
    ]
    return View("ctctl/ipcache-entry/v1", "prefixes", columns, lambda r: r.prefix)


def endpoint_view(names: dict[str, str]) -> View[EndpointRecord]:
    """``endpoint list``."""
    columns: list[Column[EndpointRecord]] = [
        Column("addr", "ADDRESS", lambda e: e.addr),
        Column("name", "NAME", lambda e: "host" if e.flags & 1 else names.get(str(e.addr))),
        Column("endpoint_id", "ID", lambda e: e.endpoint_id, right=True),
        Column("identity", "IDENTITY", lambda e: e.identity, right=True),
        Column("ifindex", "IFINDEX", lambda e: e.ifindex, right=True),
        Column("mac", "MAC", lambda e: e.mac),
        Column("node_mac", "NODE MAC", lambda e: e.node_mac, wide=True),
        Column("flags", "FLAGS", lambda e: e.flags, lambda e: f"{e.flags:#06x}", wide=True, right=True),
        Column("parent_ifindex", "PARENT", lambda e: e.parent_ifindex, wide=True, right=True),
    ]
    return View("ctctl/endpoint/v1", "endpoints", columns, lambda e: str(e.addr))


def nat_view(now: int | None) -> View[NatEntry]:
    """``nat list``; ``now`` turns the time of creation into an age."""

    def age(entry: NatEntry) -> int | None:
        if entry.age_s is not None:
            return entry.age_s
        return now - entry.created if now is not None and entry.created is not None else None

    def age_text(entry: NatEntry) -> str:
        seconds = age(entry)
        return "-" if seconds is None else format_duration(seconds)

    columns: list[Column[NatEntry]] = [
        Column("proto", "PROTO", lambda e: e.tuple.proto, lambda e: protocol_name(e.tuple.proto)),
        Column("direction", "DIR", lambda e: e.direction),
        Column("source", "SOURCE", lambda e: endpoint(e.tuple.src, e.tuple.src_port)),
        Column("destination", "DESTINATION", lambda e: endpoint(e.tuple.dst, e.tuple.dst_port)),
        Column("xlate", "XLATE", lambda e: e.xlate),
        Column("to", "TO", lambda e: endpoint(e.to_addr, e.to_port)),
        Column("age", "AGE", age, age_text, right=True),
        Column("needs_ct", "NEEDS CT", lambda e: e.needs_ct, wide=True, right=True),
        Column("related", "RELATED", lambda e: e.related, wide=True),
    ]

    def record(entry: NatEntry) -> dict[str, object]:
        return {**nat_record(entry), "age": age(entry)}

    return View("ctctl/nat-entry/v1", "entries", columns, str, record)
