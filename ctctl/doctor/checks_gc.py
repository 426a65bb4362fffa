"""Is the table too full, does GC keep up, and what do the tables cost?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from ctctl.abi import pins
from ctctl.doctor.facts import Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.doctor.table import TableFacts
from ctctl.model.units import format_duration

PRESSURE_WARNING = 0.75
PRESSURE_CRITICAL = 0.9
#: Entries that expired longer ago than two GC intervals, of all: more than this and GC does not keep up.
BACKLOG_SHARE = 0.1
#: Below this many entries a share says nothing.
FEW = 32
#: Tables may cost this much of the machine's memory.
MEMORY_SHARE = 0.1


#: The option of a Cilium agent that sizes a table.
_OPTIONS = {
    pins.CT4_TCP: "bpf-ct-global-tcp-max",
    pins.CT6_TCP: "bpf-ct-global-tcp-max",
    pins.CT4_ANY: "bpf-ct-global-any-max",
    pins.CT6_ANY: "bpf-ct-global-any-max",
    pins.SNAT4: "bpf-nat-global-max",
    pins.SNAT6: "bpf-nat-global-max",
}


@dataclass(frozen=True, slots=True)
class _Fill:
    """How full one table is; ``entries`` and ``capacity`` None where only the share is told."""

    name: str
    share: float
    entries: int | None
    capacity: int | None
    expired: int | None


def _fills(facts: Facts) -> Iterator[_Fill]:
    known = set()
    for table in facts.tables:
        if table.max_entries:
            expired = int((~table.alive).sum()) if table.now is not None else None
            known.add(table.name)
            yield _Fill(table.name, len(table) / table.max_entries, len(table), table.max_entries, expired)
    for name, (entries, capacity) in facts.nat_sizes.items():
        if capacity:
            known.add(name)
            yield _Fill(name, entries / capacity, entries, capacity, None)
    for name, share in facts.told_pressure.items():
        # A dump may be cut, the agent's own figure is of the whole table.
        if name not in known or share >= PRESSURE_WARNING:
            capacity = next((table.max_entries for table in facts.tables if table.name == name), None)
            yield _Fill(name, share, None, capacity or facts.nat_sizes.get(name, (0, None))[1], None)


def no_capacity(facts: Facts) -> str | None:
    """Why pressure cannot be told of any table, or None."""
    return None if any(_fills(facts)) else "the size of the table is unknown"


def without_capacity(facts: Facts) -> str | None:
    """Which tables' sizes are unknown, or None."""
    known = {fill.name for fill in _fills(facts)}
    unknown = sorted({table.name for table in facts.tables} - known)
    return f"the size of {', '.join(unknown)} is unknown" if unknown else None


def pressure(facts: Facts) -> Iterator[Finding]:
    """Pressure and trend: an LRU table evicts live entries before it is quite full."""
    worst: dict[str, _Fill] = {}
    for fill in _fills(facts):
        if fill.share >= PRESSURE_WARNING and fill.share >= worst.get(fill.name, fill).share:
            worst[fill.name] = fill
    for fill in worst.values():
        yield _pressed(facts, fill)


def _pressed(facts: Facts, fill: _Fill) -> Finding:
    growth, trend = facts.growth.get(fill.name), ""
    evidence: dict[str, object] = {"share": round(fill.share, 3)}
    if fill.capacity is not None:
        evidence |= {"entries": fill.entries, "max_entries": fill.capacity}
    if fill.expired is not None:
        evidence["expired"] = fill.expired
    if fill.name in facts.capacity_evidence:
        evidence["size_by"] = facts.capacity_evidence[fill.name]
    if growth is not None:
        evidence["growth_per_s"] = round(growth, 1)
        if growth > 0 and fill.capacity is not None and fill.entries is not None:
            full = (fill.capacity - fill.entries) / growth
            trend = f", full in {format_duration(full)} at {growth:.0f} entries/s"
    mostly_expired = bool(fill.expired and fill.entries and fill.expired >= fill.entries / 2)
    nat = fill.name in pins.SNAT_TABLES.values()
    return Finding(
        "pressure",
        Severity.CRITICAL if fill.share >= PRESSURE_CRITICAL else Severity.WARNING,
        fill.name,
        f"{fill.share:.0%} full{trend}: the LRU evicts live connections near 100 %",
        "run GC now (ctctl gc): half or more of it is expired"
        if mostly_expired
        else "make the table larger (ct.tcp-max, ct.any-max; ctctl sizing) or shorten timeouts",
        evidence,
        (facts.look("ctctl nat list --limit 20" if nat else "ctctl ct stats"),),
        (facts.change("ctctl gc"),) if mostly_expired else (_larger(facts, fill),),
    )


def _larger(facts: Facts, fill: _Fill) -> str:
    if not facts.foreign and facts.live:
        return "ctctl load -f node.yaml"  # with a larger ct.tcp-max or ct.any-max in it
    size = 2 * fill.capacity if fill.capacity is not None else "SIZE"
    return f"cilium config set {_OPTIONS.get(fill.name, 'bpf-map-dynamic-size-ratio')} {size}"


def overdue(table: TableFacts, interval_s: float) -> int:
    """Entries that expired more than two GC intervals ago."""
    return int((table.left < -2 * interval_s).sum())


def backlog(facts: Facts) -> Iterator[Finding]:
    """Expired entries that GC should have collected by now."""
    for table in facts.tables:
        late = overdue(table, facts.gc_interval_s)
        if len(table) < FEW or late < BACKLOG_SHARE * len(table):
            continue
        oldest = int(-table.left.min())
        yield Finding(
            "gc-backlog",
            Severity.WARNING,
            table.name,
            f"{late} of {len(table)} entries expired more than two GC intervals ago, "
            f"the oldest {format_duration(oldest)} ago",
            "see whether GC runs at all (ctctl gc --dry-run --explain, then ctctl gc); it may need a shorter interval",
            {"overdue": late, "entries": len(table), "oldest_s": oldest, "gc_interval_s": facts.gc_interval_s},
            (facts.look("ctctl gc --dry-run --explain"),),
            (facts.change("ctctl gc"),),
        )


def starved_family(facts: Facts) -> Iterator[Finding]:
    """One family collected, the other not."""
    shares: dict[int, tuple[int, int]] = {}
    for family in (4, 6):
        tables = facts.of_family(family)
        count = sum(map(len, tables))
        if count >= FEW:
            shares[family] = (sum(overdue(table, facts.gc_interval_s) for table in tables), count)
    if len(shares) < 2:
        return
    starved, served = sorted(shares, key=lambda family: shares[family][0] / shares[family][1], reverse=True)
    late, count = shares[starved]
    if late >= BACKLOG_SHARE * count and shares[served][0] <= 0.01 * shares[served][1]:
        yield Finding(
            "family-starved",
            Severity.WARNING,
            None,
            f"GC collects IPv{served} and not IPv{starved}: {late} of {count} IPv{starved} entries are overdue, "
            f"{shares[served][0]} of {shares[served][1]} IPv{served} ones",
            "collect both (ctctl gc serves families side by side); early GC runs of some agents serve one family only",
            {f"ipv{family}": {"overdue": late, "entries": count} for family, (late, count) in shares.items()},
            (facts.look(f"ctctl ct stats 'family == {starved}'"),),
            (facts.change("ctctl gc"),),
        )


def memory(facts: Facts) -> Iterator[Finding]:
    """Tables against the machine's memory: they are allocated at load, however empty."""
    if not facts.memory_bytes or not facts.table_bytes:
        return
    total = sum(facts.table_bytes.values())
    if total < MEMORY_SHARE * facts.memory_bytes:
        return
    largest = sorted(facts.table_bytes.items(), key=lambda item: -item[1])[:4]
    yield Finding(
        "table-memory",
        Severity.WARNING,
        None,
        f"the tables take {total / 2**20:.0f} MiB, {total / facts.memory_bytes:.0%} of this machine's memory",
        "make them smaller (ct.tcp-max, ct.any-max); ctctl sizing says what the workload needs",
        {
            "bytes": total,
            "memory_bytes": facts.memory_bytes,
            "largest": [f"{name} {size / 2**20:.0f} MiB" for name, size in largest],
        },
        (facts.look("ctctl ct stats"),),
        (facts.look("ctctl sizing" if facts.where.place else "ctctl sizing --from auto"),),
    )


def insertion(facts: Facts) -> Iterator[Finding]:
    """Entries that the kernel refused to create; such a packet is dropped."""
    failed = facts.stats.get("ct_create_failed", 0)
    hooks = {hook: packets for (hook, reason), (packets, _) in facts.drops.items() if reason == "ct_create_failed"}
    if not failed and not hooks:
        return
    errors = [f"{errno.errorcode.get(code, code)} ({os.strerror(code)})" for code in facts.create_errnos]
    named = f": {', '.join(errors)}" if errors else ""
    yield Finding(
        "insertion-failed",
        Severity.CRITICAL,
        None,
        f"{max(failed, sum(hooks.values()))} packets dropped because their entry could not be created{named}",
        "ENOMEM: every LRU list is busy, make the tables larger or run GC; E2BIG: the table is full and no LRU. "
        "ctctl trace --live shows the kernel's error packet by packet",
        {"failed": failed, "by_hook": hooks, "kernel_errors": errors},
        ("ctctl status", facts.look("ctctl ct stats")),
        (facts.change("ctctl gc"),),
    )
