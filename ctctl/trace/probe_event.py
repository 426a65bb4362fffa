"""What a probe saw in front of, or behind, somebody else's programs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from ctctl.model.drops import CountedDrop
from ctctl.model.entry import CtEntry
from ctctl.model.event import Fragment
from ctctl.model.nat import NatEntry
from ctctl.model.tuples import ICMP, Address, FlowTuple
from ctctl.packet.dissect import dissect_ip, dissect_ipv6
from ctctl.packet.spec import ICMP_ECHO_REQUEST, ICMP_ERRORS, ICMPV6_ECHO_REQUEST, ICMPV6_ERRORS


class ProbeKind(StrEnum):
    """Where in a packet's life an event was taken (``enum ctctl_probe_kind`` of abi.h)."""

    PACKET = "packet"
    RETURN = "return"
    FREED = "freed"


@dataclass(frozen=True, slots=True)
class ProgramRef:
    """A BPF program of a device. ``name`` is the whole name where its BTF has it, ``via`` tcx or clsact."""

    id: int
    name: str
    tag: str
    via: str

    def __str__(self) -> str:
        return f"{self.name} (id {self.id}, tag {self.tag})"


@dataclass(frozen=True, slots=True)
class ProbeTunnel:
    """What a packet came in: ``vxlan`` or ``geneve``; the ends are None where they are not of IPv4."""

    kind: str
    remote: IPv4Address | None
    local: IPv4Address | None
    vni: int


@dataclass(frozen=True, slots=True)
class ProbeEvent:
    """One packet at one probe, host order. None: does not apply, or is not known.

    ``kind`` PACKET: before ``programs`` of the device run; ``entries`` are the conntrack entries that
    they could find, as they stand then. RETURN: ``program`` ended with ``code``; ``same_packet`` if a probe
    saw this very packet before, whose tuple the program may have rewritten. FREED: the kernel
    dropped the packet for ``reason`` (name of its ``enum skb_drop_reason``). ``identity`` is what the mark
    carries, as Cilium writes it. ``head`` is the packet from its IP header on, at most 128 bytes. Of a packet
    in a tunnel (``tunnel``) all else is the inner one's. ``cookie`` is that of the socket that sent it, until it
    comes to where the kernel takes it from its socket.

    What the tables say of it, read a moment after it passed: ``behind`` are entries of its connection that its
    own tuple does not lead to (a reply's SERVICE entry), of which only what does not change is told; ``nat`` are
    the SNAT entries of its tuple, ``service`` the service's address that the connection is to, or replies for.

    ``connection`` numbers the connection through every translation, ``reply`` says which way the packet goes in
    it, ``translated`` that it is not as its sender sent the first packet. ``dropped_by`` are the datapath's own
    reasons (``cilium_metrics``) that were counted just then, ``rule`` the policy's.
    """

    time_ns: int
    kind: ProbeKind
    flow: FlowTuple
    netns: int
    ifindex: int
    packet_length: int
    mark: int
    egress: bool = False
    node: str | None = None
    device: str | None = None
    tcp_flags: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: Fragment = Fragment.NONE
    identity: int | None = None
    entries: tuple[CtEntry, ...] = ()
    programs: tuple[ProgramRef, ...] = ()
    program_id: int | None = None
    program: ProgramRef | None = None
    code: int | None = None
    same_packet: bool = False
    reason: str | None = None
    location: int | None = None
    cookie: int | None = None
    head: bytes = b""
    cpu: int = 0
    tunnel: ProbeTunnel | None = None
    behind: tuple[CtEntry, ...] = ()
    nat: tuple[NatEntry, ...] = ()
    service: tuple[Address, int] | None = None
    connection: int | None = None
    reply: bool | None = None
    translated: bool = False
    dropped_by: tuple[CountedDrop, ...] = ()
    rule: str | None = None

    @property
    def is_icmp_error(self) -> bool:
        """Whether it is a router's or a host's word on another packet, which it quotes."""
        errors = ICMP_ERRORS if self.flow.proto == ICMP else ICMPV6_ERRORS
        return self.icmp_type is not None and self.icmp_type in errors

    @property
    def quoted(self) -> FlowTuple | None:
        """What an ICMP error is about, as far as its first bytes are here: not those of a packet in a tunnel."""
        if not self.is_icmp_error or self.tunnel is not None:
            return None
        inner = (dissect_ip if self.flow.proto == ICMP else dissect_ipv6)(self.head).inner
        if inner is None or inner.src is None or inner.dst is None:
            return None
        if inner.ident is not None:
            asks = inner.icmp_type in {ICMP_ECHO_REQUEST, ICMPV6_ECHO_REQUEST}
            ports = (inner.ident, 0) if asks else (0, inner.ident)
        else:
            ports = (inner.src_port or 0, inner.dst_port or 0)
        return FlowTuple(inner.proto, inner.src, ports[0], inner.dst, ports[1])

    @property
    def subject(self) -> FlowTuple | None:
        """The tuple by which the packet is of a flow: its own, or what it quotes (None: that is not known).

        An ICMP error's own tuple has no ports, so that those about all flows between two hosts share it.
        """
        return self.quoted if self.is_icmp_error else self.flow

    @property
    def leg(self) -> str | None:
        """Which part of the connection's way it is on, in words."""
        if self.connection is None:
            return None
        what = "reply" if self.reply else "request"
        return f"{what}, translated" if self.translated else what


#: Return codes of tc programs (linux/pkt_cls.h); -1 is TCX_NEXT as well.
RETURN_CODES: dict[int, str] = {
    -1: "TC_ACT_UNSPEC",
    0: "TC_ACT_OK",
    1: "TC_ACT_RECLASSIFY",
    2: "TC_ACT_SHOT",
    3: "TC_ACT_PIPE",
    4: "TC_ACT_STOLEN",
    5: "TC_ACT_QUEUED",
    6: "TC_ACT_REPEAT",
    7: "TC_ACT_REDIRECT",
    8: "TC_ACT_TRAP",
}


def return_code_name(code: int) -> str:
    """The name of a tc program's return code, or its number."""
    return RETURN_CODES.get(code, str(code))


def identity_of_mark(mark: int) -> int | None:
    """The security identity in a mark that carries one (magic 0x0f00), as Cilium writes it; else None."""
    if mark & 0x0F00 != 0x0F00:
        return None
    return mark >> 16 | (mark & 0xFF) << 16
