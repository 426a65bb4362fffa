"""The flow that ``ct get`` is asked for: as people type it, and as the tools print it."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from ipaddress import ip_address

from ctctl.errors import UsageError
from ctctl.model.tuples import EITHER_ICMP, Address, FlowTuple, endpoint, is_address
from ctctl.tables.query.values import protocol

#: What may follow an end in a printed line: the name of a pod or service.
_NAMED = r"(?:\s+\([^()]*\))?"
#: What a table has in front of the protocol: a node, a role, a mark. It is passed over where a direction follows.
_BEFORE = r"(?:\S+\s+)?(?=\w+\s+(?:OUT|IN|SVC)\s)"
_FLOW = re.compile(
    rf"(?:{_BEFORE})?(?P<proto>\w+)\s+(?P<way>(?:OUT|IN|SVC)\s+)?(?P<src>[^\s>]+?){_NAMED}(?:\s*(?P<arrow>->|>|→)\s*|\s+)"
    rf"(?P<dst>[^\s>]+){_NAMED}(?P<rest>\s.*)?",
    re.IGNORECASE,
)
#: The word after the ends in a line of ct list, nat list or trace.
_FOLLOWING = re.compile(
    r"(?:related|service|new|established|closing|closed),?|(?:XLATE_)?(?:SRC|DST)|[SAFRPUEC.]+|\w+[=:].*|echo|type|\(.*"
)
#: A row of a spreadsheet, the protocol and direction first.
_OF_SHEET = re.compile(r"\w+,(?:OUT|IN|SVC),[^,\s]+,[^,\s]+,.*")
_LONGEST = 4096


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow; port None: any."""

    address: Address
    port: int | None

    def fits(self, address: Address, port: int) -> bool:
        """Whether this is that address, and that port where one was given."""
        return address == self.address and self.port in (None, port)


@dataclass(frozen=True, slots=True)
class Asked:
    """What connections are asked for; protocol None: any."""

    proto: int | None
    src: End
    dst: End

    def has(self, flow: FlowTuple) -> bool:
        """Whether ``flow`` is asked for, in either direction."""
        if self.proto not in (None, flow.proto):
            return False
        here, there = (flow.src, flow.src_port), (flow.dst, flow.dst_port)
        return (self.src.fits(*here) and self.dst.fits(*there)) or (self.src.fits(*there) and self.dst.fits(*here))

    @property
    def exact(self) -> FlowTuple | None:
        """The one flow that is asked for, where protocol and ports say so."""
        if self.proto is None or (self.proto not in EITHER_ICMP and None in (self.src.port, self.dst.port)):
            return None
        return FlowTuple(self.proto, self.src.address, self.src.port or 0, self.dst.address, self.dst.port or 0)


def read_flow(text: str) -> list[Asked]:
    """``tcp 10.0.0.1:1234 > 10.0.0.2:80``; no port, or port 0, is any port, protocol ``ip`` any protocol.

    Lines of ``ct list``, ``nat list`` and of the Cilium CLI are read too, in each of their forms:
    ``TCP OUT a -> b expires=…``, a row of a table or of a spreadsheet, a record of JSON. Some print an IPv6 end
    without brackets (``fd00::1:80``), which may be an address as well: more than one reading, the one with ports
    first. Raises UsageError.
    """
    match = _FLOW.fullmatch(_as_line(text.strip()[:_LONGEST]))
    rest = match["rest"].split() if match is not None and match["rest"] else []
    if match is None or not (match["arrow"] or match["way"]) or (rest and not _FOLLOWING.fullmatch(rest[0])):
        raise UsageError(f"{text!r}: write PROTO SRC:PORT > DST:PORT, e.g. 'tcp 10.64.0.36:54260 > 10.64.0.64:8000'")
    try:
        proto = None if match["proto"].lower() in ("ip", "any") else protocol(match["proto"]).low
        pairs = list(itertools.product(_ends(match["src"]), _ends(match["dst"].rstrip(","))))
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None
    found = [Asked(proto, src, dst) for src, dst in pairs if src.address.version == dst.address.version]
    if not found:
        raise UsageError(f"{text!r}: one end is IPv4, the other IPv6")
    return found


def _as_line(text: str) -> str:
    """A record of JSON, or a row of a spreadsheet, as a row of a table; anything else as it stands."""
    if _OF_SHEET.fullmatch(text):
        return text.replace(",", " ")
    if not text.startswith("{"):
        return text
    try:
        found = json.loads(text)
        ends = [endpoint(ip_address(found[name]), int(found.get(f"{name}_port") or 0)) for name in ("src", "dst")]
        return f"{found['proto']} {' > '.join(ends)}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return text


def _ends(text: str) -> list[End]:
    """The readings of one end, the one with a port first. Raises ValueError."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return [End(_address(host, text), _port(port.removeprefix(":")) if port else None)]
    host, colon, port = text.rpartition(":")
    if not colon:
        return [End(_address(text, text), None)]
    found = []
    if ":" not in host or is_address(host):
        found.append(End(_address(host, text), _port(port)))
    if ":" in host and is_address(text):
        found.append(End(_address(text, text), None))
    if not found:
        raise ValueError(f"{text!r} is no ADDRESS:PORT (IPv6: [ADDRESS]:PORT)")
    return found


def _address(host: str, text: str) -> Address:
    try:
        return ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is no ADDRESS:PORT (IPv6: [ADDRESS]:PORT)") from None


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError(f"port {text!r} is no number from 0 to 65535")
    return int(text) or None
