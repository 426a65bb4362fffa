"""One line a packet and hook: what the hook wrote, what it made of the packet, and what became of it."""

from __future__ import annotations

from ctctl.decode.ct import flag_names
from ctctl.events.lines import ARROW, VERDICT_STYLES, Line, device_words, packet_words
from ctctl.model.entry import CtEntry
from ctctl.model.event import CtResult, Hook, HookEvent, LookupRecord, Verdict, Why
from ctctl.model.tuples import endpoint, protocol_name
from ctctl.out.text import safe
from ctctl.packet.spec import PROTO_ICMP, PROTO_ICMPV6


def brief_line(event: HookEvent, *, time_text: str, connection: int | None = None) -> Line:
    """An event as one line. ``time_text`` stands first; ``connection`` says which story it belongs to."""
    line: Line = [(time_text, "dim")]
    if connection is not None:
        line.append((f"  #{connection}", "magenta"))
    if event.node:
        line.append((f"  {safe(event.node)}", "bold blue"))
    line.append((f"  {event.hook}", "bold"))
    if where := device_words(event.device, event.ifindex):
        line.append((f" {where}", "blue"))
    line.append((f"  {packet_words(event)}", "bold"))
    if done := doings(event):
        line.append((f"  {'; '.join(done)}", ""))
    if event.verdict is Verdict.DROP:
        line.append((f"  dropped: {event.reason}", VERDICT_STYLES[event.verdict]))
    elif event.verdict is Verdict.REDIRECT:
        target = device_words(event.redirect_device, event.redirect_ifindex)
        line.append((f"  redirected{f' to {target}' if target else ''}", VERDICT_STYLES[event.verdict]))
    else:
        line.append(("  passed", VERDICT_STYLES[event.verdict]))
    return line


def doings(event: HookEvent) -> list[str]:
    """What a hook found, created and changed, refreshes too, and what it did to the packet, each by itself."""
    done = [_record(record, event.now_s) or _found(record, event.now_s) for record in event.lookups]
    return [*filter(None, done), *_path(event)]


def writings(event: HookEvent) -> list[str]:
    """What a hook created or changed for good, and what it did to the packet, each by itself."""
    return [*_records(event), *_path(event)]


def what_was_written(event: HookEvent) -> str:
    """What a hook created or changed for good, and what it did to the packet; empty for a mere refresh."""
    written = _records(event)
    if event.verdict is Verdict.DROP:
        written.append(f"dropped: {event.reason}")
    return "; ".join([*written, *_path(event)]) if written else ""


def answer_words(event: HookEvent) -> str | None:
    """The ICMP message that the hook made of the packet and sent back; None where it made none."""
    flow = event.tuple_out
    if flow.proto not in (PROTO_ICMP, PROTO_ICMPV6) or flow.proto == event.tuple_in.proto:
        return None
    kind = " port unreachable" if any(record.why & Why.NO_BACKEND for record in event.lookups) else ""
    return f"{protocol_name(flow.proto).lower()} {flow.src} > {flow.dst}{kind}"


def _path(event: HookEvent) -> list[str]:
    words = []
    answer = answer_words(event)
    if answer is not None:
        words.append(f"answered with {answer}")
    elif event.translated:
        flow = event.tuple_out
        words.append(f"translated to {endpoint(flow.src, flow.src_port)} > {endpoint(flow.dst, flow.dst_port)}")
    if event.tunnel_remote is not None:
        option = f" with DSR option {event.dsr}" if event.dsr else ""
        words.append(f"Geneve{_way(event)} {event.tunnel_remote}, VNI {event.tunnel_vni}{option}")
    return words


def _way(event: HookEvent) -> str:
    """On which side of the tunnel its other end is, before the end's address.

    What came out of a tunnel may be sent into one again, to another node or as an error back to the sender; the
    event then has the end that it goes to, and nothing that says so.
    """
    if event.hook is not Hook.FROM_OVERLAY:
        return " to"
    return ", other end" if event.may_be_sent_on else " from"


def _kind(record: LookupRecord) -> str:
    return f"{record.direction}{' related' if record.related else ''}"


def _found(record: LookupRecord, now: int) -> str:
    """An entry that was found and is what it was, but for its time."""
    if record.before is None:
        return ""
    return f"{_kind(record)} {record.before.state}, {_times(record.before, record.after, now)}"


def _times(before: CtEntry, after: CtEntry | None, now: int) -> str:
    old = before.remaining(now)
    new = old if after is None else after.remaining(now)
    return f"{new} s left" if new == old else f"{old} s {ARROW} {new} s"


def _records(event: HookEvent) -> list[str]:
    return [text for record in event.lookups if (text := _record(record, event.now_s))]


def _record(record: LookupRecord, now: int) -> str:
    kind = _kind(record)
    if record.why & Why.CREATED and record.after is not None:
        return f"created {kind}{_created(record, record.after)}"
    if record.result is CtResult.RELATED:
        return f"an error about {kind} {record.flow.src} -> {record.flow.dst}"
    changes = record.changes()
    words = []
    if "flags" in changes:
        before, after = changes["flags"]
        words += [f"+{name}" for name in flag_names(after & ~before)]
        words += [f"-{name}" for name in flag_names(before & ~after)]
    if "backend_id" in changes:
        words.append("backend {} -> {}".format(*changes["backend_id"]))
    if not words or record.before is None:
        return ""
    return f"{kind} {' '.join(words)}, {_times(record.before, record.after, now)}"


def _created(record: LookupRecord, entry: CtEntry) -> str:
    flags = f" [{' '.join(flag_names(entry.flags))}]" if entry.flags else ""
    backend = f", backend {entry.backend_id}" if entry.backend_id else ""
    # An ICMP error that is new itself has the same key as its own related entry: it is one entry.
    related = " with its ICMP related entry" if record.why & Why.RELATED_CREATED and not record.related else ""
    snat = " and the SNAT entry" if record.why & Why.SNAT_CREATED else ""
    return f"{flags}{backend}{related}{snat}"
