"""Well-formed packets of both families, and the nodes that they are sent to: what a fuzz run starts from."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.config.node import NodeFile
from ctctl.packet.checksum import internet_checksum
from ctctl.packet.geneve import Geneve, dsr_option, wrap_geneve
from tests.support.datapath import (
    CLIENT,
    LB_VIP,
    MAC_HERE,
    MAC_THERE,
    NODE,
    NODE_IP,
    POD,
    POD2,
    REMOTE,
    VIP,
    dual_stack,
    frame,
    node_file,
    service,
)

ETH_P_IPV6 = bytes.fromhex("86dd")
LOOPBACK = "169.254.42.1"

#: addresses of the same things in both families
FOUR = {
    "pod": POD, "pod2": POD2, "remote": REMOTE, "client": CLIENT, "vip": VIP, "self": "10.96.0.40",
    "empty": "10.96.0.20", "lb": LB_VIP, "sticky": "172.16.0.11", "guarded": "172.16.0.12", "node": NODE_IP,
    "other": "10.1.0.2", "router": "10.64.0.1", "far": "10.64.1.99",
}  # fmt: skip
SIX = {
    "pod": "fd00:64::36", "pod2": "fd00:64::64", "remote": "fd00:64:1::64", "client": "2001:db8::50",
    "vip": "fd00:96::10", "self": "fd00:96::40", "empty": "fd00:96::20", "lb": "2001:db8:16::10",
    "sticky": "2001:db8:16::11", "guarded": "2001:db8:16::12", "node": "fd00:1::1", "other": "fd00:1::2",
    "router": "fd00:64::1", "far": "fd00:64:1::99",
}  # fmt: skip

_MASQUERADE = {"masquerade": True, "native-routing-cidr": ["10.64.0.0/16", "fd00:64::/32"]}
#: what is merged into the datapath of the node that is tried; the first is of IPv4 alone
MODES: dict[str, dict[str, Any]] = {
    "ipv4": {},
    "dual": {"ipv6": True},
    "option": {"ipv6": True, "lb": {"dispatch": "opt"}},
    "snat": {"ipv6": True, "lb": {"mode": "snat"}},
    "hybrid": {"ipv6": True, "lb": {"mode": "hybrid"}},
    "hybrid-option": {"ipv6": True, "lb": {"mode": "hybrid", "dispatch": "opt"}},
    "tunnel": {"ipv6": True, "routing": "tunnel"},
    "snat-tunnel": {"ipv6": True, "routing": "tunnel", "lb": {"mode": "snat"}},
    "masquerade": {"ipv6": True, **_MASQUERADE},
    "masquerade-snat": {"ipv6": True, **_MASQUERADE, "lb": {"mode": "snat"}},
    "masquerade-tunnel": {"ipv6": True, "masquerade": True, "routing": "tunnel", "lb": {"mode": "hybrid"}},
}


def fuzz_node(mode: str = "ipv4") -> NodeFile:
    """Services of every kind, SCTP and accounting on, a policy on one pod, tables that do not fill up."""
    of_mode = MODES[mode]
    services = _services(FOUR, 0) + (_services(SIX, 100) if "ipv6" in of_mode else [])
    policy = [{"endpoint": "pod2", "direction": "ingress", "port": 8080}]
    datapath = {
        "sctp": True, "accounting": True, "ct": {"tcp-max": 1 << 20, "any-max": 1 << 20, "snat-max": 1 << 20},
        **of_mode, "lb": {**NODE["datapath"]["lb"], **of_mode.get("lb", {})},
    }  # fmt: skip
    node = {**NODE["node"], "router-ip": FOUR["router"]}
    if "ipv6" not in of_mode:
        return node_file(datapath, services=services, policy=policy, node=node)
    node |= {"ip6": SIX["node"], "pod-cidr6": "fd00:64::/48", "router-ip6": SIX["router"]}
    return dual_stack(datapath, services=services, policy=policy, node=node)


def _services(at: Mapping[str, str], first: int) -> list[dict[str, Any]]:
    """Of one family; ``first`` keeps the ids of two apart."""
    lb = {"type": "LoadBalancer"}
    there, here = at["remote"], at["pod2"]
    whole = 128 if ":" in at["client"] else 32
    every = [
        service("web", at["vip"], 80, 7, (101, there, 8080), (102, here, 8080)),
        service("self", at["self"], 80, 9, (131, at["pod"], 8080), affinity="30s"),
        service("empty", at["empty"], 80, 8),
        service("lb", at["lb"], 80, 20, (201, there, 8080), (202, here, 8080), **lb),
        service("lb-sticky", at["sticky"], 80, 21, (203, there, 80), affinity="30s", **lb),
        service("lb-guarded", at["guarded"], 80, 22, (204, here, 8080), **lb,
                **{"source-ranges": [f"{at['client']}/{whole}"]}),
    ]  # fmt: skip
    for item in every:
        item["id"] += first
        item["name"] += f"-{first}" if first else ""
        for backend in item["backends"]:
            backend["id"] += 1000 if first else 0
    return every


def seeds(node: NodeFile) -> list[bytes]:
    """Well-formed frames of every kind the hooks know, as mutations start from."""
    frames = _seeds(FOUR, "icmp", (3, 11, 12))
    if node.datapath.ipv6:
        frames += _seeds(SIX, "icmpv6", (1, 2, 3, 4)) + _neighbours()
    return frames


def _seeds(at: Mapping[str, str], icmp: str, errors: tuple[int, ...]) -> list[bytes]:
    four = icmp == "icmp"
    ends = {name: address if four else f"[{address}]" for name, address in at.items()}
    services = [ends[name] for name in ("vip", "self", "empty", "lb", "sticky", "guarded")]
    there = [*services, *(ends[name] for name in ("remote", "client", "node", "other", "router"))]
    there += [LOOPBACK] if four else []
    request, reply = (8, 0) if four else (128, 129)
    texts: list[str] = []
    frames: list[bytes] = []
    for own in (ends["pod"], ends["pod2"], ends["node"]):
        for other in there:
            if other == own:
                continue
            for a, b in ((own, other), (other, own)):
                for proto in ("tcp", "udp", "sctp"):
                    flags = ("S", "SA", "A", "FA", "R", "none") if proto == "tcp" else ("",)
                    texts += [f"{proto} {a}:40000 > {b}:80 {f} len=7" for f in flags]
                    texts += [f"{proto} {a}:8080 > {b}:40000 {f}" for f in flags]
                    texts += [f"{proto} {a}:999 > {b}:443 {flags[0]}"]
                if four:
                    texts += [f"udp {a}:40000 > {b}:80 frag={frag} id=9 len=40" for frag in ("0+", "48")]
                else:
                    frames += [_fragment(frame(f"udp {a}:40000 > {b}:80 len=40"), begin) for begin in (0, 48)]
                bare_a, bare_b = a.strip("[]"), b.strip("[]")
                texts += [f"{icmp} {bare_a} > {bare_b} type={kind} id=5" for kind in (request, reply)]
                texts += [
                    f'{icmp} {bare_a} > {bare_b} type={t} code={c} inner="tcp {b}:80 > {a}:40000 S"'
                    for t in errors
                    for c in (0, 3, 4)
                ]
    for vip in there:
        texts += [f"tcp {ends['client']}:40000 > {vip}:80 {flags}" for flags in ("S", "A", "FA", "R")]
        texts += [f"udp {ends['client']}:40000 > {vip}:80", f"sctp {ends['client']}:40000 > {vip}:80"]
        texts += [f"udp {ends['client']}:40000 > {vip}:80 opts=01010100"] if four else []
    return frames + [frame(text) for text in texts] + _tunnelled(at, ends, icmp) + _with_option(at, ends)


def _fragment(packet: bytes, offset: int) -> bytes:
    """The first of two fragments of an IPv6 packet, or one that begins at this byte of it."""
    header = struct.pack(">BBHI", packet[20], 0, offset or 1, 9)
    length = struct.pack(">H", len(packet) - 54 + len(header))
    return packet[:18] + length + b"\x2c" + packet[21:54] + header + packet[54:]


def _tunnelled(at: Mapping[str, str], ends: Mapping[str, str], icmp: str) -> list[bytes]:
    """As another node sends them, with the option of DSR, without, with an identity, and with two options."""
    vip = IPv6Address(at["lb"]) if ":" in at["lb"] else IPv4Address(at["lb"])
    option = dsr_option(vip, 80)
    client, pod, pod2 = ends["client"], ends["pod"], ends["pod2"]
    found = []
    for vni, options in ((2, option), (2, b""), (1, b""), (6, b""), (30001, option + option)):
        outer = Geneve(IPv4Address(FOUR["other"]), IPv4Address(NODE_IP), vni, options)
        for text in (f"tcp {client}:40000 > {pod2}:8080 S", f"tcp {client}:40000 > {pod2}:8080 A",
                     f"udp {client}:40000 > {pod}:80", f"{icmp} {at['client']} > {at['pod']} id=4",
                     f"tcp {ends['remote']}:8080 > {ends['router']}:40000 SA"):  # fmt: skip
            found.append(wrap_geneve(frame(text), outer, src_mac=MAC_THERE, dst_mac=MAC_HERE))
    return found


def _with_option(at: Mapping[str, str], ends: Mapping[str, str]) -> list[bytes]:
    """DSR requests of another node as an IP option, or an extension header, tells them (bpf/lib/dsr_option.h)."""
    found = []
    to_pod2 = f"tcp {ends['client']}:40000 > {ends['pod2']}:8080"
    for text in (f"{to_pod2} S", f"{to_pod2} A", f"udp {ends['client']}:40000 > {ends['pod']}:80"):
        if ":" not in at["lb"]:
            option = b"\x9a\x08" + struct.pack("<H", 80) + IPv4Address(at["lb"]).packed[::-1]
            found.append(frame(f"{text} opts={option.hex()}"))
            continue
        plain = frame(text)
        option = bytes([plain[20], 2, 0x1B, 20]) + IPv6Address(at["lb"]).packed + struct.pack(">Hxx", 80)
        length = struct.pack(">H", len(plain) - 54 + len(option))
        found.append(plain[:18] + length + b"\x3c" + plain[21:54] + option + plain[54:])
    return found


def _neighbours() -> list[bytes]:
    """Neighbour solicitations and advertisements (RFC 4861), which have no text."""
    found = []
    asked, told = 135, 136
    for kind, source, target in (
        (asked, "pod", "router"), (asked, "pod", "pod2"), (told, "pod", "pod"), (asked, "other", "node"),
        (told, "node", "node"),
    ):  # fmt: skip
        src, dst = (IPv6Address(SIX[name]).packed for name in (source, target))
        body = struct.pack(">BBHI", kind, 0, 0, 0) + dst + b"\x01\x01" + MAC_THERE
        pseudo = src + dst + struct.pack(">II", len(body), 58)
        body = body[:2] + struct.pack(">H", internet_checksum(pseudo + body)) + body[4:]
        found.append(
            MAC_HERE + MAC_THERE + ETH_P_IPV6 + struct.pack(">IHBB", 6 << 28, len(body), 58, 255) + src + dst + body
        )
    return found
