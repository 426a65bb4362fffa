"""The bytes of a ``ctctl_event`` to the documented HookEvent (bpf/include/ctctl/abi.h)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, TypeVar

from ctctl.abi import layouts, pins
from ctctl.abi.words import reason_name
from ctctl.decode.ct import decode_entry, decode_key, direction_of
from ctctl.errors import DecodeError
from ctctl.model.event import (
    CtResult,
    Endpoint,
    Fragment,
    Hook,
    HookEvent,
    LookupDirection,
    LookupKind,
    LookupRecord,
    Verdict,
    Why,
)
from ctctl.model.tuples import ICMP, ICMPV6, TCP, FlowTuple

if TYPE_CHECKING:
    from ctctl.model.entry import CtEntry

#: family of an event (bpf/include/ctctl/abi.h)
_IPV6 = 2
FRAGMENTS = (Fragment.NONE, Fragment.FIRST, Fragment.LATER)
_RELATED = int(layouts.CtctlTupleFlags.TUPLE_RELATED)

Word = TypeVar("Word", Hook, Verdict, LookupKind, LookupDirection, CtResult)


def _words(enum: Any, word: type[Word], prefix: str) -> dict[int, Word]:
    """Number → word, by the names of the C enum; names without a word (NONE, MAX) are left out."""
    known = {member.value: member for member in word}
    pairs = ((number, name.removeprefix(prefix).lower()) for name, number in enum.__members__.items())
    return {int(number): known[name] for number, name in pairs if name in known}


_HOOKS = _words(layouts.CtctlHook, Hook, "HOOK_")
_VERDICTS = _words(layouts.CtctlVerdict, Verdict, "VERDICT_")
_KINDS = _words(layouts.CtctlLookupKind, LookupKind, "LOOKUP_")
_DIRECTIONS = _words(layouts.CtctlCtDir, LookupDirection, "CT_DIR_")
_RESULTS = _words(layouts.CtctlCtResult, CtResult, "CT_RESULT_")


def decode_event(
    data: bytes | memoryview,
    *,
    node: str | None = None,
    devices: Mapping[int, str] | None = None,
) -> HookEvent:
    """One event from its bytes (copied). ``devices`` names interface indexes.

    Raises:
        DecodeError: too short, or a number that no enum of this version has.
    """
    if len(data) < _size():
        raise DecodeError(f"an event has {_size()} bytes, this one {len(data)}")
    raw = layouts.ctctl_event.from_buffer_copy(data)
    devices = devices or {}
    proto = getattr(raw, "in").nexthdr
    # A hook that tracks nothing reads no further than the addresses: type 0 is an echo reply only where it did.
    typed = proto in (ICMP, ICMPV6) and bool(
        raw.icmp_type or raw.nr_lookups or getattr(raw, "in").sport or getattr(raw, "in").dport
    )
    tunnel = bool(raw.tunnel_remote) or bool(raw.tunnel_vni)
    hook = _word(_HOOKS, raw.hook, "hook")
    return HookEvent(
        time_ns=raw.time_ns,
        now_s=raw.now_s,
        node=node,
        hook=hook,
        ifindex=raw.ifindex,
        device=devices.get(raw.ifindex),
        tuple_in=_packet_tuple(getattr(raw, "in"), raw.family),
        tuple_out=_packet_tuple(raw.out, raw.family),
        verdict=_word(_VERDICTS, raw.verdict, "verdict"),
        reason=reason_name(raw.reason) if raw.reason else None,
        packet_length=raw.packet_len,
        endpoint_id=raw.endpoint_id or None,
        tcp_flags=raw.tcp_flags if proto == TCP and not hook.of_sockets else None,
        icmp_type=raw.icmp_type if typed else None,
        icmp_code=raw.icmp_code if typed else None,
        fragment=FRAGMENTS[min(raw.fragment, 2)],
        src_identity=raw.src_identity,
        dst_identity=raw.dst_identity,
        mark_in=raw.mark_in,
        mark_out=raw.mark_out,
        redirect_ifindex=raw.redirect_ifindex or None,
        redirect_device=devices.get(raw.redirect_ifindex),
        tunnel_remote=IPv4Address(raw.tunnel_remote) if tunnel else None,
        tunnel_vni=raw.tunnel_vni if tunnel else None,
        dsr=Endpoint(_address(raw.dsr_vip, raw.family), raw.dsr_port) if any(raw.dsr_vip) else None,
        backend_id=raw.backend_id or None,
        rev_nat=raw.rev_nat_index or None,
        lookups=tuple(_lookup(raw.lookup[n], raw.family) for n in range(min(raw.nr_lookups, len(raw.lookup)))),
    )


def _size() -> int:
    return len(bytes(layouts.ctctl_event()))


def _word(table: Mapping[int, Word], number: int, what: str) -> Word:
    try:
        return table[number]
    except KeyError:
        raise DecodeError(f"an event with the unknown {what} {number}: from another version of the datapath?") from None


def _address(raw: Any, family: int) -> IPv4Address | IPv6Address:
    """One of an event's addresses, which have room for either family."""
    packed = bytes(raw)
    return IPv6Address(packed) if family == _IPV6 else IPv4Address(packed[:4])


def _packet_tuple(raw: Any, family: int) -> FlowTuple:
    # As the packet has it: here sport really is the source's, unlike in the tables.
    return FlowTuple(raw.nexthdr, _address(raw.saddr, family), raw.sport, _address(raw.daddr, family), raw.dport)


def _key(raw: Any, family: int) -> bytes:
    """The table's key in an event's tuple, which has room for either family."""
    key = bytes(raw)
    return key if family == _IPV6 else key[:4] + key[16:20] + key[32:]


def _lookup(raw: Any, family: int) -> LookupRecord:
    key = _key(raw.tuple, family)
    flow, tuple_flags = decode_key(key)
    table = (pins.OWN_CT6_TABLES if family == _IPV6 else pins.OWN_CT_TABLES)[1 if raw.any_map else 0]
    why = Why(raw.why)
    kind = _word(_KINDS, raw.kind, "lookup")
    if kind is LookupKind.SOCKET:
        table = pins.LB6_SOCKETS if family == _IPV6 else pins.LB4_SOCKETS
    return LookupRecord(
        kind=kind,
        hook_direction=_word(_DIRECTIONS, raw.dir, "direction"),
        result=_word(_RESULTS, raw.result, "result"),
        map=table,
        flow=flow,
        direction=direction_of(tuple_flags),
        related=bool(tuple_flags & _RELATED),
        why=why,
        error=abs(raw.err),
        before=_entry(key, raw.before, table) if why & Why.HIT else None,
        after=_entry(key, raw.after, table) if why & (Why.HIT | Why.CREATED) else None,
    )


def _entry(key: bytes, raw: Any, table: str) -> CtEntry:
    return decode_entry(key, bytes(raw), map_name=table)
