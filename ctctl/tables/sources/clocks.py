"""Which clock a table's times are in, found by evidence and never guessed silently (spec/abi.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctctl.model.clock import Clock
from ctctl.node.agent import runtime_config

HZ_VALUES = (100, 250, 300, 1000)


def clock_of_agent_config(text: str, where: str) -> Clock | None:
    """The clock by an agent's stored configuration (ClockSource 0 ktime, 1 jiffies), None if it says nothing."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return clock_of_document(document, where) if isinstance(document, dict) else None


def clock_of_document(document: Mapping[str, Any], where: str) -> Clock | None:
    """The same of a configuration that is decoded already."""
    source, hz = document.get("ClockSource"), document.get("KernelHz")
    if source == 0:
        return Clock(None, f"ktime by {where}")
    if source == 1 and isinstance(hz, int) and 0 < hz <= 10000:
        return Clock(hz, f"jiffies at {hz} Hz by {where}")
    return None


def clock_by_remaining(pairs: Sequence[tuple[int, int]]) -> tuple[Clock, int] | None:
    """Clock and now from (lifetime, remaining seconds shown): the pair that explains every line.

    None where no clock does: the lines are not of one second, or were changed.
    """
    if not pairs:
        return None
    nows = {lifetime - remaining for lifetime, remaining in pairs}
    if len(nows) == 1:
        return Clock(None, "ktime: the lines' remaining times agree on now"), nows.pop()
    for hz in HZ_VALUES:
        clock = Clock(hz, f"jiffies at {hz} Hz: the lines' remaining times agree on now")
        seconds = {clock.seconds(lifetime) - remaining for lifetime, remaining in pairs}
        if len(seconds) == 1:
            return clock, clock.units(seconds.pop())
    return None


def clock_by_reports(
    reports: Iterable[int], ktime_now: int, jiffies_now: int | None, hz: int | None
) -> tuple[Clock, int] | None:
    """The live clock whose now is just after the latest report time, None without a report.

    Reports are never later than now; in a table in use the latest is recent.
    """
    latest = max(reports, default=0)
    if latest == 0:
        return None
    candidates: list[tuple[int, Clock, int]] = []
    if latest <= ktime_now + 1:
        age = ktime_now - latest
        candidates.append((age, Clock(None, f"ktime: the latest report is {max(age, 0)} s old"), ktime_now))
    if jiffies_now is not None and hz is not None and latest <= jiffies_now + 1:
        clock = Clock(hz)
        age = clock.remaining_s(jiffies_now, latest)
        evidence = f"jiffies at {hz} Hz: the latest report is {max(age, 0)} s old"
        candidates.append((age, Clock(hz, evidence), jiffies_now))
    return min(candidates, key=lambda item: item[0])[1:] if candidates else None


def agent_clock() -> Clock | None:
    """The clock that an agent on this machine stored in its configuration."""
    stored = runtime_config()
    return None if stored is None else clock_of_document(*stored)
