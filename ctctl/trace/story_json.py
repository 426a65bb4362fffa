"""Objects of ``cilium monitor -j`` and of ``hubble observe -o json`` or ``jsonpb`` as events of a story.

Field names: Cilium's pkg/monitor (Trace-, DropNotifyVerbose) and api/v1/flow/flow.proto.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ctctl.model.drops import FIRST_DROP, REASONS, file_name
from ctctl.model.tuples import ICMP, ICMPV6, SCTP, TCP, UDP
from ctctl.packet.spec import TcpFlags
from ctctl.trace.story_event import StoryEvent, StoryKind, StoryPacket, identity_of
from ctctl.trace.story_packet import address_of, layers_packet, port_of

_TEXT = 200
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d{0,9})?(?:Z|([+-])(\d\d):(\d\d))?$", re.ASCII
)
_LAST_S = 253_402_300_799
_VERDICTS = {1: "forwarded", 2: "dropped", 3: "error", 4: "audit", 5: "redirected", 6: "traced", 7: "translated"}
_L4 = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMPv4": ICMP, "ICMPv6": ICMPV6}
#: Objects of monitor that are about no packet.
APART = frozenset({"agent", "debug", "capture", "record_capture", "lost", "lostEvent"})


def flow_of(item: object) -> Mapping[str, Any] | None:
    """Hubble's flow in an object; None for what is none."""
    if not isinstance(item, dict):
        return None
    flow = item.get("flow", item)
    if not isinstance(flow, dict):
        return None
    if "flow" in item or ("verdict" in flow and ({"IP", "l4", "source", "event_type"} & flow.keys())):
        return {"node_name": item.get("node_name"), "time": item.get("time"), **flow}
    return None


def text_of(value: object) -> str | None:
    """A short text; None for what is none, and for an empty one."""
    return value[:_TEXT] if isinstance(value, str) and value else None


def count_of(value: object) -> int | None:
    """A number of 64 bits that counts something; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    return None


def time_of(value: object) -> int | None:
    """Nanoseconds since 1970 of an RFC 3339 time, or of seconds and nanos; None for what is none."""
    if isinstance(value, dict):
        seconds, nanos = count_of(value.get("seconds")), count_of(value.get("nanos")) or 0
        return seconds * 10**9 + nanos if seconds is not None and seconds <= _LAST_S and nanos < 10**9 else None
    match = _TIME.match(value) if isinstance(value, str) and len(value) <= 64 else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[index]) for index in range(1, 7))
    try:
        at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    seconds = timegm(at.timetuple()) + second - min(second, 59)
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds -= offset if match[8] == "+" else -offset
    return seconds * 10**9 + int((match[7] or "0").ljust(9, "0")) if 0 <= seconds <= _LAST_S else None


def monitor_event(item: Mapping[str, Any]) -> StoryEvent | None:
    """An event of ``monitor -j``; None for an object that is no event of a packet."""
    layers = item.get("summary")
    packet = layers_packet(layers) if isinstance(layers, dict) else StoryPacket(other="packet not captured")
    kind = item.get("type")
    if kind == "trace" and text_of(item.get("observationPoint")):
        place = text_of(item.get("observationPoint"))
        mine = item.get("dstID") if str(place).startswith("to-endpoint") else item.get("source")
        state = text_of(item.get("state"))
        return StoryEvent(
            StoryKind.TRACE,
            packet,
            place=place,
            endpoint=count_of(mine) if "endpoint" in str(place) else None,
            device=device_of(item.get("ifindex")),
            src_identity=identity_of(item.get("srcLabel")),
            dst_identity=identity_of(item.get("dstLabel")),
            state=None if state == "unknown" else state,
            length=count_of(item.get("bytes")),
        )
    if kind == "drop" and text_of(item.get("reason")):
        return StoryEvent(
            StoryKind.DROP,
            packet,
            endpoint=count_of(item.get("dstID")) or None,
            device=device_of(item.get("Ifindex", item.get("ifindex"))),
            src_identity=identity_of(item.get("srcLabel")),
            dst_identity=identity_of(item.get("dstLabel")),
            verdict="dropped",
            reason=text_of(item.get("reason")),
            file=_file(item.get("File", item.get("file"))),
            line=count_of(item.get("Line", item.get("line"))) or None,
            length=count_of(item.get("bytes")),
        )
    return None


def device_of(value: object) -> str | None:
    """A device's name, or its index where monitor knew no name; None for 0."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = text_of(value)
    return None if text == "0" else text


def _file(value: object) -> str | None:
    number = count_of(value)
    if number is None:
        return text_of(value)
    return (file_name(number, None) or f"file {number}") if number else None


def hubble_event(flow: Mapping[str, Any]) -> StoryEvent:
    """An event of Hubble's flow."""
    source, destination = _object(flow.get("source")), _object(flow.get("destination"))
    reason = _reason(flow)
    verdict = flow.get("verdict")
    words = _VERDICTS.get(verdict) if isinstance(verdict, int) else text_of(verdict)
    verdict_word = None if words in {None, "VERDICT_UNKNOWN"} else str(words).lower()
    reply = flow.get("is_reply")
    return StoryEvent(
        _kind(flow, verdict_word),
        _packet(flow),
        time_ns=time_of(flow.get("time")),
        node=text_of(flow.get("node_name")),
        place=_place(flow),
        device=text_of(_object(flow.get("interface")).get("name")),
        src_identity=identity_of(source.get("identity")),
        dst_identity=identity_of(destination.get("identity")),
        src_name=_name(source, flow.get("source_names")),
        dst_name=_name(destination, flow.get("destination_names")),
        state="reply" if reply is True else None,
        verdict=verdict_word,
        reason=reason,
        file=text_of(_object(flow.get("file")).get("name")),
        line=count_of(_object(flow.get("file")).get("line")) or None,
        detail=_l7(flow.get("l7")),
    )


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _kind(flow: Mapping[str, Any], verdict: str | None) -> StoryKind:
    if _object(flow.get("l7")) or flow.get("Type") == "L7":
        return StoryKind.L7
    if flow.get("Type") == "SOCK" or text_of(flow.get("sock_xlate_point")):
        return StoryKind.SOCKET
    if _object(flow.get("event_type")).get("type") == 5:
        return StoryKind.POLICY
    return StoryKind.DROP if verdict == "dropped" else StoryKind.TRACE


def _place(flow: Mapping[str, Any]) -> str | None:
    for name in ("trace_observation_point", "sock_xlate_point", "debug_capture_point"):
        text = text_of(flow.get(name))
        if text is not None and "UNKNOWN" not in text:
            return text.lower().replace("_", "-")
    text = text_of(flow.get("traffic_direction"))
    return text.lower() if text in {"INGRESS", "EGRESS"} else None


def _reason(flow: Mapping[str, Any]) -> str | None:
    """Why it was dropped, in the agent's words where the number is known, else as Hubble has it."""
    word = text_of(flow.get("drop_reason_desc"))
    if word is not None and word != "DROP_REASON_UNKNOWN":
        return word
    number = count_of(flow.get("drop_reason")) or 0
    return REASONS.get(number, f"reason {number}") if number >= FIRST_DROP else None


def _packet(flow: Mapping[str, Any]) -> StoryPacket:
    ip, l4 = _object(flow.get("IP")), _object(flow.get("l4"))
    src, dst = address_of(ip.get("source")), address_of(ip.get("destination"))
    name = next((name for name in _L4 if isinstance(l4.get(name), dict)), None)
    head = _object(l4.get(name)) if name else {}
    flags = icmp = None
    if name == "TCP" and isinstance(head.get("flags"), dict):
        flags = 0
        for word, on in head["flags"].items():
            flags |= TcpFlags.__members__.get(word, 0) if on is True else 0
    if name in {"ICMPv4", "ICMPv6"}:
        icmp = f"type {count_of(head.get('type')) or 0} code {count_of(head.get('code')) or 0}"
    return StoryPacket(
        _L4[name] if name else None,
        src,
        port_of(head.get("source_port")),
        dst,
        port_of(head.get("destination_port")),
        flags,
        icmp,
        None if src is not None and dst is not None else "packet without addresses",
    )


def _name(end: Mapping[str, Any], names: object) -> str | None:
    pod, space = text_of(end.get("pod_name")), text_of(end.get("namespace"))
    if pod is not None:
        return f"{space}/{pod}" if space else pod
    return text_of(names[0]) if isinstance(names, list) and names else None


def _l7(value: object) -> str | None:
    record = _object(value)
    if not record:
        return None
    kind = (text_of(record.get("type")) or "").lower()
    http, dns = _object(record.get("http")), _object(record.get("dns"))
    if http:
        words = ["http", kind, text_of(http.get("method")), text_of(http.get("url")), count_of(http.get("code"))]
    elif dns:
        words = ["dns", kind, text_of(dns.get("query")), count_of(dns.get("rcode"))]
    else:
        words = ["kafka" if "kafka" in record else "l7", kind]
    return " ".join(str(word) for word in words if word)
