"""Events as blocks of styled lines: what a terminal shows for one packet at one hook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from ctctl.decode.ct import flag_names
from ctctl.events.explain import explain, explain_lookup
from ctctl.model.clock import Clock
from ctctl.model.entry import TIMES, CtEntry
from ctctl.model.event import Fragment, HookEvent, LookupRecord, Verdict, Why
from ctctl.model.tuples import FlowTuple, endpoint, protocol_name
from ctctl.out.text import safe
from ctctl.packet.spec import ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, PROTO_ICMP, tcp_flag_letters

#: A line in pieces: text and rich style ("" for none).
Line: TypeAlias = list[tuple[str, str]]

_LABEL_WIDTH = 11
_INDENT = "    "
VERDICT_STYLES = {Verdict.PASS: "green", Verdict.REDIRECT: "cyan", Verdict.DROP: "bold red"}
#: Fields of an entry that are shown, with the label and how the value reads.
_SHOWN = (
    ("lifetime", "lifetime"),
    ("flags", "flags"),
    ("backend_id", "backend"),
    ("rev_nat", "rev_nat"),
    ("src_sec_id", "identity"),
    ("ifindex", "ifindex"),
    ("packets", "packets"),
    ("bytes", "bytes"),
    ("tx_flags_seen", "tx"),
    ("rx_flags_seen", "rx"),
    ("last_tx_report", "tx_report"),
    ("last_rx_report", "rx_report"),
)
ARROW = "→"
#: Why the kernel took an event not. Since Linux 6.15 a ring buffer's lock is given up where it is not had in time
#: (kernel/bpf/ringbuf.c, rqspinlock): seen once in 240 million events of two contending CPUs of a virtual machine.
NOT_TAKEN = "the ring buffer was full, or its lock busy"


def packet_words(event: HookEvent) -> str:
    """The packet of an event in words: protocol, ends, TCP flags or ICMP type, length."""
    flow = event.tuple_in
    if not flow.proto:
        # The hook passed it on before it read the tuple, e.g. Geneve between nodes at to_netdev.
        return "packet outside of any flow"
    name = protocol_name(flow.proto).lower()
    if event.icmp_type is not None:
        echo = {ICMP_ECHO_REQUEST: "echo request", ICMP_ECHO_REPLY: "echo reply"}.get(event.icmp_type)
        kind = echo or f"type {event.icmp_type} code {event.icmp_code}"
        # A hook that only translates reads the identifier on the way: 0 is "not read" there.
        ident = flow.src_port or flow.dst_port
        words = f"{name} {flow.src} > {flow.dst} {kind}{f' id {ident}' if echo and ident else ''}"
    else:
        ends = (str(flow.src), str(flow.dst)) if flow.proto == PROTO_ICMP else (_end(flow, "src"), _end(flow, "dst"))
        words = f"{name} {ends[0]} > {ends[1]}"
    # A hook that tracks nothing does not read the flags: 0 means "none set" only where something was looked up.
    read = bool(event.tcp_flags or event.lookups)
    if event.tcp_flags is not None and read and event.fragment is not Fragment.LATER:
        words += f" {tcp_flag_letters(event.tcp_flags)}"
    if event.fragment is not Fragment.NONE:
        words += f" {event.fragment} fragment"
    return words


def event_lines(event: HookEvent, *, time_text: str, connection: str = "") -> Iterator[Line]:
    """The block of one event. ``time_text`` stands first; ``connection`` marks which story it belongs to."""
    head: Line = [(time_text, "dim")]
    if connection:
        head.append((f"  {connection}", "magenta"))
    if event.node:
        head.append((f"  {safe(event.node)}", "bold blue"))
    head.append((f"  {event.hook}", "bold"))
    if where := device_words(event.device, event.ifindex):
        head.append((f" on {where}", "blue"))
    head += [("  ", ""), (packet_words(event), "bold"), (f"  {event.packet_length} bytes", "dim")]
    yield head
    for record in event.lookups:
        yield from _lookup_lines(event, record)
    yield from _path_lines(event)
    label = "why"
    # Translation and tunnel have lines of their own.
    for sentence in (text for record in event.lookups for text in explain_lookup(event, record)):
        yield _labelled(label, [(sentence, "")])
        label = ""
    verdict: Line = [(str(event.verdict), VERDICT_STYLES[event.verdict])]
    yield _labelled("verdict", [*verdict, (f"  {explain(event)[-1]}", "")])


def device_words(name: str | None, ifindex: int | None) -> str:
    """A network device by its name, else its index; empty where neither is known."""
    if name:
        return safe(name)
    return f"ifindex {ifindex}" if ifindex else ""


def _labelled(label: str, rest: Line) -> Line:
    return [(f"{_INDENT}{label:<{_LABEL_WIDTH}}", "dim"), *rest]


def _key_words(record: LookupRecord) -> str:
    related = " related" if record.related else ""
    return f"{record.direction} {record.flow}{related}"


def _lookup_lines(event: HookEvent, record: LookupRecord) -> Iterator[Line]:
    style = "green" if record.why & Why.HIT else "yellow"
    yield _labelled(
        str(record.kind),
        [(str(record.result), style), (f"  {_key_words(record)}", ""), (f"  {record.map}", "dim")],
    )
    if record.why & Why.HIT and record.before is not None:
        yield from _changes(event, record)
    elif record.after is not None:
        yield _labelled("", [("created  ", "green"), (entry_words(record.after, event.now_s), "")])
    if record.why & Why.SNAT_CREATED:
        yield _labelled("", [("created  ", "green"), (f"SNAT entry for the replies: source {event.dsr}", "")])


def _changes(event: HookEvent, record: LookupRecord) -> Iterator[Line]:
    before, after = record.before, record.after
    if before is None or after is None:
        return
    label = "created anew  " if record.why & Why.CREATED else "changed  "
    line = change_line(before, after, event.now_s, label)
    if line is None:
        line = _labelled("", [("unchanged  ", "dim"), (entry_words(before, event.now_s), "dim")])
    yield line


def change_line(before: CtEntry, after: CtEntry, now_s: int, label: str = "changed  ") -> Line | None:
    """What differs between two states of an entry, old → new; None if nothing does."""
    pieces: Line = [(label, "yellow")]
    for name, title in _SHOWN:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            pieces += [
                (f"{title} ", "dim"),
                (_value(name, old, now_s), ""),
                (f" {ARROW} ", "dim"),
                (_value(name, new, now_s), "bold yellow"),
                ("  ", ""),
            ]
    return _labelled("", pieces) if len(pieces) > 1 else None


def entry_words(entry: CtEntry, now_s: int) -> str:
    """The fields of an entry that say something, on one line; the lifetime relative to ``now_s``."""
    words = []
    for name, label in _SHOWN:
        value = getattr(entry, name)
        if value or name == "lifetime":
            shown = _value(name, value, now_s)
            words.append(f"{label}={shown.replace(' ', '') if name in TIMES else shown}")
    return " ".join(words)


def _value(name: str, value: Any, now_s: int) -> str:
    return value_words(name, value, Clock(), now_s)


def value_words(name: str, value: Any, clock: Clock, now: int | None) -> str:
    """A field of an entry in words: times in seconds from ``now`` on, flags by name, TCP flags as letters."""
    if value is None:
        return "-"
    if name in {"last_tx_report", "last_rx_report"} and not value:
        return "never"
    if name in TIMES:
        return str(value) if now is None else f"{clock.remaining_s(value, now)} s"
    if name == "flags":
        return f"[{' '.join(flag_names(value))}]"
    if name in {"tx_flags_seen", "rx_flags_seen"}:
        return tcp_flag_letters(value)
    return str(value)


def _path_lines(event: HookEvent) -> Iterator[Line]:
    before, after = event.tuple_in, event.tuple_out
    if event.translated:
        pieces: Line = []
        for side, old, new in (
            ("src", _end(before, "src"), _end(after, "src")),
            ("dst", _end(before, "dst"), _end(after, "dst")),
        ):
            if old != new:
                pieces += [(f"{side} ", "dim"), (old, ""), (f" {ARROW} ", "dim"), (new, "bold cyan"), ("  ", "")]
        yield _labelled("translate", pieces)
    if event.tunnel_remote is not None:
        dsr = f"  DSR option {event.dsr}" if event.dsr is not None else ""
        yield _labelled("tunnel", [(f"{event.tunnel_remote} vni {event.tunnel_vni}{dsr}", "cyan")])
    identities = [
        f"{name} {value}" for name, value in (("from", event.src_identity), ("to", event.dst_identity)) if value
    ]
    if identities:
        yield _labelled("identity", [("  ".join(identities), "")])


def _end(flow: FlowTuple, side: str) -> str:
    return endpoint(flow.src, flow.src_port) if side == "src" else endpoint(flow.dst, flow.dst_port)
