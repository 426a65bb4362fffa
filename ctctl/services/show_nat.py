"""SNAT entries and the use of their ports as views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ctctl.model.clock import Clock
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import Address, endpoint, protocol_name
from ctctl.model.units import format_duration
from ctctl.out.view import Column, View
from ctctl.tables.query.aliases import ALIASES
from ctctl.tables.show import listings
from ctctl.tables.show.nat import nat_record

if TYPE_CHECKING:
    from ctctl.tables.port_use import PortUse


def _named(names: Mapping[str, str], address: Address, port: int) -> str:
    name = names.get(str(address))
    return endpoint(address, port) + (f" ({name})" if name else "")


def _short(names: Mapping[str, str], address: Address, port: int) -> str:
    name = names.get(str(address))
    return f"{name}:{port}" if name else endpoint(address, port)


def nat_view(names: Mapping[str, str], clock: Clock, now: int | None) -> View[NatEntry]:
    """``nat list``; ``now`` turns the time of creation into an age."""

    def age(entry: NatEntry) -> int | None:
        if entry.age_s is not None:
            return entry.age_s
        return clock.remaining_s(now, entry.created) if now is not None and entry.created is not None else None

    def age_text(entry: NatEntry) -> str:
        seconds = age(entry)
        return "-" if seconds is None else format_duration(seconds)

    columns: list[Column[NatEntry]] = [
        Column("proto", "PROTO", lambda e: e.tuple.proto, lambda e: protocol_name(e.tuple.proto)),
        Column("direction", "DIR", lambda e: e.direction),
        Column(
            "source",
            "SOURCE",
            lambda e: endpoint(e.tuple.src, e.tuple.src_port),
            lambda e: _named(names, e.tuple.src, e.tuple.src_port),
            prose=True,
            short=lambda e: _short(names, e.tuple.src, e.tuple.src_port),
        ),
        Column(
            "destination",
            "DESTINATION",
            lambda e: endpoint(e.tuple.dst, e.tuple.dst_port),
            lambda e: _named(names, e.tuple.dst, e.tuple.dst_port),
            prose=True,
            short=lambda e: _short(names, e.tuple.dst, e.tuple.dst_port),
        ),
        Column("xlate", "XLATE", lambda e: e.xlate, priority=2),
        Column(
            "to",
            "TO",
            lambda e: endpoint(e.to_addr, e.to_port),
            lambda e: _named(names, e.to_addr, e.to_port),
            prose=True,
            short=lambda e: _short(names, e.to_addr, e.to_port),
        ),
        Column("age", "AGE", age, age_text, right=True, priority=1),
        Column("needs_ct", "NEEDS_CT", lambda e: e.needs_ct, wide=True, right=True),
        Column("related", "RELATED", lambda e: e.related, wide=True),
        Column("map", "MAP", lambda e: e.map, wide=True),
    ]
    hidden: list[Column[NatEntry]] = [
        Column("proto_name", "PROTO_NAME", lambda e: protocol_name(e.tuple.proto)),
        Column("src", "SRC", lambda e: e.tuple.src),
        Column("src_port", "SRC_PORT", lambda e: e.tuple.src_port, right=True),
        Column("dst", "DST", lambda e: e.tuple.dst),
        Column("dst_port", "DST_PORT", lambda e: e.tuple.dst_port, right=True),
        Column("to_addr", "TO_ADDR", lambda e: e.to_addr),
        Column("to_port", "TO_PORT", lambda e: e.to_port, right=True),
        Column("created", "CREATED", lambda e: e.created, right=True),
        Column("key_hex", "KEY_HEX", lambda e: e.key.hex() if e.key is not None else None),
    ]

    def record(entry: NatEntry) -> dict[str, object]:
        return {**nat_record(entry), "age": age(entry)}

    return View(
        "ctctl/nat-entry/v1",
        "entries",
        columns,
        str,
        record,
        cilium_lines=lambda rows: listings.nat_lines(rows, clock, now),
        extra=hidden,
        aliases={**ALIASES, "nat_addr": "to_addr", "nat_port": "to_port"},
        apart=lambda e: e.tuple.src.version,
    )


def port_use_view(names: Mapping[str, str]) -> View[PortUse]:
    """``nat stats``."""
    columns: list[Column[PortUse]] = [
        Column("proto", "PROTO", lambda u: u.proto, lambda u: protocol_name(u.proto)),
        Column("egress", "EGRESS", lambda u: u.egress),
        Column(
            "remote",
            "REMOTE",
            lambda u: endpoint(u.remote, u.remote_port),
            lambda u: _named(names, u.remote, u.remote_port),
            prose=True,
        ),
        Column("ports", "PORTS", lambda u: u.ports, right=True),
        Column("range_size", "RANGE_SIZE", lambda u: u.range_size, right=True, priority=2),
        Column("range", "RANGE", lambda u: str(u.range), wide=True),
        Column("range_by", "RANGE_BY", lambda u: u.range.evidence, wide=True),
        Column("share", "SHARE", lambda u: round(u.share, 6), lambda u: f"{100 * u.share:.2f}%", right=True),
        Column("entries", "ENTRIES", lambda u: u.entries, right=True, priority=1),
    ]
    return View(
        "ctctl/nat-port-use/v1", "port_use", columns, lambda u: f"{u.egress} {endpoint(u.remote, u.remote_port)}"
    )
