"""The Cilium CLI's two-column tables: lb (all its forms), Maglev, ipcache, endpoint, tunnel, socknat; text and JSON.

The tables are pairs of a left and a right column in both forms (JSON: a key with a list of texts), so
each record is recognised by the shape of its pair, not by the file's header or name. A key with several
values is written once, and the left column of its other rows is empty: frontends of some builds up to
1.15, sockets with several backends. What was pasted may have one blank between its columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from ctctl.decode.services import IPCACHE_FLAGS, service_slot
from ctctl.errors import DecodeError
from ctctl.model.service import (
    Backend,
    EndpointRecord,
    IpcacheRecord,
    MaglevTable,
    RevNat,
    ServiceSlot,
    SocketNat,
    SourceRange,
    TunnelRecord,
)
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.listings import Listings
from ctctl.tables.sources.service_text import as_written, named_frontend
from ctctl.tables.sources.values import address, digits, has_any

#: What the first line of each table is, and what it shows.
_HEADERS = (
    (r"SERVICE\s+ADDRESS\s+BACKEND", "services"),
    (r"SOURCE\s+RANGE\s+\(REVNAT_ID\)", "source_ranges"),
    (r"SVC\s+ID\s+LOOKUP", "maglev"),
    (r"IP\s+PREFIX/ADDRESS\s+IDENTITY", "ipcache"),
    (r"IP\s+ADDRESS\s+LOCAL\s+ENDPOINT", "endpoints"),
    (r"Socket\s+Cookie\s+Backend\s+->\s+Frontend", "sockets"),
    (r"TUNNEL\s+VALUE\s*$", "tunnels"),
    (r"ID\s+BACKEND\s+ADDRESS", ""),  # of backends or reverse NAT: the rows tell
)
HEADERS = re.compile("|".join(f"(?P<_{number}>{text})" for number, (text, _) in enumerate(_HEADERS)))
_COLUMNS = re.compile(r" {3,}|\t+")
_ADDRESS = r"(?:\[[0-9a-fA-F:.]{2,45}\]|[0-9.]{7,15})"
_FRONT = rf"(?P<addr>{_ADDRESS}):(?P<port>\d{{1,5}})(?:/(?P<proto>[A-Z]{{1,8}}))?(?P<internal>/i)?"
_FRONT_SHAPE = rf"{_ADDRESS}:\d{{1,5}}(?:/[A-Z]{{1,8}})?(?:/i)?"
_SERVICE = re.compile(rf"{_FRONT} \((?P<slot>\d{{1,5}})\)")
_GROUP = re.compile(_FRONT)
_FRONTEND = re.compile(
    r"(?P<first>\d{1,10}) (?P<count>\d{1,5})(?:\[(?P<held>\d{1,5})\])? \((?P<rev>\d{1,5})\)"
    r" \[(?P<flags>0x[0-9a-f]{1,2}) (?P<flags2>0x[0-9a-f]{1,2})\]"
)
_SLOT = re.compile(
    rf"(?P<backend>{_ADDRESS}(?:@\d{{1,5}})?:\d{{1,5}}(?:/[A-Z]{{1,8}})?(?:@\d{{1,5}})?)"
    r" \((?P<rev>\d{1,5})\) \((?P<slot>\d{1,5})\)"
    r"(?: \[(?P<words>[^\]]{0,200})\])?(?: \(L7LB Proxy Port: (?P<proxy>\d{1,5})\))?"
)
_MISSING = re.compile(r"backend (\d{1,10}) not found")
_BACKEND = re.compile(
    r"(?P<proto>[A-Za-z0-9]{1,8})://(?P<addr>\[?[0-9a-fA-F.:]{2,60}\]?)"
    r"(?:@(?P<cluster>\d{1,5}))?(?:\[(?P<zone>[^\]]{0,60})\])?"
)
_SOCKET = re.compile(
    rf"(?P<backend>{_ADDRESS}):(?P<backend_port>\d{{1,5}}) -> (?P<front>{_ADDRESS}):(?P<port>\d{{1,5}})"
    r" \(revnat=(?P<rev>\d{1,5})\)"
)
_TUNNEL = re.compile(r"(?P<endpoint>[0-9a-fA-F.:]{2,45}):(?P<key>\d{1,3})")
_BARE = re.compile(r"(?=.{0,40}[.:])[0-9a-fA-F.:]{2,45}")
_REV_NAT = re.compile(rf"(?P<addr>{_ADDRESS}):(?P<port>\d{{1,5}})")
_RANGE = re.compile(r"(?P<cidr>[0-9a-fA-F.:]{2,45}/\d{1,3}) \((?P<rev>\d{1,5})\)")
_MAGLEV = re.compile(r"\[(?P<rev>\d{1,5})\]/v(?P<family>[46])")
_ATTRIBUTE = re.compile(r"(\w{1,32}+)=(\S{0,64}?),?(?=\s|$)")
#: Maglev tables have at most 131071 places; other lines are short.
_MAX_ROW = 4096
#: What no record is without, but one below another's left column.
_IN_PAIR, _END_IN_PAIR = ("identity=", "id=", "(localhost)", "]/v", "://"), re.compile(r"[:/]\d")
#: A left column with one blank behind it, from the longest shape to the shortest.
_LEFT = re.compile(
    rf"(?:{_FRONT_SHAPE} \(\d{{1,5}}\)|\[\d{{1,5}}\]/v[46]|[0-9a-fA-F.:]{{2,45}}/\d{{1,3}}(?:@\d{{1,5}})?"
    rf"|{_FRONT_SHAPE}"
    r"|[0-9a-fA-F.:]{2,45}|\d{1,20})(?= )"
)


def shown_by(header: re.Match[str]) -> str:
    """The kind of listing that a table with this first line shows; empty where its rows tell."""
    return next(kind for number, (_, kind) in enumerate(_HEADERS) if header[f"_{number}"] is not None)


@dataclass(slots=True)
class PairLines:
    """Rows of two-column tables, one after the other. ``group`` is the left column that rows without one belong to.

    ``kind`` is what the header said, empty outside a table. ``grown``: what the last row is (``add_pair``).
    """

    dump: Dump
    group: str = ""
    kind: str = ""
    grown: str = ""
    #: it had more blanks in it than its program writes
    squeezed: bool = False

    def header(self, match: re.Match[str]) -> None:
        """The first line of a table."""
        self.kind, self.group = shown_by(match), ""
        if self.kind:
            self.dump.listings.shown.add(self.kind)

    def end(self) -> None:
        """What follows is of no table."""
        self.kind = self.group = ""

    def add(self, line: str) -> bool:
        """Whether the line is a row; it is added then."""
        if len(line) > _MAX_ROW and not line.lstrip().startswith("["):
            return False
        text, self.squeezed = line.strip(), False
        if not text:
            return False
        below = bool(self.group) and line[:1].isspace()
        if not below and _END_IN_PAIR.search(text) is None and not has_any(text, _IN_PAIR):
            return False
        left, right = (part.strip() for part in ([*_COLUMNS.split(text, maxsplit=1), ""])[:2])
        if not right and below and self._take(self.group, left):
            return True  # an empty left column
        if self._take(left, right):
            if right:
                self.group = left
            return True
        if self._narrow(text):
            return True
        squeezed = " ".join(text.split())  # columns two blanks apart, also where the program writes one
        self.squeezed = squeezed != text
        return self.squeezed and (self._take(squeezed, "") or self._narrow(squeezed))

    def _narrow(self, text: str) -> bool:
        """A row whose columns stand one blank apart."""
        match = _LEFT.match(text)
        if match is None or not self._take(match[0], text[match.end() :].strip()):
            return False
        self.group = match[0]
        return True

    def _take(self, left: str, right: str) -> bool:
        try:
            self.grown = add_pair(self.dump.listings, left, right, self.kind)
        except (DecodeError, ValueError, KeyError):
            self.grown = ""
        return bool(self.grown)

    def add_member(self, left: str, texts: Any) -> None:
        """The same as JSON: a column's text, and a list of the other's."""
        self.kind = "tunnels"
        for text in texts if isinstance(texts, list) else ():
            if not isinstance(text, str) or not self._take(left.strip(), text.strip()):
                self.dump.lose("record(s) of a listing", f"{left} {text}")


def is_pair(left: str, right: str) -> bool:
    """Whether a pair is a record of any of the tables."""
    try:
        return bool(add_pair(Listings(), left, right, "tunnels"))
    except (DecodeError, ValueError, KeyError):
        return False


def add_pair(found: Listings, left: str, right: str, kind: str = "") -> str:
    """Add a record by its shape; of which it is, empty for none that is known. Raises DecodeError, ValueError.

    ``kind`` "tunnels": a bare address and one with a key is a tunnel, which elsewhere it need not be.
    """
    if kind == "tunnels" and (match := _TUNNEL.fullmatch(right)) and _BARE.fullmatch(left):
        found.tunnels.append(TunnelRecord(address(left), address(match["endpoint"]), digits(match["key"], 8)))
        return "tunnels"
    if left.isdecimal() and (match := _SOCKET.fullmatch(right)):
        found.sockets.append(_socket(digits(left, 64), match))
        return "sockets"
    if right.startswith("identity="):
        found.ipcache.append(_ipcache(left, right))
        return "ipcache"
    if right == "(localhost)" or right.startswith("id="):
        found.endpoints.append(_endpoint(left, right))
        return "endpoints"
    if match := _MAGLEV.fullmatch(left):
        ids = tuple(digits(word) for word in right.strip("[]").split())
        found.maglev.append(MaglevTable(digits(match["rev"], 16), int(match["family"]), ids))
        return "maglev"
    if left.isdecimal() and (match := _BACKEND.fullmatch(right)):
        proto = PROTOCOLS.get(match["proto"].lower())
        found.backends.append(
            Backend(digits(left), address(match["addr"]), proto, cluster_id=_cluster(match["cluster"]))
        )
        return "backends"
    if left.isdecimal() and (match := _REV_NAT.fullmatch(right)):
        found.rev_nats.append(RevNat(digits(left, 16), address(match["addr"]), digits(match["port"], 16)))
        return "rev_nats"
    if not right and (match := _RANGE.fullmatch(left)):
        found.source_ranges.append(SourceRange(digits(match["rev"], 16), str(ip_network(match["cidr"], strict=False))))
        return "source_ranges"
    if match := _SERVICE.fullmatch(left) or (_GROUP.fullmatch(left) if _SLOT.fullmatch(right) else None):
        slot, shape = _service(match, right)
        if slot is not None:
            found.services.append(slot)
            return shape
    return ""


def _socket(cookie: int, match: re.Match[str]) -> SocketNat:
    """All versions print ports and the rev-NAT id as they lie in the table, in network order (``turned_sockets``)."""
    backend_port, port, rev_nat = (_turned(digits(match[name], 16)) for name in ("backend_port", "port", "rev"))
    return SocketNat(cookie, address(match["backend"]), backend_port, address(match["front"]), port, rev_nat)


def _turned(number: int) -> int:
    return int.from_bytes(number.to_bytes(2, "big"), "little")


def turned_sockets(found: Listings) -> None:
    """Turn the numbers of sockets read from text back, where the frontends of the same node show that they were right.

    Every known version prints them in network order; should a later one not, its own services tell.
    """
    known = {(slot.addr, slot.port) for slot in found.services} | {(one.addr, one.port) for one in found.rev_nats}
    fitting = sum((one.frontend, one.frontend_port) in known for one in found.sockets)
    turned = sum((one.frontend, _turned(one.frontend_port)) in known for one in found.sockets)
    if turned and not fitting:
        found.sockets = [
            replace(
                one,
                backend_port=_turned(one.backend_port),
                frontend_port=_turned(one.frontend_port),
                rev_nat=_turned(one.rev_nat),
            )
            for one in found.sockets
        ]


def _cluster(text: str | None) -> int:
    return digits(text, 16) if text else 0


def _service(left: re.Match[str], right: str) -> tuple[ServiceSlot | None, str]:
    """A slot, and how its right column tells of it: with a backend, by numbers, without a backend that is there."""
    addr, port = address(left["addr"]), digits(left["port"], 16)
    given = left.groupdict().get("slot")
    if given is None:  # grouped: the slot stands on the right only
        shown = _SLOT.fullmatch(right)
        given = shown["slot"] if shown is not None else "0"
    slot = digits(given, 16)
    proto = PROTOCOLS.get(left["proto"].lower()) if left["proto"] else None
    scope = "internal" if left["internal"] else "external"
    if match := _FRONTEND.fullmatch(right):
        flags = int(match["flags"], 16) | int(match["flags2"], 16) << 8
        count, rev_nat, first = digits(match["count"], 16), digits(match["rev"], 16), digits(match["first"])
        held = digits(match["held"], 16) if match["held"] else None
        numbered = service_slot(
            addr, port, scope, slot, rev_nat, proto=proto, count=count, flags=flags, first=first, quarantined=held
        )
        return numbered, "frontends"
    if match := _MISSING.fullmatch(right):
        return ServiceSlot(addr, port, scope, slot, None, proto, backend_id=digits(match[1])), "missing"
    if match := _SLOT.fullmatch(right):
        words = tuple(word.strip() for word in (match["words"] or "").split(",") if word.strip())
        rev_nat = digits(match["rev"], 16)
        if slot:
            backend = as_written(match["backend"])
            with_backend = ServiceSlot(addr, port, scope, slot, rev_nat, proto, backend=backend, flag_words=words)
            return with_backend, "services"
        return named_frontend((addr, port, proto, scope), words, rev_nat, match["proxy"]), "services"
    return None, ""


def _ipcache(left: str, right: str) -> IpcacheRecord:
    prefix, _, cluster = left.partition("@")
    values = dict(_ATTRIBUTE.findall(right[:500]))
    tunnel = values.get("tunnelendpoint", "").rstrip(",")
    words = values["flags"].split(",") if "flags" in values else None
    return IpcacheRecord(
        str(ip_network(prefix, strict=False)),
        digits(values["identity"]),
        _cluster(cluster),
        not_given(str(address(tunnel)) if tunnel not in ("", "<nil>") else tunnel),
        digits(values.get("encryptkey", "0"), 8),
        "skiptunnel" in values.get("flags", ""),
        sum(bit for bit, word in IPCACHE_FLAGS if word in words) if words is not None else None,
    )


def not_given(tunnel: str) -> str | None:
    """The address of a tunnel's end; None for what listings write where there is none."""
    return None if tunnel in ("", "0.0.0.0", "::", "<nil>") else tunnel  # noqa: S104


def _endpoint(left: str, right: str) -> EndpointRecord:
    addr = address(left.rpartition(":")[0])
    if right == "(localhost)":
        return EndpointRecord(addr, flags=1)
    values = dict(re.findall(r"(\w{1,32}+)=\s*+(\S{1,64})", right[:500]))
    return EndpointRecord(
        addr,
        digits(values.get("ifindex", "0")),
        digits(values["id"]),
        int(values.get("flags", "0"), 16),
        values.get("mac", "").lower() or None,
        values.get("nodemac", "").lower() or None,
        digits(values.get("sec_id", "0")),
        digits(values.get("parent_ifindex", "0")),
    )
