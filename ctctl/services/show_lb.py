"""Load balancer tables as views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from ctctl.model.service import (
    Backend,
    MaglevTable,
    RevNat,
    ServiceFlags,
    ServiceSlot,
    SourceRange,
)
from ctctl.model.tuples import Address, endpoint, protocol_name
from ctctl.model.units import format_duration
from ctctl.out.view import Column, View
from ctctl.tables.show import listings


@dataclass(frozen=True, slots=True)
class Frontend:
    """A frontend with its slots in order, and names where they are known; no ``backends``: nothing shows that table."""

    head: ServiceSlot
    slots: tuple[ServiceSlot, ...]
    backends: dict[int, Backend] | None
    name: str | None = None


def frontends(
    slots: Sequence[ServiceSlot], backends: Sequence[Backend] | None, names: dict[str, str]
) -> list[Frontend]:
    """Slots grouped by frontend, in order of address and port; ``backends``: None where nothing shows that table."""
    by_id = None if backends is None else {backend.backend_id: backend for backend in backends}
    grouped: dict[tuple[Address, int, int, str], list[ServiceSlot]] = {}
    for slot in slots:
        grouped.setdefault((slot.addr, slot.port, slot.proto or 0, slot.scope), []).append(slot)
    found = []
    for _, group in sorted(grouped.items(), key=_place):
        group.sort(key=attrgetter("slot"))
        head = group[0]
        rest = tuple(slot for slot in group if slot.slot)
        found.append(Frontend(head, rest, by_id, names.get(f"service {head.rev_nat}", names.get(str(head.addr)))))
    return found


def _place(grouped: tuple[tuple[Address, int, int, str], object]) -> tuple[object, ...]:
    (addr, *rest), _ = grouped
    return addr.version, int(addr), *rest


def _slot_text(frontend: Frontend, slot: ServiceSlot) -> str:
    backend = (frontend.backends or {}).get(slot.backend_id or 0)
    if backend is not None and (backend.port is not None or slot.backend is None):
        state = f" ({backend.state})" if backend.state not in (None, "active") else ""
        return f"{slot.backend_id}:{backend.where}{state}"
    if slot.backend is not None:
        return slot.backend if slot.backend_id is None else f"{slot.backend_id}:{slot.backend}"
    return f"{slot.backend_id}{'' if frontend.backends is None else ' (not in the backend table)'}"


def _flags(head: ServiceSlot) -> list[str]:
    if head.flags is None:
        return list(head.flag_words)
    return [str(flag.name) for flag in ServiceFlags if head.flags & flag]


def frontend_view(minor: int, *, scopes: bool = False) -> View[Frontend]:
    """``lb list``. ``scopes``: a frontend may be there twice, for clients outside and for those inside."""

    def cilium(rows: Iterable[Frontend]) -> list[str]:
        chosen = list(rows)
        backends = {number: one for frontend in chosen for number, one in (frontend.backends or {}).items()}
        slots = [slot for frontend in chosen for slot in _records(frontend)]
        return listings.service_lines(slots, backends.values(), minor)

    columns: list[Column[Frontend]] = [
        Column("frontend", "FRONTEND", lambda f: endpoint(f.head.addr, f.head.port)),
        Column("name", "NAME", lambda f: f.name, prose=True),
        Column("proto", "PROTO", lambda f: f.head.proto, lambda f: _proto(f.head.proto)),
        Column("scope", "SCOPE", lambda f: f.head.scope, wide=not scopes),
        Column("rev_nat", "REV_NAT", lambda f: f.head.rev_nat, right=True, priority=2),
        Column("type", "TYPE", lambda f: f.head.type, priority=1),
        Column("flags", "FLAGS", lambda f: _flags(f.head), wide=True),
        Column(
            "affinity_timeout", "AFFINITY_TIMEOUT", lambda f: f.head.affinity_timeout, _affinity, wide=True, right=True
        ),
        Column("backends", "BACKENDS", lambda f: [_slot_text(f, slot) for slot in f.slots], prose=True),
    ]
    return View(
        "ctctl/lb-frontend/v1",
        "frontends",
        columns,
        lambda f: endpoint(f.head.addr, f.head.port),
        cilium_lines=cilium,
    )


def has_scopes(found: Iterable[Frontend]) -> bool:
    """Whether any of them is for clients inside only."""
    return any(frontend.head.scope == "internal" for frontend in found)


def _records(frontend: Frontend) -> list[ServiceSlot]:
    """The frontend's records, its own and one a slot."""
    return [slot for slot in dict.fromkeys((frontend.head, *frontend.slots)) if slot is not None]


def slot_view(minor: int) -> View[ServiceSlot]:
    """``lb list --frontends``: the records of the service tables as they stand."""
    columns: list[Column[ServiceSlot]] = [
        Column("frontend", "FRONTEND", lambda s: endpoint(s.addr, s.port)),
        Column("proto", "PROTO", lambda s: s.proto, lambda s: _proto(s.proto)),
        Column("scope", "SCOPE", lambda s: s.scope, priority=3),
        Column("slot", "SLOT", lambda s: s.slot, right=True),
        Column("word", "WORD", lambda s: s.word, right=True, priority=2),
        Column("count", "COUNT", lambda s: s.count, right=True),
        Column("quarantined", "QUARANTINED", lambda s: s.quarantined, right=True, priority=1),
        Column("rev_nat", "REV_NAT", lambda s: s.rev_nat, right=True),
        Column("flags", "FLAGS", lambda s: s.flags, lambda s: f"{s.flags or 0:#06x}", right=True),
    ]
    return View(
        "ctctl/lb-slot/v1",
        "slots",
        columns,
        lambda s: f"{endpoint(s.addr, s.port)} {s.slot}",
        cilium_lines=lambda rows: listings.frontend_lines(rows, minor),
    )


def _affinity(frontend: Frontend) -> str:
    timeout = frontend.head.affinity_timeout
    return format_duration(timeout) if timeout else "-"


def _proto(number: int | None) -> str:
    return protocol_name(number) if number else "ANY"


def backend_view() -> View[Backend]:
    """``lb list --backends``."""
    columns: list[Column[Backend]] = [
        Column("backend_id", "BACKEND_ID", lambda b: b.backend_id, right=True),
        Column("addr", "ADDR", lambda b: b.addr),
        Column("port", "PORT", lambda b: b.port, right=True),
        Column("proto", "PROTO", lambda b: b.proto, lambda b: _proto(b.proto)),
        Column("state", "STATE", lambda b: b.state),
        Column("cluster_id", "CLUSTER_ID", lambda b: b.cluster_id, wide=True, right=True),
        Column("zone", "ZONE", lambda b: b.zone, wide=True, right=True),
    ]
    return View(
        "ctctl/lb-backend/v1",
        "backends",
        columns,
        lambda b: str(b.backend_id),
        cilium_lines=listings.backend_lines,
    )


def rev_nat_view() -> View[RevNat]:
    """``lb list --revnat``."""
    columns: list[Column[RevNat]] = [
        Column("rev_nat", "REV_NAT", lambda r: r.rev_nat, right=True),
        Column("addr", "ADDR", lambda r: r.addr),
        Column("port", "PORT", lambda r: r.port, right=True),
    ]
    return View("ctctl/lb-revnat/v1", "revnats", columns, lambda r: str(r.rev_nat), cilium_lines=listings.rev_nat_lines)


def source_range_view() -> View[SourceRange]:
    """``lb list --source-ranges``."""
    columns: list[Column[SourceRange]] = [
        Column("rev_nat", "REV_NAT", lambda r: r.rev_nat, right=True),
        Column("cidr", "CIDR", lambda r: r.cidr),
    ]
    return View(
        "ctctl/lb-source-range/v1",
        "source_ranges",
        columns,
        lambda r: r.cidr,
        cilium_lines=listings.source_range_lines,
    )


def _share(table: MaglevTable) -> dict[str, int]:
    return {str(backend): table.table.count(backend) for backend in sorted(set(table.table))}


def maglev_view() -> View[MaglevTable]:
    """``lb list --maglev``: how the slots are shared; the whole table in JSON."""
    columns: list[Column[MaglevTable]] = [
        Column("rev_nat", "REV_NAT", lambda m: m.rev_nat, right=True),
        Column("family", "FAMILY", lambda m: m.family, lambda m: f"v{m.family}"),
        Column("size", "SIZE", lambda m: len(m.table), right=True),
        Column("share", "SHARE", _share, lambda m: " ".join(f"{b}={n}" for b, n in _share(m).items()), prose=True),
    ]

    def record(table: MaglevTable) -> dict[str, object]:
        return {"rev_nat": table.rev_nat, "family": table.family, "share": _share(table), "table": list(table.table)}

    return View(
        "ctctl/lb-maglev/v1",
        "maglev",
        columns,
        lambda m: str(m.rev_nat),
        record,
        cilium_lines=listings.maglev_lines,
    )
