"""What ICMP messages say: the names of types and codes (IANA, "ICMP Parameters" and "ICMPv6 Parameters")."""

from __future__ import annotations

from ctctl.packet.spec import PROTO_ICMP, PROTO_ICMPV6

_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    9: "network prohibited",
    10: "host prohibited",
    13: "administratively prohibited",
}
_UNREACHABLE6 = {
    0: "no route",
    1: "administratively prohibited",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address refused",
    6: "route refused",
}
_TYPES = {3: "unreachable", 5: "redirect", 11: "time exceeded", 12: "parameter problem"}
_TYPES6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    4: "parameter problem",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
}


def icmp_meaning(proto: int, kind: int | None, code: int | None) -> str | None:
    """What a message of this type and code says; None for echoes, and for what has no name here."""
    if kind is None or proto not in (PROTO_ICMP, PROTO_ICMPV6):
        return None
    unreachable, types, first = (_UNREACHABLE, _TYPES, 3) if proto == PROTO_ICMP else (_UNREACHABLE6, _TYPES6, 1)
    if kind == first and code in unreachable:
        return unreachable[code]
    return types.get(kind)
