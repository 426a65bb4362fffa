"""Services as the agent tells them: ``lb/maps-dump`` of its shell (from 1.17) and ``service list``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TypeAlias

from ctctl.errors import DecodeError
from ctctl.model.service import SERVICE_TYPES, Backend, RevNat, ServiceSlot, SourceRange
from ctctl.model.tuples import Address, endpoint
from ctctl.tables.query.values import PROTOCOLS
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.values import address, digits

_END = r"\[?[0-9a-fA-F.:]{2,45}\]?:\d{1,5}(?:/[A-Z]{1,8})?(?:/i)?"
_FRONT = re.compile(
    r"(?P<addr>\[[0-9a-fA-F.:]{2,45}\]|[0-9.]{7,15}):(?P<port>\d{1,5})(?:/(?P<proto>[A-Z]{1,8}))?(?P<internal>/i)?"
)

#: What a line of ``lb/maps-dump`` starts with, by table.
MAPS_DUMP = re.compile(r"\s*+(BE|SVC|REV|SRCRANGE|AFF|MAGLEV|SOCKREV): +(?=[A-Z]+=)")
_PAIR = re.compile(r"(?<!\w)([A-Za-z]{2,12})=(\S{1,400})")

SERVICE_HEADER = re.compile(r"\s*+ID\s+(?:Frontend|Name)\s.{0,40}Service Type\s.{0,40}Backend")
_SERVICE_ROW = re.compile(
    rf"\s*+(?P<id>\d{{1,10}})\s+(?P<front>{_END})\s+(?P<type>{'|'.join(SERVICE_TYPES)})"
    r"(?:\s+(?P<backend>\d{1,5}\s++=>\s.{7,100}+))?\s*+$"
)
_BACKEND_ROW = re.compile(
    rf"\s*+(?P<slot>\d{{1,5}})\s+=>\s+(?P<backend>{_END})(?:\s+\((?P<state>[a-z-]{{1,20}})\))?\s*$"
)


#: What a frontend is known by: address, port, protocol, scope.
_Front: TypeAlias = tuple[Address, int, int | None, str]


def named_frontend(
    front: _Front, words: tuple[str, ...], rev_nat: int | None = None, proxy: str | None = None
) -> ServiceSlot:
    """A frontend as listings say it: by words, of which the first is its type, and perhaps an L7 proxy's port."""
    addr, port, proto, scope = front
    return ServiceSlot(
        addr,
        port,
        scope,
        0,
        rev_nat,
        proto,
        words[0] if words else None,
        flag_words=words,
        l7_proxy_port=digits(proxy, 16) if proxy and proxy.isdecimal() else None,
    )


def _front(text: str) -> _Front:
    match = _FRONT.fullmatch(text)
    if match is None:
        raise DecodeError(f"{text[:60]!r} is no frontend")
    proto = PROTOCOLS.get(match["proto"].lower()) if match["proto"] else None
    return address(match["addr"]), digits(match["port"], 16), proto, "internal" if match["internal"] else "external"


def as_written(backend: str) -> str:
    """A backend's address, port and protocol as listings write them; what is none, or names a cluster, as it stands."""
    end, slash, proto = backend.partition("/")
    host, _, port = end.rpartition(":")
    try:
        return f"{endpoint(address(host), digits(port, 16))}{slash}{proto}"
    except DecodeError:
        return backend


def add_maps_dump(dump: Dump, line: str) -> None:
    """One line of ``lb/maps-dump``. Raises DecodeError; tables that nothing here shows are left out."""
    start = MAPS_DUMP.match(line)
    if start is None:
        raise DecodeError("no line of lb/maps-dump")
    values = dict(_PAIR.findall(line[start.end() - 0 :]))
    found = dump.listings
    try:
        number = digits(values["ID"])
        if start[1] == "BE":
            addr, port, proto, _ = _front(values["ADDR"])
            zone = values.get("ZONE")
            found.backends.append(
                Backend(
                    number,
                    addr,
                    proto,
                    port,
                    values.get("STATE"),
                    zone=digits(zone, 8) if zone and zone.isdecimal() else None,
                )
            )
        elif start[1] == "REV":
            addr, port, _, _ = _front(values["ADDR"])
            found.rev_nats.append(RevNat(number, addr, port))
        elif start[1] == "SRCRANGE":
            found.source_ranges.append(SourceRange(number, str(ip_network(values["CIDR"], strict=False))))
        elif start[1] == "SVC":
            found.services.append(_maps_slot(values, number))
    except (KeyError, ValueError) as error:
        raise DecodeError(f"a line of lb/maps-dump without {error}") from error


def _maps_slot(values: dict[str, str], rev_nat: int) -> ServiceSlot:
    front = addr, port, proto, scope = _front(values["ADDR"])
    slot = digits(values["SLOT"], 16)
    if slot:
        return ServiceSlot(addr, port, scope, slot, rev_nat, proto, backend_id=digits(values["BEID"]))
    words = tuple(word for word in values.get("FLAGS", "").split("+") if word)
    timeout = values.get("AFFTimeout")
    return replace(
        named_frontend(front, words, rev_nat, values.get("L7PORT", values.get("L7Proxy"))),
        count=digits(values["COUNT"], 16) if "COUNT" in values else None,
        affinity_timeout=digits(timeout) if timeout is not None else None,
    )


@dataclass(slots=True)
class ServiceLines:
    """Rows of the agent's ``service list``. Its ids are rev-NAT indexes up to 1.18 only, so they are not taken."""

    dump: Dump
    front: ServiceSlot | None = None

    def add(self, line: str, *, inside: bool) -> bool:
        """Whether the line is a row; it is added then. A row without a frontend is a backend of the one above.

        Outside the table (``inside`` False) only a row with a frontend and a known type is taken for one.
        """
        try:
            match = _SERVICE_ROW.match(line) if len(line) < 500 else None
            if match is None and not inside:
                return False
            text = line if match is None else match["backend"] or ""
            row = _BACKEND_ROW.match(text) if len(text) < 500 else None
            if row is None and text:
                return False
            if match is not None:
                self.front = named_frontend(_front(match["front"]), (match["type"],))
                self.dump.listings.services.append(self.front)
            front = self.front
            if front is None:
                return False
            if row is not None:
                number, backend = digits(row["slot"], 16), as_written(row["backend"])
                self.dump.listings.services.append(
                    ServiceSlot(front.addr, front.port, front.scope, number, None, front.proto, backend=backend)
                )
        except DecodeError:
            return False
        return True
