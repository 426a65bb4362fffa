"""Policy rules, verdicts and drop counters as views."""

from __future__ import annotations

from collections.abc import Mapping

from ctctl.model.drops import DatapathCounter, reason_name
from ctctl.model.policy import PolicyEntry
from ctctl.model.tuples import protocol_name
from ctctl.out.view import Column, View
from ctctl.services.policy import Verdict, ports_text, rule_text
from ctctl.tables.show import listings


def _peer(rule: PolicyEntry, names: Mapping[str, str]) -> str:
    if rule.identity is None:
        return ",".join(rule.labels)
    if not rule.identity:
        return "any"
    name = names.get(f"identity {rule.identity}")
    return f"{rule.identity} ({name})" if name else str(rule.identity)


def policy_view(names: Mapping[str, str], minor: int) -> View[PolicyEntry]:
    """``policy list``; ``names`` knows ``endpoint N`` and ``identity N``."""
    columns: list[Column[PolicyEntry]] = [
        Column("endpoint_id", "ENDPOINT_ID", lambda r: r.endpoint_id, right=True),
        Column("endpoint", "ENDPOINT", lambda r: names.get(f"endpoint {r.endpoint_id}"), prose=True),
        Column("direction", "DIR", lambda r: "egress" if r.egress else "ingress"),
        Column("verdict", "VERDICT", lambda r: "deny" if r.deny else "allow", style=_style),
        Column("identity", "IDENTITY", lambda r: r.identity, lambda r: _peer(r, names), prose=True),
        Column("labels", "LABELS", lambda r: list(r.labels), wide=True),
        Column("ports", "PORTS", ports_text),
        Column("proxy_port", "PROXY_PORT", lambda r: r.proxy_port or None, right=True, priority=3),
        Column("auth_type", "AUTH_TYPE", lambda r: r.auth_type, wide=True, right=True),
        Column("packets", "PACKETS", lambda r: r.packets, right=True, priority=1),
        Column("bytes", "BYTES", lambda r: r.bytes, right=True, priority=2),
        Column("precedence", "PRECEDENCE", lambda r: r.precedence, wide=True, right=True),
        Column("prefix_bits", "PREFIX_BITS", lambda r: r.prefix_bits, wide=True, right=True),
        Column("map", "MAP", lambda r: r.map, wide=True),
    ]
    return View(
        "ctctl/policy-rule/v1",
        "rules",
        columns,
        lambda r: f"{r.endpoint_id} {rule_text(r)}",
        cilium_lines=lambda rows: listings.policy_lines(rows, minor),
        aliases={"dir": "direction"},
    )


def _style(rule: PolicyEntry) -> str:
    return "red" if rule.deny else ""


def verdict_view(names: Mapping[str, str]) -> View[Verdict]:
    """``policy get``: a row an endpoint of this node that has a say."""

    def word(verdict: Verdict) -> str:
        return "unknown" if verdict.allowed is None else "allowed" if verdict.allowed else "denied"

    def named(address: object) -> str:
        name = names.get(str(address))
        return f"{address} ({name})" if name else str(address)

    def identity(verdict: Verdict) -> str:
        number = verdict.peer_identity
        name = names.get(f"identity {number}")
        return "-" if number is None else f"{number} ({name})" if name else str(number)

    columns: list[Column[Verdict]] = [
        Column("verdict", "VERDICT", word, style=lambda v: "" if v.allowed else "red"),
        Column("direction", "DIR", lambda v: v.direction),
        Column("endpoint", "ENDPOINT", lambda v: v.endpoint, lambda v: named(v.endpoint), prose=True),
        Column("endpoint_id", "ENDPOINT_ID", lambda v: v.endpoint_id, right=True, wide=True),
        Column("peer", "PEER", lambda v: v.peer, lambda v: named(v.peer), prose=True),
        Column("peer_identity", "PEER_IDENTITY", lambda v: v.peer_identity, identity, prose=True, priority=2),
        Column("proto", "PROTO", lambda v: v.proto, lambda v: protocol_name(v.proto)),
        Column("port", "PORT", lambda v: v.port, right=True),
        Column("why", "WHY", lambda v: v.why, prose=True),
        Column("derived_from", "DERIVED_FROM", lambda v: list(v.derived_from), prose=True, priority=3),
    ]
    return View(
        "ctctl/policy-verdict/v1",
        "verdicts",
        columns,
        lambda v: f"{v.direction} {v.endpoint}",
        aliases={"dir": "direction"},
    )


def counter_view(minor: int | None, files: Mapping[int, str]) -> View[DatapathCounter]:
    """``metrics drops``; ``files`` are the names of source files by number."""

    def file(one: DatapathCounter) -> str | None:
        return one.place or files.get(one.file) or (f"file {one.file}" if one.file else None)

    def where(one: DatapathCounter) -> str:
        return f"{file(one)}:{one.line}" if one.line else "-"

    columns: list[Column[DatapathCounter]] = [
        Column("reason", "REASON", lambda c: reason_name(c.reason), prose=True),
        Column("code", "CODE", lambda c: c.reason, right=True, wide=True),
        Column("direction", "DIR", lambda c: c.direction),
        Column("packets", "PACKETS", lambda c: c.packets, right=True),
        Column("bytes", "BYTES", lambda c: c.bytes, right=True),
        Column("file", "FILE", lambda c: c.place or (files.get(c.file) if c.line else None), wide=True),
        Column("line", "LINE", lambda c: c.line or None, right=True, wide=True),
        Column("dropped", "DROPPED", lambda c: c.dropped, wide=True),
    ]
    return View(
        "ctctl/datapath-counter/v1",
        "counters",
        [*columns[:5], Column("where", "WHERE", where, priority=1), *columns[5:]],
        lambda c: f"{reason_name(c.reason)} {c.direction}",
        cilium_lines=lambda rows: listings.counter_lines(rows, minor or 16, files),
        aliases={"dir": "direction"},
    )
