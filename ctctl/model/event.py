"""One packet at one hook: what the datapath looked up, found, changed and decided.

The documented form of the kernel's ``ctctl_event``. Every number of the wire has a word here; words
and bits are those of ``bpf/include/ctctl/abi.h`` in lower case, which a test holds together.
"""

from __future__ import annotations

from dataclasses import fields
from enum import IntFlag, StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ctctl.model.entry import CtEntry
from ctctl.model.light import light_value
from ctctl.model.tuples import Direction, FlowTuple, endpoint


class Hook(StrEnum):
    """Where a program of the datapath sits (docs/datapath.md): on a packet's way, or in front of a socket's calls."""

    FROM_CONTAINER = "from_container"
    TO_CONTAINER = "to_container"
    FROM_NETDEV = "from_netdev"
    TO_NETDEV = "to_netdev"
    FROM_OVERLAY = "from_overlay"
    TO_OVERLAY = "to_overlay"
    CONNECT = "connect"
    SENDMSG = "sendmsg"
    RECVMSG = "recvmsg"
    GETPEERNAME = "getpeername"
    POST_BIND = "post_bind"
    XDP_NETDEV = "xdp_netdev"

    @property
    def of_sockets(self) -> bool:
        """Whether it sees a socket's call and not a packet: what is told has no frame, device or mark."""
        return self in _SOCKET_HOOKS


_SOCKET_HOOKS = frozenset({Hook.CONNECT, Hook.SENDMSG, Hook.RECVMSG, Hook.GETPEERNAME, Hook.POST_BIND})
#: Those that packets come to.
PACKET_HOOKS = tuple(hook for hook in Hook if not hook.of_sockets)


class Verdict(StrEnum):
    """What a hook did with the packet."""

    PASS = "pass"  # noqa: S105
    REDIRECT = "redirect"
    DROP = "drop"


class LookupKind(StrEnum):
    """What a lookup was for."""

    SERVICE = "service"
    CT = "ct"
    NODE_PORT = "node_port"
    DSR = "dsr"
    REV_DNAT = "rev_dnat"
    SNAT = "snat"
    SOCKET = "socket"


class LookupDirection(StrEnum):
    """From whose point of view: egress writes OUT entries, ingress IN entries."""

    EGRESS = "egress"
    INGRESS = "ingress"
    SERVICE = "service"


class CtResult(StrEnum):
    """How a packet relates to the connections in the table."""

    NEW = "new"
    ESTABLISHED = "established"
    REPLY = "reply"
    RELATED = "related"


class Fragment(StrEnum):
    """Which part of a datagram a packet is."""

    NONE = "none"
    FIRST = "first"
    LATER = "later"


class Why(IntFlag):
    """What was done in a lookup, and why. Unknown bits are kept."""

    HIT = 1 << 0
    CREATED = 1 << 1
    RELATED_CREATED = 1 << 2
    WRONG_TYPE = 1 << 3
    GRACE_OVER = 1 << 4
    REOPENED = 1 << 5
    HALF_CLOSED = 1 << 6
    CLOSED = 1 << 7
    DEAD = 1 << 8
    LONG_LIFETIME = 1 << 9
    REV_NAT_CHANGED = 1 << 10
    BACKEND_AFFINITY = 1 << 11
    BACKEND_MAGLEV = 1 << 12
    BACKEND_RANDOM = 1 << 13
    BACKEND_KEPT = 1 << 14
    BACKEND_GONE = 1 << 15
    BACKEND_INACTIVE = 1 << 16
    NO_BACKEND = 1 << 17
    POLICY_ALLOWED = 1 << 18
    POLICY_DENIED = 1 << 19
    POLICY_SKIPPED = 1 << 20
    CREATE_FAILED = 1 << 21
    SNAT_CREATED = 1 << 22
    DSR_OPTION = 1 << 23
    SNAT_KEPT = 1 << 24
    SNAT_STALE = 1 << 25
    SNAT_PORT_TAKEN = 1 << 26
    SNAT_EXHAUSTED = 1 << 27
    BACKEND_COOKIE = 1 << 28
    SOCKET_WRITTEN = 1 << 29
    SOCKET_STALE = 1 << 30

    def names(self) -> list[str]:
        """The set bits in lower case, lowest first; unknown ones as "bit24"."""
        value = int(self)
        known = {int(bit): str(bit.name).lower() for bit in Why}
        return [known.get(1 << n, f"bit{n}") for n in range(value.bit_length()) if value >> n & 1]


#: Fields of an entry that a packet can change, in the order they are shown.
_ENTRY_FIELDS = tuple(field.name for field in fields(CtEntry) if field.name not in {"map", "tuple", "key", "value"})


@light_value
class LookupRecord:
    """One lookup in the conntrack table and what came of it.

    ``flow`` is the entry's in its original direction, ``direction`` and ``related`` its kind;
    without a hit those of the key that was looked up. ``error`` is the kernel's errno (positive) of a
    failed create, else 0. ``before`` is None without a hit, ``after`` None when nothing was there or written.
    """

    kind: LookupKind
    hook_direction: LookupDirection
    result: CtResult
    map: str
    flow: FlowTuple
    direction: Direction
    related: bool
    why: Why
    error: int = 0
    before: CtEntry | None = None
    after: CtEntry | None = None

    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Field → (before, after) for every field of the entry that the packet changed; empty for a new one."""
        if self.before is None or self.after is None:
            return {}
        pairs = {name: (getattr(self.before, name), getattr(self.after, name)) for name in _ENTRY_FIELDS}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@light_value
class Endpoint:
    """An address and a port, e.g. of a VIP."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        return endpoint(self.address, self.port)


#: In the mark of a packet that goes from a tunnel to a pod (MARK_FROM_TUNNEL of bpf/lib/endpoint.h).
_MARK_FROM_TUNNEL = 0x1000


@light_value
class HookEvent:
    """One packet at one hook, host order. None: does not apply.

    ``time_ns`` is CLOCK_MONOTONIC (simulated in a simulation), ``now_s`` the clock that lifetimes are
    in. ``tuple_in`` and ``tuple_out`` are the packet's own addresses and ports before and after the
    hook. ``reason`` is None unless the packet was dropped. ``identity`` fields are security identities,
    0 for unknown. ``packet_length`` is the whole frame in bytes.
    """

    time_ns: int
    now_s: int
    hook: Hook
    ifindex: int
    tuple_in: FlowTuple
    tuple_out: FlowTuple
    verdict: Verdict
    packet_length: int = 0
    reason: str | None = None
    node: str | None = None
    device: str | None = None
    endpoint_id: int | None = None
    tcp_flags: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    fragment: Fragment = Fragment.NONE
    src_identity: int = 0
    dst_identity: int = 0
    mark_in: int = 0
    mark_out: int = 0
    redirect_ifindex: int | None = None
    redirect_device: str | None = None
    tunnel_remote: IPv4Address | None = None
    tunnel_vni: int | None = None
    dsr: Endpoint | None = None
    backend_id: int | None = None
    rev_nat: int | None = None
    lookups: tuple[LookupRecord, ...] = ()

    @property
    def translated(self) -> bool:
        """Whether the packet left with other addresses or ports than it came with."""
        return self.tuple_in != self.tuple_out

    @property
    def may_be_sent_on(self) -> bool:
        """Whether what came out of a tunnel may have been sent into one: ``tunnel_remote`` is then either one's end.

        It was not where it passed up to the host, nor where it got the mark of what goes to a pod out of a tunnel.
        """
        if self.hook is not Hook.FROM_OVERLAY or self.verdict is Verdict.PASS:
            return False
        return not self.mark_out & ~self.mark_in & _MARK_FROM_TUNNEL
