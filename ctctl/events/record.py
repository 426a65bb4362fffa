"""The JSON form of trace events: documented names, numbers in host order, addresses as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ctctl.decode.ct import flag_names, other_bits
from ctctl.events.explain import explain
from ctctl.events.lines import packet_words
from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.event import HookEvent, LookupRecord
from ctctl.packet.spec import tcp_flag_letters
from ctctl.tables.show.tuples import tuple_record

EVENT_SCHEMA = "ctctl/trace-event/v1"


def wall_clock(time_ns: int, offset_ns: int) -> str:
    """An event's time as ISO 8601 UTC with microseconds; ``offset_ns``: Unix time minus the event's clock."""
    seconds, rest_ns = divmod(time_ns + offset_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest_ns // 1000:06d}Z"


def event_record(
    event: HookEvent, *, wall_offset_ns: int | None = None, connection: int | None = None, raw: bool = False
) -> dict[str, Any]:
    """One event as JSON (schema EVENT_SCHEMA). ``time`` is null where the clock is simulated.

    ``raw`` adds key and value of entries as hex.
    """
    record: dict[str, Any] = {
        "time": None if wall_offset_ns is None else wall_clock(event.time_ns, wall_offset_ns),
        "time_ns": event.time_ns,
        "now": event.now_s,
        "node": event.node,
        "hook": str(event.hook),
        "ifindex": event.ifindex,
        "device": event.device,
        "endpoint_id": event.endpoint_id,
        "packet": packet_words(event),
        "length": event.packet_length,
        "tuple_in": tuple_record(event.tuple_in),
        "tuple_out": tuple_record(event.tuple_out),
        "translated": event.translated,
        "tcp_flags": None if event.tcp_flags is None else tcp_flag_letters(event.tcp_flags, ack="A"),
        "icmp_type": event.icmp_type,
        "icmp_code": event.icmp_code,
        "fragment": str(event.fragment),
        "identity": {"src": event.src_identity, "dst": event.dst_identity},
        "mark": {"in": event.mark_in, "out": event.mark_out},
        "lookups": [lookup_record(lookup, event.now_s, raw=raw) for lookup in event.lookups],
        "backend_id": event.backend_id,
        "rev_nat": event.rev_nat,
        "tunnel": _tunnel(event),
        "redirect": _redirect(event),
        "verdict": str(event.verdict),
        "reason": event.reason,
        "why": explain(event),
    }
    if connection is not None:
        record["connection"] = connection
    return record


def _tunnel(event: HookEvent) -> dict[str, Any] | None:
    if event.tunnel_remote is None:
        return None
    dsr = None if event.dsr is None else {"address": str(event.dsr.address), "port": event.dsr.port}
    return {"remote": str(event.tunnel_remote), "vni": event.tunnel_vni, "dsr": dsr}


def _redirect(event: HookEvent) -> dict[str, Any] | None:
    if event.redirect_ifindex is None:
        return None
    return {"ifindex": event.redirect_ifindex, "device": event.redirect_device}


def lookup_record(lookup: LookupRecord, now_s: int, *, raw: bool = False) -> dict[str, Any]:
    """One lookup: what was asked, the entry before and after, which fields changed, and why (names of bits)."""
    before, after = lookup.before, lookup.after
    return {
        "kind": str(lookup.kind),
        "hook_direction": str(lookup.hook_direction),
        "result": str(lookup.result),
        "map": lookup.map,
        "key": {
            **tuple_record(lookup.flow),
            "direction": str(lookup.direction),
            "related": lookup.related,
        },
        "why": lookup.why.names(),
        "error": lookup.error or None,
        "before": None if before is None else entry_record(before, now_s, raw=raw),
        "after": None if after is None else entry_record(after, now_s, raw=raw),
        "changes": {name: [_plain(name, old), _plain(name, new)] for name, (old, new) in lookup.changes().items()},
    }


def entry_record(entry: CtEntry, now: int, *, raw: bool = False) -> dict[str, Any]:
    """An entry under the names of ``ct list -o json``; ``raw`` adds key and value as hex."""
    record: dict[str, Any] = {
        "map": entry.map,
        **tuple_record(entry.tuple),
        "direction": str(entry.direction),
        "related": entry.related,
        "tuple_flags": entry.tuple_flags,
        "state": str(entry.state),
        "lifetime": entry.lifetime,
        "remaining": entry.remaining(now),
        "expired": entry.expired(now),
        "flags": int(entry.flags),
        "flag_names": flag_names(entry.flags),
        "other_bits": other_bits(entry.flags),
        "rev_nat": entry.rev_nat,
        "backend_id": entry.backend_id,
        "packets": entry.packets,
        "bytes": entry.bytes,
        "ifindex": entry.ifindex,
        "src_sec_id": entry.src_sec_id,
        "tx_flags_seen": entry.tx_flags_seen,
        "rx_flags_seen": entry.rx_flags_seen,
        "last_tx_report": entry.last_tx_report,
        "last_rx_report": entry.last_rx_report,
    }
    if raw and entry.key is not None and entry.value is not None:
        record |= {"key_hex": entry.key.hex(), "value_hex": entry.value.hex()}
    return record


def _plain(name: str, value: Any) -> Any:
    if name == "flags" and isinstance(value, CtFlags):
        return flag_names(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
