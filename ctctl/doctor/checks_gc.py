"""Is the table too full, does GC keep up, and is the time right?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import numpy as np

from ctctl.decode.columns import Slot
from ctctl.doctor.facts import Facts, TableFacts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.units import format_duration

PRESSURE_WARNING = 0.75
PRESSURE_CRITICAL = 0.9
#: Entries that expired longer ago than two GC intervals, of all: more than this and GC does not keep up.
BACKLOG_SHARE = 0.1
#: Below this many entries a share says nothing.
FEW = 32
#: No timeout of the datapath is longer than hours; a lifetime a month ahead is of another clock.
ABSURD_S = 30 * 86400
#: Report times come from the packet's own clock reading, so they may only be as late as this snapshot took.
FUTURE_S = 5
#: Tables may cost this much of the machine's memory.
MEMORY_SHARE = 0.1


def pressure(facts: Facts) -> Iterator[Finding]:
    """Pressure and trend: an LRU table evicts live entries before it is quite full."""
    for table in facts.tables:
        if not table.max_entries or len(table) / table.max_entries < PRESSURE_WARNING:
            continue
        share, expired = len(table) / table.max_entries, int((~table.alive).sum())
        growth = facts.growth.get(table.name)
        trend = ""
        evidence: dict[str, object] = {"entries": len(table), "max_entries": table.max_entries, "expired": expired}
        if growth is not None:
            evidence["growth_per_s"] = round(growth, 1)
        if growth is not None and growth > 0:
            full = (table.max_entries - len(table)) / growth
            trend = f", full in {format_duration(full)} at {growth:.0f} entries/s"
        advice = (
            "run GC now (ctctl gc): half or more of it is expired"
            if expired >= len(table) / 2
            else "make the table larger (ct.tcp-max, ct.any-max; ctctl sizing) or shorten timeouts"
        )
        yield Finding(
            "pressure",
            Severity.CRITICAL if share >= PRESSURE_CRITICAL else Severity.WARNING,
            table.name,
            f"{share:.0%} full{trend}: the LRU evicts live connections near 100 %",
            advice,
            evidence,
        )


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
        )


def clock(facts: Facts) -> Iterator[Finding]:
    """Lifetimes and reports that cannot be of the clock that expiry is tested against."""
    for table in facts.tables:
        if not len(table) or table.now is None:
            continue
        reports = np.maximum(table.slot(Slot.LAST_TX_REPORT), table.slot(Slot.LAST_RX_REPORT)).astype(np.int64)
        future = int((reports > table.now + FUTURE_S).sum())
        far = int((table.left > ABSURD_S).sum())
        if max(future, far) < max(1, len(table) // 100):
            continue
        yield Finding(
            "clock-mismatch",
            Severity.CRITICAL,
            table.name,
            f"{future} of {len(table)} entries saw packets in the future, {far} expire in more than a month: "
            "the table counts in another clock than the one it is read with",
            "older Cilium builds count in jiffies: give --clock jiffies:HZ (or the right --now); do not run GC before",
            {
                "now": table.now,
                "latest_report": int(reports.max()),
                "latest_lifetime": int(table.slot(Slot.LIFETIME).max()),
            },
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
    )
