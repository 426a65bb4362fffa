"""Random and mutated packets through every hook, and the rules that the tables must keep to afterwards."""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ctctl.abi.layouts import CtctlCtFlags as Ct
from ctctl.abi.layouts import ct_entry, ipv4_ct_tuple
from ctctl.config.node import Endpoint, NodeFile
from ctctl.model.event import Hook
from ctctl.packet.geneve import Geneve, dsr_option
from ctctl.simulate.simulator import Simulator, identity_mark
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE_IP,
    NOW,
    POD,
    POD2,
    REMOTE,
    VIP,
    drops,
    entries,
    frame,
    node_file,
    service,
)
from tests.support.geneve import wrap_geneve

LOOPBACK = "169.254.42.1"
#: nothing, from the host, translated, a tunnel's, a pod's identity, the world's by the tunnel
MARKS = (0, 0, 0x0C00, 0x0300, 0x0400, identity_mark(20001), identity_mark(2) | 0x1000)
#: hooks whose packets are counted together: what comes by the tunnel from the wire is from_overlay's in the end
COUNTED = (("from_container",), ("to_container",), ("from_netdev", "from_overlay"), ("to_netdev",), ("to_overlay",))
RETURN_CODES = {0: "pass", 2: "drop", 7: "redirect"}
TCP, UDP, ICMP, SCTP = 6, 17, 1, 132
OUT, IN, RELATED, SERVICE = 0, 1, 2, 4
DSR = Ct.CT_DSR_INTERNAL
CLOSED = Ct.CT_RX_CLOSING | Ct.CT_TX_CLOSING
#: shortest frame that a test run takes for IPv4
MIN_FRAME = 34
#: a frame's bytes that mutations prefer: Ethernet, IP and L4 headers
HEADERS = 80


def fuzz_node() -> NodeFile:
    """Services of every kind, SCTP and accounting on, a policy on one pod, tables that do not fill up."""
    lb = {"type": "LoadBalancer"}
    services = [
        service("web", VIP, 80, 7, (101, REMOTE, 8080), (102, POD2, 8080)),
        service("self", "10.96.0.40", 80, 9, (131, POD, 8080), affinity="30s"),
        service("empty", "10.96.0.20", 80, 8),
        service("lb", LB_VIP, 80, 20, (201, REMOTE, 8080), (202, POD2, 8080), **lb),
        service("lb-sticky", "172.16.0.11", 80, 21, (203, REMOTE, 80), affinity="30s", **lb),
        service("lb-guarded", "172.16.0.12", 80, 22, (204, POD2, 8080), **lb, **{"source-ranges": [f"{CLIENT}/32"]}),
    ]  # fmt: skip
    policy = [{"endpoint": "pod2", "direction": "ingress", "port": 8080}]
    datapath = {"sctp": True, "accounting": True, "ct": {"tcp-max": 1 << 20, "any-max": 1 << 20}}
    return node_file(datapath, services=services, policy=policy)


def seeds() -> list[bytes]:
    """Well-formed frames of every kind the hooks know, as mutations start from."""
    there = [REMOTE, VIP, "10.96.0.40", "10.96.0.20", LB_VIP, "172.16.0.11", "172.16.0.12", CLIENT, LOOPBACK, NODE_IP]
    texts = []
    for pod in (POD, POD2):
        for other in there:
            for a, b in ((pod, other), (other, pod)):
                for proto in ("tcp", "udp", "sctp"):
                    flags = ("S", "SA", "A", "FA", "R", "none") if proto == "tcp" else ("",)
                    texts += [f"{proto} {a}:40000 > {b}:80 {f} len=7" for f in flags]
                    texts += [f"{proto} {a}:8080 > {b}:40000 {f}" for f in flags]
                texts += [f"udp {a}:40000 > {b}:80 frag=0+ id=9 len=40", f"udp {a}:40000 > {b}:80 frag=48 id=9 len=8"]
                texts += [f"icmp {a} > {b} id=5", f"icmp {a} > {b} type=0 id=5"]
                texts += [f'icmp {a} > {b} type={t} code=3 inner="tcp {b}:80 > {a}:40000 S"' for t in (3, 11, 12)]
    for vip in there:
        for flags in ("S", "A", "FA", "R"):
            texts.append(f"tcp {CLIENT}:40000 > {vip}:80 {flags}")
        texts += [f"udp {CLIENT}:40000 > {vip}:80 opts=01010100", f"sctp {CLIENT}:40000 > {vip}:80"]
    frames = [frame(text) for text in texts]
    option = dsr_option(IPv4Address(LB_VIP), 80)
    for vni, options in ((2, option), (2, b""), (1, b""), (30001, option + option)):
        outer = Geneve(IPv4Address("10.1.0.9"), IPv4Address(NODE_IP), vni, options)
        for text in (f"tcp {CLIENT}:40000 > {POD2}:8080 S", f"tcp {CLIENT}:40000 > {POD2}:8080 A",
                     f"udp {CLIENT}:40000 > {POD}:80", f"icmp {CLIENT} > {POD} id=4"):  # fmt: skip
            frames.append(wrap_geneve(frame(text), outer, src_mac=MAC_THERE, dst_mac=MAC_HERE))
    return frames


def mutated(rng: random.Random, packet: bytes) -> bytes:
    """The packet, in half of the cases with bytes changed, cut off, added, or all of it random."""
    choice = rng.random()
    if choice < 0.5:
        return packet
    data = bytearray(packet)
    if choice < 0.85:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(12, min(len(data), HEADERS))] = rng.randrange(256)
    elif choice < 0.93:
        del data[rng.randrange(MIN_FRAME, len(data) + 1) :]
    elif choice < 0.97:
        data += rng.randbytes(rng.randrange(1, 200))
    else:
        data[14:] = rng.randbytes(rng.randrange(20, 120))
    return bytes(data)


@dataclass
class Fuzz:
    """One run over a simulator: ``ran`` packets by hook, their ``codes``."""

    simulator: Simulator
    rng: random.Random
    ran: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    frames: list[bytes] = field(default_factory=seeds)

    def plant(self) -> dict[bytes, bytes]:
        """Connections that no packet of the run is of; their entries as they stand."""
        node = self.simulator
        for text in (f"tcp {POD}:61234 > 10.64.1.99:443 S", f"udp {POD2}:61234 > 10.64.1.99:443"):
            node.run(Hook.FROM_CONTAINER, frame(text))
        node.run(Hook.TO_CONTAINER, frame(f"tcp 10.64.1.99:61234 > {POD2}:8080 S"))
        self.ran += Counter({"from_container": 2, "to_container": 1})
        self.codes["pass"] += 3
        return {key: bytes(entry) for key, entry in entries(node).items() if not key[13] & RELATED}

    def run(self, hook: Hook, packets: int) -> None:
        """So many packets through one hook; a pod hook's pod, the clock and the tunnel change on the way."""
        node, rng = self.simulator, self.rng
        pods = node.nf.endpoints if hook in {Hook.FROM_CONTAINER, Hook.TO_CONTAINER} else (None,)
        runs = [node.program(hook, pod).prepare_test_run(max_frame=4096) for pod in pods]
        pools = [self._pools(hook, pod) for pod in pods]
        for done in range(packets):
            if done % 64 == 0:
                node.now += rng.choice((0, 0, 1, 5, 61))
                self._set_sim()
            at = rng.randrange(len(runs))
            runs[at].context.mark = rng.choice(MARKS)
            code = runs[at].run(mutated(rng, rng.choice(rng.choice(pools[at]))))
            self.codes[RETURN_CODES.get(code, f"code {code}")] += 1
        self.ran[hook.value] += packets

    def _pools(self, hook: Hook, pod: Endpoint | None) -> list[list[bytes]]:
        """What packets are taken from: out of a pod mostly its own, the rest would get no further."""
        if pod is None or hook is not Hook.FROM_CONTAINER:
            return [self.frames]
        own = [packet for packet in self.frames if packet[26:30] == pod.ip.packed]
        return [own, own, own, self.frames]

    def _set_sim(self) -> None:
        rng = self.rng
        option = rng.choice((b"", dsr_option(IPv4Address(LB_VIP), 80), rng.randbytes(12)))
        vni = rng.choice((2, 2, 6, 30001, rng.randrange(1 << 24)))
        record = struct.pack(
            "<QIII4sI36s", self.simulator.now * 1_000_000_000, rng.randrange(1 << 32), int(rng.random() < 0.9), vni,
            IPv4Address("10.1.0.9").packed, len(option), option,
        )  # fmt: skip
        self.simulator.maps["ctctl_sim"].update(bytes(4), record)

    def problems(self, planted: dict[bytes, bytes]) -> list[str]:
        """What is not as it has to be after the run: entries, counters, return codes."""
        found = []
        now = {key: bytes(entry) for key, entry in entries(self.simulator).items()}
        found += [
            f"another flow's entry changed: {key.hex()}" for key, value in planted.items() if now.get(key) != value
        ]
        for table, records in self.simulator.tables().ct.items():
            for key, value in records:
                found += [f"{table} {key.hex()} {value.hex()}: {text}" for text in self._entry(table, key, value)]
        return found + self._counters()

    def _counters(self) -> list[str]:
        counted = drops(self.simulator)
        found = []
        for hooks in COUNTED:
            seen = sum(n for (hook, _), n in counted.items() if hook in hooks)
            if seen != (want := sum(self.ran[hook] for hook in hooks)):
                found.append(f"{hooks}: {want} packets ran, {seen} are counted")
        dropped = sum(n for (_, reason), n in counted.items() if reason != "ok")
        if dropped != self.codes["drop"]:
            found.append(f"{self.codes['drop']} packets were dropped, {dropped} are counted")
        return found + [f"return {code}: {n}" for code, n in self.codes.items() if code not in RETURN_CODES.values()]

    def _entry(self, table: str, key: bytes, value: bytes) -> list[str]:
        t, e = ipv4_ct_tuple.from_buffer_copy(key), ct_entry.from_buffer_copy(value)
        tcp, related, flags = t.nexthdr == TCP, bool(t.flags & RELATED), Ct(e.flags)
        longest = self.simulator.now + 8000
        rules = {
            "in the wrong table": tcp == (table == "cilium_ct4_global"),
            "protocol": t.nexthdr in {TCP, UDP, ICMP, SCTP},
            "tuple flags": t.flags in {OUT, IN, RELATED, RELATED | IN, SERVICE},
            "related is ICMP without ports": not related or (t.nexthdr == ICMP and not t.sport and not t.dport),
            "lifetime": NOW < e.lifetime <= longest,
            "reported in the future": max(e.last_tx_report, e.last_rx_report) <= self.simulator.now,
            "fields of others": not (e.reserved0 or e.ifindex),
            "backend of a SERVICE entry only": bool(e.backend_id) == (t.flags == SERVICE),
            "TCP's bits": tcp or not flags & (CLOSED | Ct.CT_SEEN_NON_SYN),
            "flags seen": tcp or related or not (e.tx_flags_seen or e.rx_flags_seen),
            "counters": related or (e.packets and e.bytes >= e.packets * MIN_FRAME),
            "closed lives short": flags & CLOSED != CLOSED or e.lifetime <= self.simulator.now + 10,
            "tunnel at an IN entry": not flags & Ct.CT_FROM_TUNNEL or bool(t.flags & IN),
        }
        more = self._service if t.flags == SERVICE else self._connection
        return [name for name, holds in {**rules, **more(t, e, flags)}.items() if not holds]

    def _service(self, t: ipv4_ct_tuple, e: ct_entry, flags: Ct) -> dict[str, bool]:
        ip = IPv4Address(t.daddr)
        found = [s for s in self.simulator.nf.services if (s.ip, s.port) == (ip, t.sport)]
        return {
            "a service's": len(found) == 1 and e.rev_nat_index == found[0].id,
            "one of its backends": bool(found) and e.backend_id in {backend.id for backend in found[0].backends},
            "no identity": e.src_sec_id == 0,
            "closes whole": flags & CLOSED in {0, CLOSED},
            "only the client's side": not (e.rx_flags_seen or e.last_rx_report),
            "bits of a SERVICE entry": not flags & ~(CLOSED | Ct.CT_SEEN_NON_SYN),
        }

    def _connection(self, t: ipv4_ct_tuple, e: ct_entry, flags: Ct) -> dict[str, bool]:
        node = self.simulator.nf
        identities = {str(pod.ip): pod.identity for pod in node.endpoints}
        opener, responder = str(IPv4Address(t.daddr)), str(IPv4Address(t.saddr))
        out = not t.flags & IN
        loopback, node_port, dsr = (
            bool(flags & bit) for bit in (Ct.CT_LB_LOOPBACK, Ct.CT_NODE_PORT, Ct.CT_DSR_INTERNAL)
        )
        rules = {
            "known service": e.rev_nat_index in {0, *(s.id for s in node.services)},
            "loopback address": not loopback or LOOPBACK in {opener, responder},
            "one kind": loopback + node_port + dsr <= 1,
            "NodePort of a pod here": not node_port or (out and bool(e.rev_nat_index) and responder in identities),
            "DSR": not dsr or (out and not e.rev_nat_index),
            "from the world": not (node_port or dsr) or e.src_sec_id == 2,
        }
        if out and not (node_port or dsr):
            rules["opened by a pod"] = loopback or identities.get(opener) == e.src_sec_id
        if not out:
            rules["no service at the responder"] = loopback or not e.rev_nat_index
        return rules
