"""The bytes of a ``ctctl_probe_event`` to the documented ProbeEvent (bpf/include/ctctl/abi.h)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.abi import layouts
from ctctl.decode.ct import (
    TUPLE_IN,
    TUPLE_RELATED,
    TUPLE_SERVICE,
    decode_entry,
    encode_key,
    table_name,
)
from ctctl.errors import DecodeError
from ctctl.events.decode import FRAGMENTS
from ctctl.model.entry import CtEntry, Layout
from ctctl.model.tuples import ICMP, ICMPV6, TCP, Address, FlowTuple
from ctctl.packet.spec import ICMP_ERRORS, ICMPV6_ERRORS
from ctctl.trace.probe_event import ProbeEvent, ProbeKind, ProbeTunnel, identity_of_mark

_KINDS = {
    int(layouts.CtctlProbeKind.PROBE_PACKET): ProbeKind.PACKET,
    int(layouts.CtctlProbeKind.PROBE_RETURN): ProbeKind.RETURN,
    int(layouts.CtctlProbeKind.PROBE_FREED): ProbeKind.FREED,
}
_TUNNELS = {
    int(layouts.CtctlProbeTunnel.PROBE_VXLAN): "vxlan",
    int(layouts.CtctlProbeTunnel.PROBE_GENEVE): "geneve",
}
_ENTRY = layouts.CtctlProbeEntry
#: Which entry → the flag byte of its key, and whether it belongs to a connection of the packet's receiver.
_ENTRIES = (
    (_ENTRY.PROBE_ENTRY_SERVICE, TUPLE_SERVICE, False),
    (_ENTRY.PROBE_ENTRY_FORWARD_OUT, 0, False),
    (_ENTRY.PROBE_ENTRY_FORWARD_IN, TUPLE_IN, False),
    (_ENTRY.PROBE_ENTRY_REPLY_OUT, 0, True),
    (_ENTRY.PROBE_ENTRY_REPLY_IN, TUPLE_IN, True),
)


def decode_probe_event(data: bytes | memoryview, layout: Layout = Layout.V1_16) -> ProbeEvent:
    """One event; ``layout`` is that of the tables the probe looked into. Names are added by the reader.

    Raises:
        DecodeError: too short, or of an unknown kind.
    """
    size = len(bytes(layouts.ctctl_probe_event()))
    if len(data) < size:
        raise DecodeError(f"a probe event has {size} bytes, this one {len(data)}")
    raw = layouts.ctctl_probe_event.from_buffer_copy(data)
    if raw.kind not in _KINDS:
        raise DecodeError(f"a probe event of the unknown kind {raw.kind}")
    kind = _KINDS[raw.kind]
    flow = _flow(raw)
    icmp = flow.proto in (ICMP, ICMPV6)
    return ProbeEvent(
        time_ns=raw.time_ns,
        kind=kind,
        flow=flow,
        netns=raw.netns,
        ifindex=raw.ifindex,
        packet_length=raw.packet_len,
        mark=raw.mark,
        egress=bool(raw.egress),
        tcp_flags=raw.tcp_flags if flow.proto == TCP else None,
        icmp_type=raw.icmp_type if icmp else None,
        icmp_code=raw.icmp_code if icmp else None,
        fragment=FRAGMENTS[min(raw.fragment, 2)],
        identity=identity_of_mark(raw.mark),
        entries=tuple(_entries(raw, flow, layout)),
        code=raw.code if kind is not ProbeKind.PACKET else None,
        program_id=raw.prog_id or None,
        same_packet=bool(raw.same_packet),
        location=(raw.location or None) if kind is ProbeKind.FREED else None,
        cookie=(raw.location or None) if kind is ProbeKind.PACKET else None,
        head=bytes(raw.head)[: raw.head_len],
        cpu=raw.cpu,
        tunnel=_tunnel(raw),
    )


def _flow(raw: Any) -> FlowTuple:
    src, dst = bytes(raw.tuple.saddr), bytes(raw.tuple.daddr)
    return FlowTuple(
        raw.tuple.nexthdr, _address(src, raw.family), raw.tuple.sport, _address(dst, raw.family), raw.tuple.dport
    )


def _address(raw: bytes, family: int) -> Address:
    return IPv6Address(raw) if family == 6 else IPv4Address(raw[:4])


def _tunnel(raw: Any) -> ProbeTunnel | None:
    kind = _TUNNELS.get(raw.tunnel)
    if kind is None:
        return None
    ends = [IPv4Address(end) if end else None for end in (raw.outer_saddr, raw.outer_daddr)]
    return ProbeTunnel(kind, ends[0], ends[1], raw.vni)


def _entries(raw: Any, flow: FlowTuple, layout: Layout) -> Iterator[CtEntry]:
    errors = ICMP_ERRORS if flow.proto == ICMP else ICMPV6_ERRORS if flow.proto == ICMPV6 else frozenset()
    related = TUPLE_RELATED if raw.icmp_type in errors else 0
    for which, tuple_flags, reply in _ENTRIES:
        if raw.found >> int(which) & 1:
            flags = tuple_flags if tuple_flags & TUPLE_SERVICE else tuple_flags | related
            key = encode_key(flow.reversed() if reply else flow, flags)
            value = bytes(raw.entry[int(which)])
            yield decode_entry(key, value, layout, table_name(flow.src.version, flow.proto))
