"""SNAT: are ports left, and do translations and connections belong together?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctctl.abi import pins
from ctctl.doctor.facts import BUILD_UP, Facts, words
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.entry import CtFlags
from ctctl.model.tuples import Address, Direction, endpoint, protocol_name
from ctctl.tables import pairs as _keys
from ctctl.tables.snat_ports import range_by

#: Shares of an egress address's ports to one remote from which new connections begin to fail.
PORTS_WARNING, PORTS_CRITICAL = 0.75, 0.9
#: Fewer orphans than this, and than this share, are those that the next GC takes.
_FEW_ORPHANS, _ORPHAN_SHARE = 20, 0.25
_PORTED = (6, 17, 132)

Egress = tuple[int, Address, Address, int]


def ports(facts: Facts) -> Iterator[Finding]:
    """Egress addresses that have used up their ports to one remote address and port."""
    used: dict[Egress, set[int]] = {}
    for entry in facts.listings.nat:
        flow = entry.tuple
        if entry.direction is Direction.OUT and flow.proto in _PORTED and not entry.related:
            used.setdefault((flow.proto, entry.to_addr, flow.dst, flow.dst_port), set()).add(entry.to_port)
    for (proto, egress, remote, port), ports_used in used.items():
        ranged = range_by(ports_used, facts.snat_range)
        taken = sum(number in ranged for number in ports_used)
        share = taken / len(ranged)
        unsaid = "" if ranged.said else f" ({ranged}: {ranged.evidence})"
        if share >= PORTS_WARNING:
            yield Finding(
                "snat-ports",
                Severity.CRITICAL if share >= PORTS_CRITICAL else Severity.WARNING,
                pins.SNAT_TABLES[egress.version],
                f"{egress} -> {endpoint(remote, port)} ({protocol_name(proto)}) uses {taken:,} of "
                f"{len(ranged):,} ports{unsaid}: new connections find none (No mapping for NAT masquerade)",
                "spread them over more egress addresses or remote ones, let connections be kept open, or purge "
                "translations that no connection stands behind",
                {
                    "egress": str(egress),
                    "remote": endpoint(remote, port),
                    "used": taken,
                    "ports": str(ranged),
                    "by": ranged.evidence,
                },
                (facts.look("ctctl nat stats --limit 5"), facts.look("ctctl ct top --by dst")),
                (facts.change("ctctl gc --orphans"),),
            )


def exhausted(facts: Facts) -> Iterator[Finding]:
    """Packets that were dropped because SNAT found no free port for them."""
    hooks = {hook: packets for (hook, reason), (packets, _) in facts.drops.items() if reason == "nat_no_mapping"}
    dropped = max(facts.stats.get("snat_exhausted", 0), sum(hooks.values()))
    if not dropped:
        return
    used: dict[Egress, int] = {}
    for entry in facts.listings.nat:
        flow = entry.tuple
        if entry.direction is Direction.OUT and flow.proto in _PORTED and not entry.related:
            egress = (flow.proto, entry.to_addr, flow.dst, flow.dst_port)
            used[egress] = used.get(egress, 0) + 1
    worst = max(used, key=lambda egress: used[egress], default=None)
    to_whom, evidence = "", {}
    if worst is not None:
        proto, egress_address, remote, port = worst
        to_whom = (
            f"; most ports are in use from {egress_address} to {endpoint(remote, port)} ({protocol_name(proto)}): "
            f"{used[worst]:,} of 32,768"
        )
        evidence = {"egress": str(egress_address), "remote": endpoint(remote, port), "used": used[worst]}
    yield Finding(
        "snat-exhausted",
        Severity.CRITICAL,
        pins.SNAT_TABLES[worst[1].version] if worst is not None else None,
        f"{dropped:,} packets dropped because no port of the node's address was free{to_whom}",
        "spread the load over more nodes or backends, let connections be kept open, answer with DSR instead of SNAT, "
        "or purge translations that no connection stands behind",
        {"dropped": dropped, "by_hook": hooks, **evidence},
        ("ctctl status", facts.look("ctctl nat list --limit 20"), facts.look("ctctl ct top --by dst")),
        (facts.change("ctctl gc --orphans"), facts.change("ctctl gc")),
    )


def pairs(facts: Facts) -> Iterator[Finding]:
    """DSR connections without the SNAT entry that turns their replies into the VIP's."""
    known = facts.nat_keys()
    for table in facts.tables:
        if table.layout.has_nat:
            continue  # the translation is in the entry itself there
        mask = table.out & table.alive & table.flag(int(CtFlags.DSRInternal)) & ~table.closed
        lost = [key for key in table.keys_where(mask) if _keys.nat_key(key, dsr=True) not in known]
        if lost:
            chosen = mask & np.isin(words(table.columns.keys), np.array(lost, f"S{len(lost[0])}"))
            yield Finding(
                "snat-missing",
                Severity.CRITICAL,
                table.name,
                f"{len(lost)} DSR connections have no SNAT entry: their replies leave with the pod's address",
                "the SNAT table evicted them (look at its pressure); the client must connect anew",
                {"entries": len(lost), "examples": table.examples(chosen)},
                (facts.look("ctctl ct list 'out and flag(DSRInternal)'"), facts.look("ctctl nat list")),
                facts.delete(table, chosen),
            )


def orphans(facts: Facts) -> Iterator[Finding]:
    """SNAT entries that no conntrack entry stands behind."""
    known = facts.nat_keys()
    for family in (4, 6):
        tables = facts.of_family(family)
        mine = {key: entry for key, entry in known.items() if len(key) == (14 if family == 4 else 38)}
        if len(tables) < 2 or not mine:
            continue
        outs = {key for table in tables for key in table.keys_where(table.out)}
        found = [entry for key, entry in mine.items() if _is_orphan(key, entry.value or b"", outs)]
        if len(found) >= BUILD_UP or (len(found) >= _FEW_ORPHANS and len(found) >= _ORPHAN_SHARE * len(mine)):
            yield Finding(
                "snat-orphans",
                Severity.WARNING,
                pins.SNAT_TABLES[family],
                f"{len(found)} of {len(mine)} SNAT entries have no connection behind them",
                "ctctl gc --orphans purges them",
                {"orphans": len(found), "entries": len(mine), "examples": [str(entry) for entry in found[:3]]},
                (facts.look("ctctl nat list --limit 20"),),
                (facts.change("ctctl gc --orphans"),),
            )


def _is_orphan(key: bytes, value: bytes, outs: set[bytes]) -> bool:
    if not _keys.is_out(key):
        if not value:
            return False  # a listing without raw values: its forward entry cannot be told
        key = _keys.forward_nat_key(key, value)
    return not outs.intersection(_keys.ct_keys(key))
