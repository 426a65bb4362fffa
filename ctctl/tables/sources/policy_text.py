"""The Cilium CLI's ``bpf policy get`` (of one endpoint, or ``--all``): rows of text and the JSON form.

With ``--numeric`` a row names the peer by its identity, else by its labels: the first stands in the row, the
others in rows of their own below it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ctctl.errors import DecodeError
from ctctl.model.identity import RESERVED_NUMBERS
from ctctl.model.policy import PolicyEntry
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.values import digits, has_any, whole

#: The first line of a table; AUTH TYPE and PREFIX are missing in older ones, COOKIE is there from 1.18 on.
HEADER = re.compile(r"\s*+POLICY\s+DIRECTION\s+(?:IDENTITY|LABELS\s+\(source:key\[=value\]\))\s+PORT/PROTO\s")
#: What says whose table follows: the listing of all, the command that was typed, a heading of ``debuginfo``.
_ENDPOINT = re.compile(
    r"\s*+(?:Endpoint\s++ID:|#{1,6} BPF Policy Get|.{0,120}\bbpf policy get(?: -n| --numeric)?) +(\d{1,5})\b", re.I
)
_PATH = re.compile(r"\s*+Path:\s+\S{0,200}/(cilium_policy_(?:v2_)?(\d{1,5}))\s*$")
#: What none of them is without, in small letters.
_IN_WHOSE = ("path:", "endpoint", "policy get", "policy stats")
#: A table of no rules.
_EMPTY = re.compile(r"\s*+Policy stats empty\.")
_ROW = re.compile(
    r"\s*+(?P<verdict>Allow|Deny)\s+(?P<way>Ingress|Egress)\s+(?P<peer>\S{1,300})\s+(?P<ports>\S{1,40})"
    r"\s+(?P<proxy>NONE|\d{1,5})(?:\s+(?P<auth>[a-z][a-z-]{2,30}|\d{1,3}))?"
    r"\s+(?P<bytes>-|\d{1,20})\s+(?P<packets>-|\d{1,20})(?:\s+(?P<prefix>\d{1,2}))?(?:\s+(?P<cookie>\d{1,10}))?\s*$"
)
#: What starts a row, be it damaged.
MARK = re.compile(r"\s*+(?:Allow|Deny)\s+(?:Ingress|Egress)\s")
#: Columns that not every version has, by what a head calls them: where it has one, every row has.
_LATER = {"auth": "AUTH", "prefix": "PREFIX", "cookie": "COOKIE"}
_LABEL = re.compile(r"\s+([a-z0-9-]{1,40}:\S{1,300})\s*$")
#: More labels of one peer before another row, as the program prints them.
LABELS = re.compile(
    rb"(?: {2,}+[a-z0-9-]{1,40}+:[\w./=:@+-]{1,200}+ *+\n)++(?=(?:Allow|Deny) +(?:In|E)gress )", re.ASCII
)
_PORTS = re.compile(
    r"(?:(?P<mask>0x[0-9a-f]{1,4})/(?P<bits>\d{1,2})/|(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?/)?"
    r"(?P<proto>[A-Za-z0-9-]{1,10})"
)
_AUTH_TYPES = {"disabled": 0, "spire": 1, "test-always-fail": 2, "always-fail": 2}
_PROTO_BITS, _PORT_BITS = 8, 16


@dataclass(slots=True)
class PolicyLines:
    """Rows of policy tables, one after the other; ``endpoint`` is whose they are, None where nothing said."""

    dump: Dump
    endpoint: int | None = None
    map: str | None = None
    #: more labels of the last row's peer may follow
    open: bool = False
    #: columns of the table's head that not every version has
    columns: tuple[str, ...] = ()

    def whose(self, line: str) -> bool:
        """Whether the line says whose table follows, or that it is empty."""
        lowered = line.lower()
        if line.isascii() and not has_any(lowered, _IN_WHOSE):
            return False
        if (match := _PATH.match(line)) is not None:
            self.map, self.endpoint = match[1], int(match[2])
        elif (match := _ENDPOINT.match(line)) is not None:
            self.map, self.endpoint = None, int(match[1])
        elif _EMPTY.match(line):
            self.dump.listings.shown.add("policy")
        else:
            return False
        return True

    def header(self, line: str) -> None:
        """The first line of a table."""
        self.dump.listings.shown.add("policy")
        self.open = False
        self.columns = tuple(name for name, title in _LATER.items() if title in line)

    def add(self, line: str) -> bool:
        """Whether the line is a row, or a further label of the row above; it is added then."""
        if len(line) > 1000:
            return False
        if self.open and (label := _LABEL.match(line)) is not None:
            rules = self.dump.listings.policy
            rules[-1] = replace(rules[-1], labels=(*rules[-1].labels, label[1]))
            return True
        match = _ROW.match(line) if "gress" in line else None
        if match is None or any(match[name] is None for name in self.columns):
            return False
        try:
            self.dump.listings.policy.append(self._rule(match))
        except (DecodeError, ValueError):
            return False
        self.open = bool(self.dump.listings.policy[-1].labels)
        return True

    @property
    def labels(self) -> int:
        """How many labels the last row has, which are copied for another one."""
        return len(self.dump.listings.policy[-1].labels) if self.open else 0

    def add_labels(self, lines: bytes) -> None:
        """Take further labels of the row above, a line each."""
        rules = self.dump.listings.policy
        rules[-1] = replace(rules[-1], labels=(*rules[-1].labels, *lines.decode().split()))

    def _rule(self, match: re.Match[str]) -> PolicyEntry:
        identity, labels = _peer(match["peer"])
        proto, port, bits = ports_of(match["ports"])
        auth = match["auth"] or "disabled"
        cookie = match["cookie"]
        return PolicyEntry(
            endpoint_id=self.endpoint,
            egress=match["way"] == "Egress",
            identity=identity,
            proto=proto,
            port=port,
            port_bits=bits,
            deny=match["verdict"] == "Deny",
            proxy_port=0 if match["proxy"] == "NONE" else digits(match["proxy"], 16),
            auth_type=_AUTH_TYPES[auth] if auth in _AUTH_TYPES else digits(auth, 8),
            packets=_count(match["packets"]),
            bytes=_count(match["bytes"]),
            prefix_bits=digits(match["prefix"], 8) if match["prefix"] else (_PROTO_BITS + bits if proto else 0),
            cookie=digits(cookie) if cookie else None,
            map=self.map,
            labels=labels,
        )


def _peer(text: str) -> tuple[int | None, tuple[str, ...]]:
    """Identity and labels of a row's peer; a reserved label is a number too."""
    if text.isdecimal():
        return digits(text), ()
    if text in ("ANY", "reserved:unknown"):
        return 0, ()
    number = RESERVED_NUMBERS.get(text.removeprefix("reserved:")) if text.startswith("reserved:") else None
    return number, (text,)


def _count(text: str) -> int | None:
    return None if text == "-" else digits(text, 64)


def ports_of(text: str) -> tuple[int, int, int]:
    """Protocol, port and its bits of ``ANY``, ``TCP``, ``80/TCP``, ``8000-8191/TCP``, ``0x1f40/3/TCP``."""
    match = _PORTS.fullmatch(text)
    if match is None:
        raise DecodeError(f"{text!r} is no port")
    word = match["proto"].lower()
    proto = 0 if word == "any" else PROTOCOLS[word] if word in PROTOCOLS else digits(match["proto"], 8)
    if match["mask"]:
        return proto, int(match["mask"], 16), digits(match["bits"], 8)
    if not match["first"]:
        return proto, 0, 0
    first = digits(match["first"], 16)
    last = digits(match["last"], 16) if match["last"] else first
    size = last - first + 1
    if size < 1 or size & (size - 1):
        raise DecodeError(f"{text!r} is no range of ports with one prefix")
    if not match["last"] and not first:
        return proto, 0, 0  # "0/TCP": every port
    return proto, first, _PORT_BITS - (size.bit_length() - 1)


# ---- JSON


def add_item(dump: Dump, item: Any) -> None:
    """One element: an endpoint with its rules, or one rule. Raises DecodeError."""
    dump.listings.shown.add("policy")
    if not isinstance(item, dict):
        raise DecodeError("an element is no policy")
    if "Content" not in item:
        dump.listings.policy.append(_rule_of(item, None, None))
        return
    path = _PATH.match(f"Path: {str(item.get('Path', ''))[:200]}")
    endpoint = digits(str(item.get("EndpointID", ""))[:10], 16)
    content = item["Content"]
    for rule in content if isinstance(content, list) else ():
        try:
            dump.listings.policy.append(_rule_of(rule, endpoint, path[1] if path is not None else None))
        except DecodeError as error:
            dump.lose("rule(s) of a policy", str(error))


def _rule_of(item: Any, endpoint: int | None, map_name: str | None) -> PolicyEntry:
    """A rule as Go writes its key and value: numbers as they lie in the table, ports in network order."""
    try:
        key = item["Key"]
        prefix = max(whole(key["Prefixlen"]) - 40, 0) if "Prefixlen" in key else None
        proto, port = whole(key["Nexthdr"], 8), _turned(key.get("DestPortNetwork", key.get("DestPort", 0)))
        if prefix is None:
            prefix = 0 if not proto else _PROTO_BITS + (_PORT_BITS if port else 0)
        flags = item.get("Flags", 0)
        auth = item.get("AuthRequirement", item.get("AuthType", 0))
        return PolicyEntry(
            endpoint_id=endpoint,
            egress=whole(key["TrafficDirection"], 8) == 1,
            identity=whole(key["Identity"]),
            proto=proto,
            port=port,
            port_bits=max(prefix - _PROTO_BITS, 0),
            deny=bool(whole(flags, 8) & 1),
            proxy_port=_turned(item.get("ProxyPortNetwork", item.get("ProxyPort", 0))),
            auth_type=whole(auth, 8) & 0x7F,
            packets=_counted(item.get("Packets")),
            bytes=_counted(item.get("Bytes")),
            prefix_bits=prefix,
            precedence=item["Precedence"] if isinstance(item.get("Precedence"), int) else None,
            cookie=item["Cookie"] if isinstance(item.get("Cookie"), int) else None,
            map=map_name,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DecodeError(f"an element is no policy rule: {error}") from error


def _turned(value: Any) -> int:
    return int.from_bytes(whole(value, 16).to_bytes(2, "little"), "big")


#: What Go writes where a rule is not counted.
_NOT_COUNTED = 2**64 - 1


def _counted(value: Any) -> int | None:
    return None if value is None or value == _NOT_COUNTED else whole(value, 64)
