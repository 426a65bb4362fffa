"""Events of probes: blocks for people, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from ctctl.events.lines import Line, change_line, entry_words
from ctctl.events.record import entry_record, wall_clock
from ctctl.model.entry import CtEntry
from ctctl.model.event import Fragment
from ctctl.model.recent import Recent
from ctctl.model.tuples import end_text, protocol_name
from ctctl.out.text import safe
from ctctl.packet.spec import tcp_flag_letters
from ctctl.tables.show.tuples import tuple_record
from ctctl.trace.probe_event import ProbeEvent, ProbeKind, ProbeTunnel, ProgramRef, return_code_name
from ctctl.trace.show import LineWriter

PROBE_SCHEMA = "ctctl/probe-event/v1"


class ProbeTable:
    """A line per packet and probe, with ``verbose`` a block; entries show what they became since the last probe."""

    def __init__(self, stream: TextIO, *, color: bool, wall_offset_ns: int, verbose: bool = False) -> None:
        self._verbose = verbose
        self._writer = LineWriter(stream, color=color)
        self._offset_ns = wall_offset_ns
        self._seen: Recent[Any, CtEntry] = Recent()

    def event(self, event: ProbeEvent) -> None:
        """Write one event."""
        self._writer.lines(self._block(event) if self._verbose else [self._line(event)])

    def _line(self, event: ProbeEvent) -> Line:
        line = self._head(event)
        if event.kind is not ProbeKind.PACKET:
            return [*line, (f"  {probe_ending(event)}", "bold red" if _is_drop(event) else "green")]
        if words := way_words(event):
            line.append((f"  {words}", "cyan"))
        now = event.time_ns // 1_000_000_000
        entries = [
            f"{e.direction}{' related' if e.related else ''} {e.state}, {e.remaining(now)} s left"
            for e in event.entries
        ]
        entries += [f"translated from {_behind_words(e)}" for e in event.behind]
        return [*line, (f"  {'; '.join(entries) or 'no entry yet'}", "green" if entries else "yellow")]

    def _head(self, event: ProbeEvent) -> Line:
        head: Line = [(wall_clock(event.time_ns, self._offset_ns)[11:26], "dim")]
        if event.node:
            head.append((f"  {safe(event.node)}", "bold blue"))
        return [*head, (f"  {_place(event)}", "bold"), (f"  {probe_packet_words(event)}", "bold")]

    def _block(self, event: ProbeEvent) -> Iterator[Line]:
        yield [*self._head(event), (f"  {event.packet_length} bytes", "dim")]
        if event.kind is not ProbeKind.PACKET:
            yield [("    ended      ", "dim"), (probe_ending(event), "bold red" if _is_drop(event) else "green")]
            return
        if words := way_words(event):
            yield [("    leg        ", "dim"), (words, "cyan")]
        if event.mark:
            identity = f", identity {event.identity}" if event.identity is not None else ""
            yield [("    mark       ", "dim"), (f"{event.mark:#010x}{identity}", "")]
        for entry in event.entries:
            yield from self._entry(entry, event.time_ns // 1_000_000_000)
        for entry in event.behind:
            yield [("    entry      ", "dim"), (f"translated from {_behind_words(entry)}", "")]
        for found in event.nat:
            yield [("    SNAT       ", "dim"), (str(found), "")]
        if not event.entries and not event.behind:
            yield [("    entry      ", "dim"), ("none yet", "yellow")]
        for program in event.programs:
            yield [("    next       ", "dim"), (f"{program.via} {safe(str(program))}", "")]

    def _entry(self, entry: CtEntry, now_s: int) -> Iterator[Line]:
        key = (entry.map, entry.tuple, entry.tuple_flags)
        before = self._seen.get(key)
        self._seen.put(key, entry)
        related = " related" if entry.related else ""
        yield [
            ("    entry      ", "dim"),
            (f"{entry.direction} {entry.tuple}{related}  ", ""),
            (f"{entry.state}  ", "green"),
            (entry_words(entry, now_s), "dim"),
        ]
        if before is not None and (line := change_line(before, entry, now_s)) is not None:
            yield line


class ProbeJson:
    """One JSON object a line and event, flushed at once."""

    def __init__(self, stream: TextIO, *, wall_offset_ns: int, raw: bool = False) -> None:
        self._stream = stream
        self._offset_ns = wall_offset_ns
        self._raw = raw

    def event(self, event: ProbeEvent) -> None:
        """Write one event's line."""
        record = probe_record(event, wall_offset_ns=self._offset_ns, raw=self._raw)
        self._stream.write(json.dumps({"schema": PROBE_SCHEMA, **record}) + "\n")
        self._stream.flush()


def _place(event: ProbeEvent) -> str:
    device = safe(event.device) if event.device else f"ifindex {event.ifindex}"
    if event.kind is ProbeKind.FREED:
        return "kernel"
    direction = "egress" if event.egress else "ingress"
    return f"{device} {direction}"


def _behind_words(entry: CtEntry) -> str:
    return f"{entry.direction} {entry.tuple}"


def way_words(event: ProbeEvent) -> str:
    """Which leg of its connection a packet is on, and what the tables have for it."""
    words = []
    if event.leg is not None:
        words.append(f"{event.leg} of connection {event.connection}")
    if event.service is not None:
        words.append(f"service {end_text(*event.service)}")
    words += [f"SNAT to {end_text(found.to_addr, found.to_port)}" for found in event.nat]
    if event.tunnel is not None:
        ends = f" {event.tunnel.remote} > {event.tunnel.local}" if event.tunnel.remote is not None else ""
        words.append(f"in {event.tunnel.kind}{ends}, VNI {event.tunnel.vni}")
    return ", ".join(words)


def probe_ending(event: ProbeEvent) -> str:
    """How a packet ended, by who is best placed to know: the datapath's own reason and rule, else the kernel's."""
    if event.kind is ProbeKind.FREED:
        if event.dropped_by:
            by = " or ".join(map(str, event.dropped_by))
            return safe(f"dropped by the datapath: {by}" + (f" ({event.rule})" if event.rule else ""))
        return f"dropped by the kernel: {event.reason}"
    program = event.program or f"program {event.program_id}"
    return f"{safe(str(program))} returned {return_code_name(event.code or 0)}"


def _is_drop(event: ProbeEvent) -> bool:
    return event.kind is ProbeKind.FREED or return_code_name(event.code or 0) == "TC_ACT_SHOT"


def probe_packet_words(event: ProbeEvent) -> str:
    """The packet of a probe's event in words."""
    flow = event.flow
    six = flow.src.version == 6
    ends = [f"[{a}]:{p}" if six else f"{a}:{p}" for a, p in ((flow.src, flow.src_port), (flow.dst, flow.dst_port))]
    words = f"{protocol_name(flow.proto).lower()} {ends[0]} > {ends[1]}"
    if event.tcp_flags is not None and event.fragment is not Fragment.LATER:
        words += f" {tcp_flag_letters(event.tcp_flags)}"
    if event.icmp_type is not None:
        words += f" type {event.icmp_type} code {event.icmp_code}"
    return words


def probe_record(event: ProbeEvent, *, wall_offset_ns: int, raw: bool = False) -> dict[str, Any]:
    """One event as JSON (schema PROBE_SCHEMA). ``raw`` adds the packet's first bytes and entries as hex."""
    now = event.time_ns // 1_000_000_000
    record: dict[str, Any] = {
        "time": wall_clock(event.time_ns, wall_offset_ns),
        "time_ns": event.time_ns,
        "node": event.node,
        "netns": event.netns,
        "kind": str(event.kind),
        "device": event.device,
        "ifindex": event.ifindex,
        "direction": "egress" if event.egress else "ingress",
        "packet": probe_packet_words(event),
        "length": event.packet_length,
        "tuple": tuple_record(event.flow),
        "tcp_flags": None if event.tcp_flags is None else tcp_flag_letters(event.tcp_flags, ack="A"),
        "icmp_type": event.icmp_type,
        "icmp_code": event.icmp_code,
        "mark": event.mark,
        "identity": event.identity,
        "connection": event.connection,
        "leg": event.leg,
        "service": None if event.service is None else {"addr": str(event.service[0]), "port": event.service[1]},
        "nat": [{"xlate": found.xlate, "to_addr": str(found.to_addr), "to_port": found.to_port} for found in event.nat],
        "tunnel": _tunnel_record(event.tunnel),
        "entries": [entry_record(entry, now, raw=raw) for entry in event.entries],
        "behind": [{"direction": str(e.direction), "tuple": tuple_record(e.tuple)} for e in event.behind],
        "programs": [_program(program) for program in event.programs],
        "program": None if event.program is None else _program(event.program),
        "return_code": None if event.kind is not ProbeKind.RETURN else return_code_name(event.code or 0),
        "reason": event.reason,
        "dropped_by": list(dict.fromkeys(one.reason for one in event.dropped_by)),
        "dropped_at": [one.place for one in event.dropped_by if one.place is not None],
        "rule": event.rule,
    }
    if raw:
        record["head_hex"] = event.head.hex()
    return record


def _tunnel_record(tunnel: ProbeTunnel | None) -> dict[str, Any] | None:
    if tunnel is None:
        return None
    ends = {name: None if end is None else str(end) for name, end in (("src", tunnel.remote), ("dst", tunnel.local))}
    return {"kind": tunnel.kind, **ends, "vni": tunnel.vni}


def _program(program: ProgramRef) -> dict[str, Any]:
    return {"id": program.id, "name": program.name, "tag": program.tag, "via": program.via}
