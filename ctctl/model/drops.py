"""Counters of the datapath (``cilium_metrics``): what was forwarded or dropped, why and where in its code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ctctl.model.light import light_value

#: From this number on a reason is one for a drop (Cilium's DROP_* codes); its metrics count this one as a drop too.
FIRST_DROP: Final = 130
_INVALID: Final = 2

#: Reasons as the agent writes them (pkg/monitor/api/drop.go); in all versions one list, later ones only add to it.
REASONS: Final[dict[int, str]] = {
    0: "Success",
    2: "Invalid packet",
    3: "Interface",
    4: "Interface Decrypted",
    5: "LB, sock cgroup: No backend slot entry found",
    6: "LB, sock cgroup: No backend entry found",
    7: "LB, sock cgroup: Reverse entry update failed",
    8: "LB, sock cgroup: Reverse entry stale",
    9: "Fragmented packet",
    10: "Fragmented packet entry update failed",
    11: "Missed tail call to custom program",
    12: "Interface Decrypting",
    13: "Interface Encrypting",
    14: "LB: sock cgroup: Reverse entry delete succeeded",
    15: "MTU error message",
    130: "Invalid source mac",
    131: "Invalid destination mac",
    132: "Invalid source ip",
    133: "Policy denied",
    134: "Invalid packet",
    135: "CT: Truncated or invalid header",
    136: "Fragmentation needed",
    137: "CT: Unknown L4 protocol",
    138: "CT: Can't create entry from packet",
    139: "Unsupported L3 protocol",
    140: "Missed tail call",
    141: "Error writing to packet",
    142: "Unknown L4 protocol",
    143: "Unknown ICMPv4 code",
    144: "Unknown ICMPv4 type",
    145: "Unknown ICMPv6 code",
    146: "Unknown ICMPv6 type",
    147: "Error retrieving tunnel key",
    148: "Error retrieving tunnel options",
    149: "Invalid Geneve option",
    150: "Unknown L3 target address",
    151: "Stale or unroutable IP",
    152: "No matching local container found",
    153: "Error while correcting L3 checksum",
    154: "Error while correcting L4 checksum",
    155: "CT: Map insertion failed",
    156: "Invalid IPv6 extension header",
    157: "IP fragmentation not supported",
    158: "Service backend not found",
    160: "No tunnel/encapsulation endpoint (datapath BUG!)",
    161: "NAT 46/64 not enabled",
    162: "Reached EDT rate-limiting drop horizon",
    163: "Unknown connection tracking state",
    164: "Local host is unreachable",
    165: "No configuration available to perform policy decision",
    166: "Unsupported L2 protocol",
    167: "No mapping for NAT masquerade",
    168: "Unsupported protocol for NAT masquerade",
    169: "FIB lookup failed",
    170: "Encapsulation traffic is prohibited",
    171: "Invalid identity",
    172: "Unknown sender",
    173: "NAT not needed",
    174: "Is a ClusterIP",
    175: "First logical datagram fragment not found",
    176: "Forbidden ICMPv6 message",
    177: "Denied by LB src range check",
    178: "Socket lookup failed",
    179: "Socket assign failed",
    180: "Proxy redirection not supported for protocol",
    181: "Policy denied by denylist",
    182: "VLAN traffic disallowed by VLAN filter",
    183: "Incorrect VNI from VTEP",
    184: "Failed to update or lookup TC buffer",
    185: "No SID was found for the IP address",
    186: "SRv6 state was removed during tail call",
    187: "L3 translation from IPv4 to IPv6 failed (NAT46)",
    188: "L3 translation from IPv6 to IPv4 failed (NAT64)",
    189: "Authentication required",
    190: "No conntrack map found",
    191: "No nat map found",
    192: "Invalid ClusterID",
    193: "Unsupported packet protocol for DSR encapsulation",
    194: "No egress gateway found",
    195: "Traffic is unencrypted",
    196: "TTL exceeded",
    197: "No node ID found",
    198: "Rate limited",
    199: "IGMP handled",
    200: "IGMP subscribed",
    201: "Multicast handled",
    202: "Host datapath not ready",
    203: "Endpoint policy program not available",
    204: "No Egress IP configured",
    205: "Punt to proxy",
    206: "No device",
    207: "First logical datagram fragment not found from world",
}
#: Other words for some of them, of other versions.
_OTHER_WORDS: Final = {
    "CT: Missing TCP ACK flag": 136,
    "Failed to insert into proxymap": 161,
    "LB: No backend slot entry found": 5,
    "LB: No backend entry found": 6,
    "LB: Reverse entry update failed": 7,
    "LB: Reverse entry stale": 8,
    "Policy denied (L3)": 133,
    "Not a local target address": 151,
}
#: Numbers by words; "Invalid packet" is two, of which a drop is meant.
_NUMBERS: Final = {name: number for number, name in REASONS.items()} | _OTHER_WORDS
_SOURCES = {1: "bpf_host.c", 2: "bpf_lxc.c", 3: "bpf_overlay.c", 4: "bpf_xdp.c", 5: "bpf_sock.c", 7: "bpf_wireguard.c"}
#: Files of the datapath by number (pkg/monitor/api/files.go): the numbers of 1.16 and 1.17, to which later builds
#: added, and those of 1.19. 1.18 is where they were given anew.
_FILES_1_16: Final[dict[int, str]] = {
    **_SOURCES,
    6: "bpf_network.c",
    101: "arp.h",
    102: "drop.h",
    103: "srv6.h",
    104: "icmp6.h",
    105: "nodeport.h",
    106: "lb.h",
    107: "mcast.h",
    108: "ipv4.h",
    109: "conntrack.h",
    110: "l3.h",
    111: "trace.h",
    112: "encap.h",
    113: "encrypt.h",
    114: "host_firewall.h",
    115: "nodeport_egress.h",
}
_FILES_1_19: Final[dict[int, str]] = {
    **_SOURCES,
    101: "drop.h",
    102: "srv6.h",
    103: "icmp6.h",
    104: "nodeport.h",
    105: "lb.h",
    106: "mcast.h",
    107: "ipv4.h",
    108: "conntrack.h",
    109: "local_delivery.h",
    110: "trace.h",
    111: "encap.h",
    112: "host_firewall.h",
    113: "nodeport_egress.h",
    114: "ipv6.h",
    115: "classifiers.h",
}


#: Numbers of files that count packets in one of the lists, and in the other are files that count none.
_ONLY_OLD: Final = frozenset({110, 112})
_ONLY_NEW: Final = frozenset({109, 111})


def files_of(minor: int | None, numbers: Iterable[int] = ()) -> Mapping[int, str]:
    """Files by number in Cilium 1.``minor``. Where that does not tell, ``numbers`` that a table uses may.

    Numbers that stand for nothing certain are absent.
    """
    used = set(numbers)
    if minor is not None and minor <= 17:
        return _FILES_1_16
    if minor is not None and minor >= 19:
        return _FILES_1_19
    old, new = bool(used & _ONLY_OLD), bool(used & _ONLY_NEW)
    if old is new:
        return _SOURCES
    return _FILES_1_16 if old else _FILES_1_19


def file_name(number: int, minor: int | None) -> str | None:
    """The source file with that number in Cilium 1.``minor``; None where that is not known."""
    return files_of(minor).get(number)


def reason_name(number: int) -> str:
    """The reason's name, or its number."""
    return REASONS.get(number, str(number))


def reason_number(text: str) -> int | None:
    """The number of a reason by its name or digits; None for what is none."""
    if text.isascii() and text.isdecimal() and len(text) <= 3:
        return int(text) if int(text) < 256 else None
    return _NUMBERS.get(text)


@light_value
class CountedDrop:
    """Why the datapath dropped, and where in its source (``bpf_lxc.c:2110``): None where the counters do not tell."""

    reason: str
    place: str | None = None

    def __str__(self) -> str:
        return f"{self.reason} at {self.place}" if self.place else self.reason


@light_value
class DatapathCounter:
    """Packets and bytes of one reason, direction and place. ``line`` and ``file`` are 0 up to 1.15.

    ``place`` is the file's name where a listing prints it instead of the number.
    """

    reason: int
    direction: str
    packets: int
    bytes: int
    line: int = 0
    file: int = 0
    place: str | None = None

    @property
    def dropped(self) -> bool:
        """Whether these packets were dropped."""
        return self.reason >= FIRST_DROP or self.reason == _INVALID
