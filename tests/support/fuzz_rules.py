"""What conntrack and SNAT tables must keep to, whatever packets came: of both families, in every mode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ctctl.abi.layouts import CtctlCtFlags as Ct
from ctctl.abi.layouts import ct_entry, ipv4_ct_tuple, ipv4_nat_entry, ipv6_ct_tuple, ipv6_nat_entry
from ctctl.config.node import NodeFile

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
OUT, IN, RELATED, SERVICE = 0, 1, 2, 4
DSR = Ct.CT_DSR_INTERNAL
CLOSED = Ct.CT_RX_CLOSING | Ct.CT_TX_CLOSING
LOOPBACK = IPv4Address("169.254.42.1")
#: shortest frame that a test run takes for IPv4
MIN_FRAME = 34
WORLD, WORLD_IPV4, WORLD_IPV6 = 2, 9, 10
#: what a port can become that is not kept (bpf/lib/snat.h)
PORTS = range(32768, 65536)
LONGEST_S = 8000
CLOSED_S = 10


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a conntrack or SNAT table; addresses and ports as the bytes have them."""

    daddr: IPv4Address | IPv6Address
    saddr: IPv4Address | IPv6Address
    dport: int
    sport: int
    proto: int
    flags: int

    @property
    def version(self) -> int:
        return self.daddr.version


def key_of(raw: bytes) -> Key:
    if len(raw) == len(bytes(ipv4_ct_tuple())):
        four = ipv4_ct_tuple.from_buffer_copy(raw)
        ends = IPv4Address(four.daddr), IPv4Address(four.saddr)
        return Key(*ends, four.dport, four.sport, four.nexthdr, four.flags)
    six = ipv6_ct_tuple.from_buffer_copy(raw)
    return Key(
        IPv6Address(bytes(six.daddr)), IPv6Address(bytes(six.saddr)), six.dport, six.sport, six.nexthdr, six.flags
    )


class Rules:
    """The rules of one node's tables at one moment of its clock, which began at ``start``."""

    def __init__(self, node: NodeFile, start: int, now: int) -> None:
        self.node, self.start, self.now = node, start, now
        datapath, spec = node.datapath, node.node
        self.mode = datapath.lb.mode
        self.own = {spec.ip, spec.ip6, spec.router, spec.router6} - {None}
        self.pods = {address: pod.identity for pod in node.endpoints for address in (pod.ip, pod.ip6) if address}
        self.backends = {s.id: {(b.ip, b.port) for b in s.backends} for s in node.services}
        self.world = {4: WORLD_IPV4, 6: WORLD_IPV6} if datapath.ipv6 else {4: WORLD, 6: WORLD}

    def conntrack(self, table: str, records: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
        """What is wrong with a conntrack table's records."""
        for raw, value in records:
            key, entry = key_of(raw), ct_entry.from_buffer_copy(value)
            more = self._service if key.flags == SERVICE else self._connection
            flags = Ct(entry.flags)
            for name, holds in {**self._entry(table, key, entry, flags), **more(key, entry, flags)}.items():
                if not holds:
                    yield f"{table} {key} {value.hex()}: {name}"

    def _entry(self, table: str, key: Key, e: ct_entry, flags: Ct) -> dict[str, bool]:
        tcp, related = key.proto == TCP, bool(key.flags & RELATED)
        icmp = ICMPV6 if key.version == 6 else ICMP
        return {
            "in the wrong table": table == f"cilium_ct{'' if tcp else '_any'}{key.version}_global",
            "protocol": key.proto in {TCP, UDP, SCTP, icmp},
            "tuple flags": key.flags in {OUT, IN, RELATED, RELATED | IN, SERVICE},
            "related is ICMP without ports": not related or (key.proto == icmp and not key.sport and not key.dport),
            "lifetime": self.start < e.lifetime <= self.now + LONGEST_S,
            "reported in the future": max(e.last_tx_report, e.last_rx_report) <= self.now,
            "fields of others": not (e.reserved0 or e.ifindex),
            "backend of a SERVICE entry only": bool(e.backend_id) == (key.flags == SERVICE),
            "TCP's bits": tcp or not flags & (CLOSED | Ct.CT_SEEN_NON_SYN),
            "flags seen": tcp or related or not (e.tx_flags_seen or e.rx_flags_seen),
            "counters": related or bool(e.packets and e.bytes >= e.packets * MIN_FRAME),
            "closed lives short": flags & CLOSED != CLOSED or e.lifetime <= self.now + CLOSED_S,
            "tunnel at an IN entry": not flags & Ct.CT_FROM_TUNNEL or bool(key.flags & IN),
        }

    def _service(self, key: Key, e: ct_entry, flags: Ct) -> dict[str, bool]:
        found = [s for s in self.node.services if (s.ip, s.port) == (key.daddr, key.sport)]
        return {
            "a service's": len(found) == 1 and e.rev_nat_index == found[0].id,
            "one of its backends": bool(found) and e.backend_id in {backend.id for backend in found[0].backends},
            "no identity": e.src_sec_id == 0,
            "closes whole": flags & CLOSED in {0, CLOSED},
            "only the client's side": not (e.rx_flags_seen or e.last_rx_report),
            "bits of a SERVICE entry": not flags & ~(CLOSED | Ct.CT_SEEN_NON_SYN),
        }

    def _connection(self, key: Key, e: ct_entry, flags: Ct) -> dict[str, bool]:
        opener, responder, out = key.daddr, key.saddr, not key.flags & IN
        loopback, node_port, dsr = (
            bool(flags & bit) for bit in (Ct.CT_LB_LOOPBACK, Ct.CT_NODE_PORT, Ct.CT_DSR_INTERNAL)
        )
        rules = {
            "known service": e.rev_nat_index in {0, *self.backends},
            "loopback address": not loopback or LOOPBACK in {opener, responder},
            "one kind": loopback + node_port + dsr <= 1,
            "NodePort of a backend": not node_port or (out and self._is_backend(key, e.rev_nat_index)),
            "NodePort of a pod here": not node_port or responder in self.pods or not self._by_dsr(key.proto),
            "DSR": not dsr or (out and not e.rev_nat_index and self._by_dsr(key.proto)),
            "from the world": not (node_port or dsr) or e.src_sec_id == self.world[key.version],
        }
        if out and not (node_port or dsr):
            by_node = opener in self.own and not e.src_sec_id and self._translates
            rules["opened by a pod or the node"] = loopback or by_node or self.pods.get(opener) == e.src_sec_id
        if not out:
            rules["no service at the responder"] = loopback or not e.rev_nat_index
        return rules

    @property
    def _translates(self) -> bool:
        """Do packets leave by the node's address, whose own are tracked then?"""
        return self.mode != "dsr" or any(self.masquerades(version) for version in (4, 6))

    def masquerades(self, version: int) -> bool:
        masquerade = self.node.datapath.masquerade
        return masquerade.ipv6 if version == 6 else masquerade.ipv4

    def _by_dsr(self, proto: int) -> bool:
        return self.mode == "dsr" or (self.mode == "hybrid" and proto == TCP)

    def _is_backend(self, key: Key, service: int) -> bool:
        # As the packet had it: the request's destination is in the reversed key's source.
        return (key.saddr, key.dport) in self.backends.get(service, set())

    def snat(self, records: Mapping[bytes, bytes]) -> Iterator[str]:
        """What is wrong with an SNAT table: every translation is a pair, whose halves say the same."""
        pairs = {key_of(raw): _target(value) for raw, value in records.items()}
        for key, (created, needs_ct, address, port) in pairs.items():
            # Of a DSR connection: the VIP over the source of answers; nothing comes back to it.
            if not key.flags & IN and address not in self.own:
                twin = None
                rules = {"DSR by the packet's own mode": self._by_dsr(key.proto), "nobody's own": not needs_ct}
            else:
                twin = pairs.get(_twin(key, address, port))
                rules = {"half a pair": twin == (created, needs_ct, *_end(key))} | self._half(key, port)
                if key.flags & IN and twin is not None and twin[2] not in self.own:
                    rules.pop("half a pair")  # A DSR connection of the same addresses and ports came later.
            rules |= {
                "created": self.start <= created <= self.now, "flags": key.flags in {OUT, IN},
                "needs_ct": needs_ct in {0, 1},
            }  # fmt: skip
            for name, holds in rules.items():
                if not holds:
                    yield f"snat {key} -> {address}:{port} created {created} needs_ct {needs_ct}: {name}, twin {twin}"

    def _half(self, key: Key, port: int) -> dict[str, bool]:
        """Of a pair by the node's address; ports as in the packet, an echo's identifier where its own is."""
        icmp = ICMPV6 if key.version == 6 else ICMP
        inward = bool(key.flags & IN)
        return {
            "protocol": key.proto in {TCP, UDP, SCTP, icmp},
            "the node's address": not inward or key.daddr in self.own,
            "a port of the range": (key.dport if inward else port) in PORTS,
            "somebody translates": self._translates,
        }


def _target(value: bytes) -> tuple[int, int, IPv4Address | IPv6Address, int]:
    if len(value) == len(bytes(ipv4_nat_entry())):
        four = ipv4_nat_entry.from_buffer_copy(value)
        return four.created, four.needs_ct, IPv4Address(four.to_saddr), four.to_sport
    six = ipv6_nat_entry.from_buffer_copy(value)
    return six.created, six.needs_ct, IPv6Address(bytes(six.to_saddr)), six.to_sport


def _end(key: Key) -> tuple[IPv4Address | IPv6Address, int]:
    """What the pair's other half turns an address into: the end of this key that is translated."""
    return (key.daddr, key.dport) if key.flags & IN else (key.saddr, key.sport)


def _twin(key: Key, address: IPv4Address | IPv6Address, port: int) -> Key:
    """The key of the pair's other half."""
    if key.flags & IN:
        return Key(key.saddr, address, key.sport, port, key.proto, OUT)
    return Key(address, key.daddr, port, key.dport, key.proto, IN)
