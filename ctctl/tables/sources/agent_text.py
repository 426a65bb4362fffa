"""What an agent says about its node: status, configuration (stored, shown, the config map) and metrics.

Only capacity, timeouts, clock, version, map pressure and the datapath's modes (``modes``) are taken. Every line is
looked at by itself, so it does not matter which of the programs wrote it, or what else stands in the file.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from ctctl.abi import pins
from ctctl.model.clock import Clock
from ctctl.tables.sources.clocks import clock_of_document
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.facts import Fact, NodeFacts
from ctctl.tables.sources.modes import (
    CONFIG_MAP,
    NODE_PORT_MAX,
    STATUS_HINT,
    STATUS_WORDS,
    modes_of_config_map,
    modes_of_status_line,
    modes_of_stored,
)
from ctctl.tables.sources.values import has_any

_TCP = (pins.CT_TABLES[0], pins.CT_TABLES[2])
_ANY = (pins.CT_TABLES[1], pins.CT_TABLES[3])
_NAT = (pins.SNAT4, pins.SNAT6)

#: table sizes by the name that each program has for them
_SIZES = {
    "TCP connection tracking": _TCP,
    "Non-TCP connection tracking": _ANY,
    "NAT": _NAT,
    "CTMapEntriesGlobalTCP": _TCP,
    "CTMapEntriesGlobalAny": _ANY,
    "NATMapEntriesGlobal": _NAT,
    "bpf-ct-global-tcp-max": _TCP,
    "bpf-ct-global-any-max": _ANY,
    "bpf-nat-global-max": _NAT,
}
_TIMEOUTS = {
    "CTMapEntriesTimeoutTCP": "regular_tcp",
    "CTMapEntriesTimeoutAny": "regular_any",
    "CTMapEntriesTimeoutSVCTCP": "service_tcp",
    "CTMapEntriesTimeoutSVCTCPGrace": "service_tcp_grace",
    "CTMapEntriesTimeoutSVCAny": "service_any",
    "CTMapEntriesTimeoutSYN": "regular_tcp_syn",
    "CTMapEntriesTimeoutFIN": "regular_tcp_fin",
    "bpf-ct-timeout-regular-tcp": "regular_tcp",
    "bpf-ct-timeout-regular-any": "regular_any",
    "bpf-ct-timeout-service-tcp": "service_tcp",
    "bpf-ct-timeout-service-tcp-grace": "service_tcp_grace",
    "bpf-ct-timeout-service-any": "service_any",
    "bpf-ct-timeout-regular-tcp-syn": "regular_tcp_syn",
    "bpf-ct-timeout-regular-tcp-fin": "regular_tcp_fin",
}
_NAMES = "|".join(sorted((*_SIZES, *_TIMEOUTS), key=len, reverse=True))
_SETTING = re.compile(
    rf'\s{{0,12}}"?({_NAMES})"?(?:\s{{0,60}}[:=]|\s{{2,60}})\s{{0,12}}"?([0-9][0-9a-zµ.]{{0,24}})"?,?\s*$'
)
_CLOCK = re.compile(r"\s{0,8}Clock Source for BPF:\s+(ktime|jiffies)(?:\s+\[(\d{1,5}) Hz\])?")
_VERSION = re.compile(
    r"\s{0,8}(?:Cilium:\s++Ok\s++v?(\d++\.\d++[\w.-]{0,40})|(?:Daemon|Client):\s++v?(\d++\.\d++[\w.-]{0,40}+) )"
)
_PRESSURE = re.compile(
    r'\s{0,8}cilium_bpf_map_pressure\W{1,90}map_name="?(?:cilium_)?(\w{1,60})"?\W{1,120}(\d{1,6}(?:\.\d{1,12})?)'
)
_NODE_PORTS = re.compile(
    r'\s{0,12}(?:- )?"?(NodePort:\s{1,40}Enabled \(Range: |node-port-range"?\s{0,40}[:=]?\s{1,40})["\[]{0,2}'
    r"\d{1,5}\s?[-,\s]\s?(\d{1,5})"
)
_INTERVAL = re.compile(r"\s{0,8}cilium_datapath_conntrack_gc_interval_seconds\b.{0,160}?\s(\d{1,9}(?:\.\d{1,9})?)\s*$")
_NODE = re.compile(r'\s{0,8}"?NodeName"?\s{0,40}[:=]\s{0,4}"?([a-z0-9][a-z0-9.-]{0,252})"?,?\s*$')
#: ``bpf config list``: when the agent last was alive (CLOCK_MONOTONIC, ns), what makes that a time of day.
_RUNTIME = re.compile(r"\s{0,8}(AgentLiveness|UTimeOffset)\s+(\d{1,20})\s*$")
_UPTIME = re.compile(
    r".{0,20}\b\d\d:\d\d:\d\d up {1,2}(?:(?P<days>\d{1,5}) days?, {1,2})?"
    r"(?:(?P<hours>\d{1,2}):(?P<minutes>\d\d)|(?P<min>\d{1,2}) min),"
)
_PROC_UPTIME = re.compile(r"(\d{1,10}\.\d\d) \d{1,12}\.\d\d")
#: A line of any of them, quickly.
HINT = re.compile(
    r"AgentLiveness|UTimeOffset|:\d\d up |^\d{1,10}\.\d\d \d{1,12}\.\d\d$"
    r"|connection tracking|^\s*NAT\s|CTMapEntries|NATMapEntries|bpf-(?:ct|nat)-|Clock Source|cilium_bpf_map_pressure"
    r"|gc_interval_seconds|NodePort:|node-port-range|^\s*Cilium:|^(?:Daemon|Client):|" + STATUS_HINT.pattern
)
#: What none of them is without, unless it starts with a number.
_IN_HINT = (
    "AgentLiveness",
    "UTimeOffset",
    " up ",
    "connection tracking",
    "NAT",
    "MapEntries",
    "bpf-ct-",
    "bpf-nat-",
    "Clock Source",
    "map_pressure",
    "gc_interval_seconds",
    "NodePort:",
    "node-port-range",
    "Cilium:",
    "Daemon:",
    "Client:",
    *STATUS_WORDS,
)
_DURATION = re.compile(r"(\d{1,12}+(?:\.\d{1,9}+)?)(h|ms|m|s|us|µs|ns)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
MAX_SIZE = 1 << 31


def may_say(line: str) -> bool:
    """Whether a line is one of those that say something, by its words."""
    return (line[:1].isdigit() or has_any(line, _IN_HINT)) and HINT.search(line) is not None


def seconds_of(text: str) -> int | None:
    """A Go duration (``2h13m20s``) or a number of nanoseconds as whole seconds, None for what is neither."""
    if text.isascii() and text.isdecimal():
        return int(text) // 1_000_000_000
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return int(sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def add_line(dump: Dump, line: str) -> bool:
    """Take what a line says. False: it says nothing of interest."""
    facts = dump.facts
    if match := _SETTING.match(line):
        return _setting(facts, match[1], match[2])
    if match := _PRESSURE.match(line):
        facts.pressure.setdefault(f"cilium_{match[1]}", Fact(float(match[2]), "metrics"))
    elif match := _CLOCK.match(line):
        clock = _clock(match[1], int(match[2]) if match[2] else None, "status --verbose")
        facts.clock = facts.clock or clock
    elif match := _NODE_PORTS.match(line):
        runs = match[1].startswith("NodePort")
        evidence = "status --verbose" if runs else f"node-port-range in {CONFIG_MAP}"
        facts.add_modes({NODE_PORT_MAX: Fact(match[2], evidence, 1 if runs else 2)})
    elif match := _INTERVAL.match(line):
        facts.gc_interval_s = facts.gc_interval_s or Fact(float(match[1]), "metrics")
    elif match := _RUNTIME.match(line):
        _add_runtime(facts, match[1], int(match[2]))
    elif match := _UPTIME.match(line):
        hours, minutes = int(match["hours"] or 0), int(match["minutes"] or match["min"] or 0)
        least = float((int(match["days"] or 0) * 24 + hours) * 3600 + minutes * 60)
        facts.uptime_s = facts.uptime_s or Fact((least, least + 60), "uptime")
    elif match := _PROC_UPTIME.fullmatch(line.strip()):
        facts.uptime_s = Fact((float(match[1]), float(match[1])), "/proc/uptime")
    elif match := _VERSION.match(line):
        facts.version = facts.version or Fact(match[1] or match[2], "status" if match[1] else "the agent's version")
    elif modes := modes_of_status_line(line):
        facts.add_modes(modes)
    else:
        return False
    return True


def _add_runtime(facts: NodeFacts, name: str, number: int) -> None:
    fact = Fact(number, f"{name} in bpf config list")
    if name == "AgentLiveness":
        facts.alive_ns = facts.alive_ns or fact
    else:
        facts.utime_offset = facts.utime_offset or fact


def is_runtime_config(item: Any) -> bool:
    """Whether an element of a JSON list is one of ``bpf config list -o json``."""
    return isinstance(item, dict) and item.get("Key") in ("AgentLiveness", "UTimeOffset")


def add_runtime_config(dump: Dump, item: Any) -> None:
    """One element of it."""
    value = item.get("Value") if is_runtime_config(item) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        _add_runtime(dump.facts, item["Key"], value)


_MADE = re.compile(r"(?<!\d)(20\d\d)(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(\.\d{1,3})?\+0000-UTC")


def made_by_name(name: str) -> Fact[float] | None:
    """When a bugtool was made, by the time (UTC) in its name; None where there is none."""
    match = _MADE.search(name)
    if match is None:
        return None
    try:
        at = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return None
    return Fact(at.timestamp() + float(match[7] or 0), f"its name says {at:%Y-%m-%d %H:%M:%S} UTC")


def _setting(facts: NodeFacts, name: str, text: str) -> bool:
    configured = name.startswith("bpf-")
    evidence, rank = ("the config map", 2) if configured else ("the agent's configuration", 1)
    if name in _TIMEOUTS:
        seconds = seconds_of(text)
        if seconds is not None:
            facts.timeouts_s.setdefault(_TIMEOUTS[name], Fact(seconds, f"{name} in {evidence}", rank))
        return seconds is not None
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < MAX_SIZE):
        return False
    evidence = "status --verbose" if " " in name or name == "NAT" else f"{name} in {evidence}"
    for table in _SIZES[name]:
        facts.capacity.setdefault(table, Fact(int(text), evidence, rank))
    return True


def _clock(kind: str, hz: int | None, where: str) -> Clock | None:
    if kind == "ktime":
        return Clock(None, f"ktime by {where}")
    return Clock(hz, f"jiffies at {hz} Hz by {where}") if hz and 0 < hz <= 10000 else None


def is_agent_config(document: Any) -> bool:
    """Whether a JSON object is what an agent stores of its configuration."""
    return isinstance(document, dict) and ("ClockSource" in document or "CTMapEntriesGlobalTCP" in document)


def add_config(dump: Dump, document: dict[str, Any]) -> None:
    """``agent-runtime-config.json``: sizes, timeouts (nanoseconds), clock, modes."""
    dump.facts.add_modes(modes_of_stored(document))
    for name, value in document.items():
        if (
            (name in _SIZES or name in _TIMEOUTS)
            and isinstance(value, int)
            and not isinstance(value, bool)
            and value >= 0
        ):
            _setting(dump.facts, name, str(value))
    dump.facts.clock = dump.facts.clock or clock_of_document(document, "the agent's configuration")


def add_config_map(dump: Dump, document: Any) -> bool:
    """A Kubernetes object or list as JSON: the data of config maps. False: it holds none of interest."""
    if not isinstance(document, dict):
        return False
    items = document.get("items")
    taken = False
    for item in items if isinstance(items, list) else [document]:
        data = item.get("data") if isinstance(item, dict) else None
        modes = modes_of_config_map(data) if isinstance(data, dict) else {}
        # Any application's config map may have an "enable-ipv6": one that names the datapath's own is the agent's.
        if len(modes) > 2:
            dump.facts.add_modes(modes)
            taken |= bool(modes)
        for name, value in data.items() if isinstance(data, dict) else ():
            if name in _SIZES or name in _TIMEOUTS:
                taken |= _setting(dump.facts, name, str(value)[:40])
            elif name == "node-port-range":
                taken |= add_line(dump, f"{name}: {str(value)[:40]}")
    return taken
