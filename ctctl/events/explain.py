"""Why a hook did what it did: sentences from an event's own words, nothing guessed after the fact.

Each sentence stands for a bit, or a combination of bits, that the datapath set where it decided
(``enum ctctl_why`` of abi.h); the rules behind them are docs/reference/datapath.md's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from ctctl.model.entry import CtFlags
from ctctl.model.event import CtResult, Hook, HookEvent, LookupDirection, LookupKind, LookupRecord, Verdict, Why
from ctctl.model.tuples import endpoint
from ctctl.packet.spec import TcpFlags

#: Why a packet was dropped, for each name of ``enum ctctl_reason``.
DROP_SENTENCES: dict[str, str] = {
    "invalid": "the packet is not whole, or its headers contradict each other",
    "invalid_sip": "the source address is not the pod's own",
    "ct_invalid_hdr": "the L4 header is cut off, so that there are no ports to track",
    "ct_unknown_proto": "a protocol that connection tracking does not know",
    "ct_create_failed": "the conntrack entry could not be written",
    "csum_l3": "the IP checksum could not be corrected after translation",
    "csum_l4": "the L4 checksum could not be corrected after translation",
    "unknown_l3": "neither IPv4 nor anything else the datapath handles",
    "frag_not_found": "a later fragment whose first fragment was not seen: its ports are unknown",
    "policy": "no policy rule allows this connection, or one denies it",
    "no_service": "the service has no backend that could answer",
    "is_cluster_ip": "a ClusterIP is not reachable from outside the cluster",
    "not_in_src_range": "the client is not in the service's source ranges",
    "no_tunnel_endpoint": "no node is known behind the destination address",
    "no_tunnel_key": "the packet came over the overlay without its tunnel key",
    "encap_prohibited": "this packet may not be encapsulated",
    "ttl_exceeded": "the TTL has run out",
    "invalid_identity": "the source identity is not allowed here",
    "unknown_ct": "a connection state that the hook does not expect",
    "unsupported_l2": "the frame is not Ethernet II",
    "frag_nosupport": "a fragment, and fragments are not tracked here",
    "nat_no_mapping": "no port of the node's address is free for this destination",
    "nat_unsupp_proto": "an ICMP message that cannot leave by the node's address",
    "unknown_icmp_code": "an ICMP error that cannot leave by the node's address: only 'fragmentation needed' can",
    "unknown_l4": "an ICMP error about a protocol that is not translated",
    "invalid_exthdr": "an IPv6 extension header that is not followed",
    "unknown_target": "a neighbour solicitation for an address that is none of this node's",
    "write_error": "the packet could not be changed, or the socket's entry not be written: out of memory",
    "address_in_use": "the port is one of a NodePort service, whose connections a socket of the host would never see",
}

_CHOSEN_BY = (
    (Why.BACKEND_AFFINITY, "from session affinity"),
    (Why.BACKEND_MAGLEV, "from the Maglev table"),
    (Why.BACKEND_RANDOM, "at random"),
    (Why.BACKEND_COOKIE, "by the socket's cookie, so that a UDP socket keeps it"),
)

_POLICY = (
    (Why.POLICY_DENIED, "policy was asked and denies it"),
    (Why.POLICY_ALLOWED, "policy was asked and allows it"),
)


def explain(event: HookEvent) -> list[str]:
    """The sentences for one event, in the order in which the hook decided; no full stops, lower case starts."""
    sentences: list[str] = []
    for record in event.lookups:
        sentences += explain_lookup(event, record)
    sentences += _translation(event)
    sentences.append(_verdict(event))
    return [sentence for sentence in sentences if sentence]


def explain_lookup(event: HookEvent, record: LookupRecord) -> list[str]:
    """The sentences for one lookup of ``event``."""
    by_kind: dict[LookupKind, Callable[[HookEvent, LookupRecord], Iterator[str]]] = {
        LookupKind.SERVICE: _service,
        LookupKind.CT: _connection,
        LookupKind.NODE_PORT: _node_port,
        LookupKind.DSR: _dsr,
        LookupKind.REV_DNAT: _reverse_dnat,
        LookupKind.SNAT: _source_nat,
        LookupKind.SOCKET: _socket,
    }
    sentences = list(by_kind[record.kind](event, record))
    sentences += _lifetime(event, record)
    if record.why & Why.CREATE_FAILED:
        sentences.append(f"the entry could not be written: {errno.errorcode.get(record.error, record.error)}")
    sentences += [text for bit, text in _POLICY if record.why & bit]
    if record.why & Why.POLICY_SKIPPED:
        sentences.append(f"{record.result}: policy is not asked")
    return sentences


def _trigger(event: HookEvent) -> str:
    flags = event.tcp_flags or 0
    if flags & TcpFlags.RST:
        return "RST"
    if flags & TcpFlags.FIN:
        return "FIN"
    if flags & TcpFlags.SYN:
        return "SYN-ACK" if flags & TcpFlags.ACK else "SYN"
    return "packet"


def _chosen(event: HookEvent, record: LookupRecord) -> str:
    if record.why & Why.NO_BACKEND:
        return "there is no backend to choose"
    how = next((text for bit, text in _CHOSEN_BY if record.why & bit), "")
    chosen = record.after.backend_id if record.after is not None else event.backend_id
    return f"a new backend is chosen (backend {chosen or event.backend_id} {how}".rstrip() + ")"


def _service(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    why, before = record.why, record.before
    old = before.backend_id if before is not None else None
    if why & Why.GRACE_OVER:
        yield f"SYN on a service entry that closed longer ago than the grace time: {_chosen(event, record)}"
    elif why & Why.REOPENED:
        yield f"SYN on a closed service entry: {_chosen(event, record)}"
    elif why & Why.BACKEND_GONE:
        yield f"backend {old} of the service entry is gone: {_chosen(event, record)}"
    elif why & Why.BACKEND_INACTIVE:
        yield f"backend {old} of the service entry is not active and this is a SYN: {_chosen(event, record)}"
    elif why & Why.WRONG_TYPE:
        yield f"the service entry belongs to another service (rev-NAT differs): {_chosen(event, record)}"
    elif why & Why.HIT:
        yield f"service entry found: backend {old} is kept"
    else:
        yield f"first packet of this client port to the service: {_chosen(event, record).replace('a new', 'a', 1)}"
    if why & Why.CREATED and not why & Why.HIT:
        yield "a SERVICE entry is written"


def _entry_name(record: LookupRecord) -> str:
    return f"{record.direction} entry"


def _connection(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    why, result = record.why, record.result
    if why & Why.REOPENED:
        yield f"{_trigger(event)} on an entry with a closing bit: the connection starts anew"
    elif why & Why.REV_NAT_CHANGED:
        yield "the entry belongs to another service (rev-NAT differs): it is written anew"
    elif result is CtResult.NEW:
        yield "no entry in either direction: a new connection"
    elif result is CtResult.ESTABLISHED:
        yield f"{_entry_name(record)} of the packet's own direction found: established"
    elif result is CtResult.REPLY:
        yield f"{_entry_name(record)} of the other direction found: a reply"
    else:
        yield "an ICMP error about a tracked connection: related"
    if why & Why.CREATED:
        related = ", and the ICMP related entry beside it" if why & Why.RELATED_CREATED else ""
        yield f"an {_entry_name(record)} is written{related}"
    elif result is CtResult.NEW and not why & Why.CREATE_FAILED:
        yield "no entry is written"


def _node_port(_event: HookEvent, record: LookupRecord) -> Iterator[str]:
    if record.why & Why.CREATED:
        yield "the backend is on this node: an OUT entry with NodePort is written, which will translate the reply"
    elif record.why & Why.HIT:
        yield "the OUT entry of this connection through the node was found"
    else:
        yield "no OUT entry of this connection through the node"


def _dsr(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    why = record.why
    vip = f" (VIP {event.dsr})" if event.dsr is not None else ""
    if why & Why.CREATED:
        again = " again" if why & Why.HIT else ""
        yield f"the packet carries the DSR option{vip}: the OUT entry with DSRInternal is written{again}"
    elif why & Why.HIT:
        yield "the OUT entry of this DSR connection was found"
    elif why & Why.DSR_OPTION:
        yield f"the packet carries the DSR option{vip}"
    else:
        yield "no DSR option and no entry of a DSR connection"
    if why & Why.SNAT_CREATED:
        yield f"the SNAT entry for the replies{vip} is written"


def _reverse_dnat(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    entry = record.after or record.before
    before, after = event.tuple_in, event.tuple_out
    if record.why & Why.HIT and (before.src, before.src_port) != (after.src, after.src_port):
        yield "a reply of a connection that was load balanced here: its source goes back to the VIP"
    else:
        number = f" (rev-NAT {entry.rev_nat})" if entry is not None and entry.rev_nat else ""
        yield f"an entry of a connection that was load balanced here was found{number}, but nothing is translated"


def _source_nat(_event: HookEvent, record: LookupRecord) -> Iterator[str]:
    why = record.why
    if record.hook_direction is LookupDirection.INGRESS:
        yield "an answer to a flow that left by the node's address: its destination goes back to the flow's own source"
        return
    if why & Why.SNAT_STALE:
        yield "the flow's SNAT entries were for another address: deleted"
    if why & Why.SNAT_KEPT:
        yield "the flow has its SNAT entries: the same address and port as before"
    elif why & Why.SNAT_EXHAUSTED:
        yield "no free port of the node's address was found in 128 tries"
    elif why & Why.SNAT_PORT_TAKEN:
        yield "a pair of SNAT entries is written; the port was taken by another flow to the same end, so it got another"
    elif why & Why.SNAT_CREATED:
        yield "a pair of SNAT entries is written: the packet leaves with the node's address, answers find back"
    else:
        yield "the packet is to leave with the node's address"
    if why & Why.CREATED:
        yield "the node's own flow: an OUT entry is written, so that nobody takes its port"


def _socket(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    why = record.why
    if event.hook is Hook.POST_BIND:
        yield f"the address is that of a service (rev-NAT {event.rev_nat})"
    elif event.hook in (Hook.RECVMSG, Hook.GETPEERNAME):
        if why & Why.SOCKET_STALE:
            yield "the service that the socket spoke to is gone, empty or renumbered: its entry is deleted"
        else:
            yield f"the peer is a backend that the socket reached by a service (rev-NAT {event.rev_nat})"
    elif why & Why.NO_BACKEND:
        yield "there is no backend to choose: the call fails with EHOSTUNREACH"
    else:
        how = next((text for bit, text in _CHOSEN_BY if why & bit), "")
        yield f"the socket's call is for a service: a backend is chosen (backend {event.backend_id} {how})"
        yield "its entry says which service the program is told of when it asks for its peer"


def _remaining(event: HookEvent, record: LookupRecord) -> str:
    after = record.after
    return f"{after.remaining(event.now_s)} s" if after is not None else "unknown"


def _lifetime(event: HookEvent, record: LookupRecord) -> Iterator[str]:
    """What became of the entry's lifetime, if an entry was there before."""
    why, after = record.why, record.after
    if after is None or why & Why.REOPENED:
        return
    left = _remaining(event, record)
    if why & Why.CLOSED:
        side = "the client closes its side of the service" if record.kind is LookupKind.SERVICE else ""
        reason = f"{side}: " if side else f"{_trigger(event)}: " if _trigger(event) in {"FIN", "RST"} else ""
        yield f"{reason}both closing bits are set: lifetime {left}"
    elif why & Why.HALF_CLOSED:
        bit = CtFlags.RxClosing if CtFlags.RxClosing in after.flags else CtFlags.TxClosing
        yield f"FIN of one side: {bit.name} is set, the lifetime stays {left}"
    elif why & Why.DEAD:
        yield "both closing bits were set before: the packet changes nothing in it"
    elif why & Why.LONG_LIFETIME:
        yield f"first packet without SYN: SeenNonSyn, and lifetime {left} from now on"
    elif why & Why.HIT and "lifetime" in record.changes():
        yield f"the lifetime is renewed to {left}"
    elif why & Why.CREATED:
        yield f"lifetime {left}"


def _translation(event: HookEvent) -> Iterator[str]:
    before, after = event.tuple_in, event.tuple_out
    if (before.dst, before.dst_port) != (after.dst, after.dst_port):
        yield f"destination translated: {endpoint(before.dst, before.dst_port)} → {endpoint(after.dst, after.dst_port)}"
    if (before.src, before.src_port) != (after.src, after.src_port):
        yield f"source translated: {endpoint(before.src, before.src_port)} → {endpoint(after.src, after.src_port)}"
    if event.tunnel_remote is None:
        return
    if event.may_be_sent_on:
        yield (
            f"came through a tunnel: the other end of it, or of the one that it was sent into, is "
            f"{event.tunnel_remote} (VNI {event.tunnel_vni})"
        )
    elif event.hook is Hook.FROM_OVERLAY:
        yield f"came through the tunnel from {event.tunnel_remote} (VNI {event.tunnel_vni})"
    else:
        option = f" with the DSR option {event.dsr}" if event.dsr is not None else ""
        yield f"encapsulated to {event.tunnel_remote} (VNI {event.tunnel_vni}){option}"


def _verdict(event: HookEvent) -> str:
    if event.hook.of_sockets:
        return _call_verdict(event)
    if event.verdict is Verdict.DROP:
        return f"dropped ({event.reason}): {DROP_SENTENCES.get(str(event.reason), 'no explanation for this reason')}"
    if event.verdict is Verdict.REDIRECT:
        where = event.redirect_device or (f"device {event.redirect_ifindex}" if event.redirect_ifindex else "a device")
        return f"redirected to {where}"
    return _PASSED.get(event.hook, "passed on to the stack")


def _call_verdict(event: HookEvent) -> str:
    if event.verdict is Verdict.DROP:
        return f"refused ({event.reason}): {DROP_SENTENCES.get(str(event.reason), 'no explanation for this reason')}"
    return "the program is told" if event.hook in (Hook.RECVMSG, Hook.GETPEERNAME) else "the call goes on"


#: Where a packet goes that a hook lets through; the others are hooks of what comes in.
_PASSED = {
    Hook.TO_CONTAINER: "delivered to the pod",
    Hook.TO_NETDEV: "leaves by the device",
    Hook.TO_OVERLAY: "leaves by the tunnel device",
}
