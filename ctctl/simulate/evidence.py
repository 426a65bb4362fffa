"""How the node behind a source is configured: by its agent, by its files, else by what its tables show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctctl.abi import pins
from ctctl.errors import UsageError
from ctctl.model.identity import HOST
from ctctl.model.service import ServiceFlags
from ctctl.model.suggest import unknown_name
from ctctl.model.tuples import Address, Direction
from ctctl.tables.sources.facts import Fact, NodeFacts
from ctctl.tables.sources.modes import NODE_PORT_MAX, SETTINGS, Modes, snat_first_port

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Source
    from ctctl.tables.sources.listings import Listings

#: What tells of a tunnel among the names of pinned maps: the programs of its device.
_OVERLAY: Final = "cilium_calls_overlay"
#: From this minor version on every frontend says by a flag how its requests reach another node.
_SAYS_MODE: Final = 19


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """The node's own addresses of one family: of its network, and among its pods."""

    node: Address | None = None
    router: Address | None = None


def modes_of(facts: NodeFacts, source: Source, listings: Listings, given: Mapping[str, str]) -> Modes:
    """Every setting that something tells of; ``given`` are the user's, which win. Raises UsageError."""
    found = {key: Fact(value, "--with", 0) for key, value in checked(given).items()}
    for told in (facts.modes, _of_pins(source), _of_tables(listings, source.minor)):
        for key, fact in told.items():
            found.setdefault(key, fact)
    return found


def checked(given: Mapping[str, str]) -> Mapping[str, str]:
    """Settings as a user gave them. Raises UsageError for one that there is not, or a port that is none."""
    known = [setting.key for setting in SETTINGS]
    for key in given:
        if key not in known:
            raise UsageError(f"--with: {unknown_name('setting', key, known)}")
    if NODE_PORT_MAX in given and snat_first_port({NODE_PORT_MAX: Fact(given[NODE_PORT_MAX], "--with")}) is None:
        raise UsageError(f"--with {NODE_PORT_MAX}={given[NODE_PORT_MAX]}: no port from 1 to 65534")
    return given


def _of_pins(source: Source) -> Modes:
    if source.directory is None or not source.foreign:
        return {}
    try:
        names = {path.name for path in Path(source.directory).iterdir()}
    except OSError:
        return {}
    if any(name.startswith(_OVERLAY) for name in names):
        return {"routing": Fact("tunnel", f"the pinned {_OVERLAY}_*")}
    if pins.RUNTIME_CONFIG not in names:
        return {}
    why = f"no {_OVERLAY}_* is pinned"
    # DSR by Geneve needs the tunnel's device whatever the routing is.
    return {"routing": Fact("native", why), "lb.dispatch": Fact("opt", why)}


def _of_tables(listings: Listings, minor: int) -> Modes:
    """What the services, the SNAT entries and the sockets give away."""
    found: Modes = {}
    local = {record.addr for record in listings.endpoints if not record.is_host}
    hosts = {record.addr for record in listings.endpoints if record.is_host}
    frontends = [slot for slot in listings.services if slot.slot == 0 and slot.flags is not None and slot.port]
    dsr = sum(bool((slot.flags or 0) & ServiceFlags.FwdModeDSR) for slot in frontends)
    outside = any(
        entry.direction is Direction.OUT and entry.to_addr in hosts and entry.tuple.src not in local | hosts
        for entry in listings.nat
    )
    if frontends and dsr == len(frontends):
        found["lb.mode"] = Fact("dsr", "the flags of the services")
    elif dsr:
        found["lb.mode"] = Fact("annotation", "the flags of the services differ")
    elif outside:
        found["lb.mode"] = Fact("snat", "SNAT entries of clients outside")
    elif frontends and minor >= _SAYS_MODE:
        found["lb.mode"] = Fact("snat", "no service has the flag of DSR")
    for family in (4, 6):
        masqueraded = any(
            entry.direction is Direction.OUT
            and entry.tuple.src in local
            and entry.to_addr in hosts
            and entry.tuple.src.version == family
            for entry in listings.nat
        )
        if masqueraded:
            found[f"masquerade.ipv{family}"] = Fact("true", "SNAT entries of pods")
            found["masquerade.bpf"] = Fact("true", "SNAT entries of pods")
    if listings.sockets:
        found["lb.socket"] = Fact("true", f"entries in {pins.LB4_SOCKETS}")
    return found


def host_addresses(listings: Listings, modes: Modes, family: int) -> HostAddresses:
    """The node's own addresses by its endpoint table, its configuration and its SNAT entries.

    The one among its pods is the nearest to them; of several others the one that packets took.
    """
    own = [record.addr for record in listings.endpoints if record.is_host and record.addr.version == family]
    own = [address for address in own if not address.is_link_local] or _hosts_of_ipcache(listings, family)
    told = modes.get("node.ip" if family == 4 else "node.ip6")
    pods = [record.addr for record in listings.endpoints if not record.is_host]
    pods = [address for address in pods if address.version == family]
    node = _address(told.value) if told is not None else None
    others = [address for address in own if address != node]
    router = max(others, key=lambda one: max((_common(one, pod) for pod in pods), default=0), default=None)
    if node is None:
        taken = Counter(e.to_addr for e in listings.nat if e.direction is Direction.OUT and e.to_addr in own)
        rest = [address for address in own if address != router] or own
        node = max(rest, key=lambda one: (taken[one], -int(one)), default=None)
    return HostAddresses(node, router if router != node else None)


def _hosts_of_ipcache(listings: Listings, family: int) -> list[Address]:
    found: list[Address] = []
    for record in listings.ipcache:
        address, _, length = record.prefix.partition("/")
        if record.identity == HOST and length in ("32", "128", ""):
            parsed = _address(address)
            if parsed is not None and parsed.version == family and not parsed.is_link_local:
                found.append(parsed)
    return found


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _common(one: Address, other: Address) -> int:
    """How many leading bits two addresses share."""
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()


def flag(modes: Modes, key: str) -> bool | None:
    """A setting that is on or off; None where nothing says."""
    fact = modes.get(key)
    return None if fact is None else fact.value in ("true", "1", "enabled")


def words(modes: Modes, keys: Iterable[str]) -> str:
    """Settings in words, each with what says so."""
    return ", ".join(f"{key} {modes[key].value} ({modes[key].evidence})" for key in keys if key in modes)
