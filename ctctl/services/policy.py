"""Who may talk to whom: what an endpoint's policy map says of a packet, and which rule says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctctl.model.policy import PolicyEntry, decide
from ctctl.model.service import Backend, EndpointRecord, IpcacheRecord, ServiceSlot, identity_of
from ctctl.model.tuples import Address, FlowTuple, endpoint, protocol_name
from ctctl.packet.spec import PROTO_ICMP, PROTO_ICMPV6


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one endpoint's policy says of one direction of a connection.

    ``allowed`` is None where nothing tells; ``why`` is a sentence. ``rule`` is what decided, None where no
    rule covers it. ``derived_from`` are labels of the policies the agent made the rule of, where it says.
    """

    endpoint_id: int | None
    endpoint: Address
    direction: str
    peer: Address
    peer_identity: int | None
    proto: int
    port: int
    allowed: bool | None
    why: str
    rule: PolicyEntry | None = None
    derived_from: tuple[str, ...] = ()


def behind_service(
    connection: FlowTuple, services: Sequence[ServiceSlot], backends: Sequence[Backend]
) -> tuple[list[FlowTuple], str | None]:
    """The connection, or of one to a service those that its backends get, with a sentence that says so.

    Policy is asked once a backend is chosen. A connection without a port is one to any of the address's ports.
    """
    known = {backend.backend_id: (backend.addr, backend.port) for backend in backends}
    slots = [
        slot
        for slot in services
        if slot.addr == connection.dst
        and slot.port
        and connection.dst_port in (0, slot.port)
        and connection.proto not in (PROTO_ICMP, PROTO_ICMPV6)
        and slot.proto in (None, 0, connection.proto)
    ]
    if not slots:
        return [connection], None
    # A node's own address is more than the services on it: without a port the node itself is meant too.
    nodes_own = not connection.dst_port and any(slot.type in ("NodePort", "HostPort") for slot in slots)
    itself = [connection] if nodes_own else []
    listed = ((known.get(slot.backend_id or 0), slot.backend_end) for slot in slots if slot.slot)
    places = dict.fromkeys(place for pair in listed for place in pair if place is not None and place[1] is not None)
    where = endpoint(connection.dst, connection.dst_port) if connection.dst_port else str(connection.dst)
    if not places:
        return itself, f"{where} is a service without a known backend: policy is asked for backends"
    ways = itself + [replace(connection, dst=address, dst_port=port or 0) for address, port in places]
    return ways, f"{where} is a service: policy is asked for the backend that a connection gets"


def judge(
    flow: FlowTuple,
    rules: Sequence[PolicyEntry],
    endpoints: Sequence[EndpointRecord],
    ipcache: Sequence[IpcacheRecord],
) -> list[Verdict]:
    """What the endpoints of this node say of a connection: the source's egress, the destination's ingress.

    Empty where neither end is an endpoint here.
    """
    found = []
    for own, peer, egress in ((flow.src, flow.dst, True), (flow.dst, flow.src, False)):
        record = next((one for one in endpoints if one.addr == own and not one.is_host), None)
        if record is not None:
            own_rules = [rule for rule in rules if rule.endpoint_id == record.endpoint_id]
            found.append(_verdict(flow, record, own_rules, identity_of(peer, ipcache), egress=egress))
    return found


def _verdict(
    flow: FlowTuple, record: EndpointRecord, own: Sequence[PolicyEntry], identity: int | None, *, egress: bool
) -> Verdict:
    peer = flow.dst if egress else flow.src
    word = "egress" if egress else "ingress"
    rule, allowed, why = None, None, ""
    unnamed = [one for one in own if one.identity is None]
    if not own:
        why = "no policy map of this endpoint could be read"
    elif unnamed:
        why = f"the listing names {len(unnamed)} peer(s) by labels only: bpf policy get --numeric tells which they are"
    elif identity is None:
        why = f"the identity table has no entry for {peer}"
    else:
        rule = decide(own, egress, identity, flow.proto, flow.dst_port)
        allowed = rule is not None and not rule.deny
        why = f"no {word} rule covers it" if rule is None else rule_text(rule)
    return Verdict(record.endpoint_id, record.addr, word, peer, identity, flow.proto, flow.dst_port, allowed, why, rule)


def rule_text(rule: PolicyEntry) -> str:
    """A rule in words: ``allow ingress from any peer, any port``."""
    verb, way = ("deny" if rule.deny else "allow"), ("egress to" if rule.egress else "ingress from")
    peer = "any peer" if rule.identity == 0 else f"identity {peer_text(rule)}"
    proxy = f", through the proxy at port {rule.proxy_port}" if rule.proxy_port else ""
    return f"{verb} {way} {peer}, {ports_text(rule)}{proxy}"


def peer_text(rule: PolicyEntry) -> str:
    """The peer's identity, by its labels where a listing has no more."""
    return str(rule.identity) if rule.identity is not None else ",".join(rule.labels)


def ports_text(rule: PolicyEntry) -> str:
    """``any port``, ``80/TCP``, ``8000-8191/TCP``."""
    if not rule.proto:
        return "any port"
    first, last = rule.ports
    if rule.port_bits == 0:
        return f"any {protocol_name(rule.proto)} port"
    return f"{first}/{protocol_name(rule.proto)}" if first == last else f"{first}-{last}/{protocol_name(rule.proto)}"


def derived_from(endpoint: Any, rule: PolicyEntry) -> tuple[str, ...]:
    """Labels of the policies behind a rule, from the agent's answer about the endpoint.

    The agent lists what it realised by protocol and port; rules that differ in the peer only share the labels.
    """
    found: dict[str, None] = {}
    for part in _realized(endpoint, "egress" if rule.egress else "ingress"):
        text = str(part.get("rule", ""))
        if rule.port_bits and f'"port":{rule.port}' not in text.replace(" ", ""):
            continue
        for labels in part.get("derived-from-rules") or ():
            if isinstance(labels, list):
                found[" ".join(map(str, labels))] = None
    return tuple(found)


def _realized(endpoint: Any, direction: str) -> list[dict[str, Any]]:
    for key in ("status", "policy", "realized", "l4", direction):
        endpoint = endpoint.get(key) if isinstance(endpoint, dict) else None
    return [part for part in endpoint if isinstance(part, dict)] if isinstance(endpoint, list) else []
