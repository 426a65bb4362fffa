"""Is the time by which entries are judged the one that they are written in?"""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.decode.columns import Slot
from ctctl.doctor.facts import Facts
from ctctl.doctor.finding import Finding, Severity
from ctctl.model.units import format_duration

#: No timeout of the datapath is longer than hours; a lifetime a month ahead is of another clock.
ABSURD_S = 30 * 86400
#: Report times come from the packet's own clock reading, so they may only be as late as this snapshot took.
FUTURE_S = 5
#: A table in use sees a packet in this time: it is longer than the longest timeout of any release (6 h).
SILENT_S = 12 * 3600
#: Below this many entries silence says nothing.
FEW = 32


def namespace(facts: Facts) -> Iterator[Finding]:
    """Whether this process has another monotonic clock than the kernel's programs."""
    if not facts.clock_offset_s:
        return
    yield Finding(
        "time-namespace",
        Severity.CRITICAL,
        None,
        f"this process is in a time namespace: its monotonic clock is {format_duration(abs(facts.clock_offset_s))} "
        f"{'ahead of' if facts.clock_offset_s > 0 else 'behind'} the one that entries are written in",
        "run ctctl outside of it, in the time namespace of process 1; do not run GC from here",
        {"offset_s": facts.clock_offset_s},
        ("cat /proc/self/timens_offsets",),
        ("nsenter --target 1 --time ctctl doctor",),
    )


def clock(facts: Facts) -> Iterator[Finding]:
    """Lifetimes and reports that cannot be of the clock that expiry is tested against."""
    for table in facts.tables:
        if not len(table) or table.now is None:
            continue
        reports = table.reports
        future = int((table.idle < -FUTURE_S).sum())
        far = int((table.left > ABSURD_S).sum())
        evidence: dict[str, object] = {
            "now": table.now,
            "latest_report": int(reports.max()),
            "latest_lifetime": int(table.slot(Slot.LIFETIME).max()),
        }
        show = (
            facts.look("ctctl ct list --sort -last_tx_report --limit 5 --fields source,destination,last_tx_report"),
        )
        mend = (facts.look("ctctl doctor --clock jiffies:250"),)
        if max(future, far) >= max(1, len(table) // 100):
            yield Finding(
                "clock-mismatch",
                Severity.CRITICAL,
                table.name,
                f"{future} of {len(table)} entries saw packets in the future, {far} expire in more than a month: "
                "the table counts in another clock than the one it is read with, or was written before a restart",
                "older Cilium builds count in jiffies: give --clock jiffies:HZ (or the right --now); "
                "do not run GC before",
                evidence,
                show,
                mend,
            )
        elif len(table) >= FEW and reports.max() and table.idle.min() > SILENT_S:
            silent = format_duration(int(table.idle.min()))
            yield Finding(
                "clock-mismatch",
                Severity.WARNING,
                table.name,
                f"none of {len(table)} entries saw a packet in the last {silent}: nothing passes here any more, or "
                "the table's clock is another one",
                "see whether traffic passes (ctctl ct list --watch); if it does, give the right --now or --clock",
                evidence,
                show,
                mend,
            )
