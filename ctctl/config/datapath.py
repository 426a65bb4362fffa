"""The ``datapath`` of a node file: how the datapath behaves (docs/node-file.md)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from ctctl.config.fields import Fields, Network, parse_ipv4
from ctctl.config.yamltree import Item
from ctctl.model.service import LOOPBACK
from ctctl.model.timeouts import TIMEOUTS, Timeouts

#: patch releases of Cilium 1.16 with rules of their own, oldest first
RELEASES = ("1.16.4", "1.16.12")

LB_MODES = ("dsr", "snat", "hybrid")
#: whether requests for other nodes go on in XDP, and how that runs: in the driver (native) or behind it (generic)
ACCELERATIONS = ("disabled", "generic", "native")
#: most CIDRs of one family that pods keep their own address to (NATIVE_NETWORKS of bpf/lib/config.h)
NATIVE_NETWORKS = 4


@dataclass(frozen=True, slots=True)
class CtSpec:
    """Conntrack table sizes and reporting."""

    tcp_max: int = 524288
    any_max: int = 262144
    snat_max: int = 524288
    report_interval: int = 5
    report_flags: int = 0xFF


@dataclass(frozen=True, slots=True)
class SocketLb:
    """Services for sockets: the processes of ``cgroup`` (empty: all), and what a live system says of them.

    ``cgroup_id``: the number of that cgroup; ``netns_cookie``: the kernel's of the node's own network namespace.
    """

    cgroup: str = ""
    cgroup_id: int | None = None
    netns_cookie: int | None = None


@dataclass(frozen=True, slots=True)
class LbSpec:
    """Load balancing. ``maglev_seed`` is 12 bytes in base64, as the agent's option of that name.

    ``mode``: how a request gets to a backend on another node, one of ``LB_MODES``; ``dispatch``: how DSR
    tells that node the service's address, by Geneve or by an option in the IP header; ``acceleration``: one of
    ``ACCELERATIONS``.
    """

    algorithm: str = "maglev"
    maglev_table_size: int = 16381
    maglev_seed: str = "JLfvgnHc2kaSUFaI"
    mode: str = "dsr"
    dispatch: str = "geneve"
    loopback: IPv4Address = LOOPBACK
    no_backend: str = "reject"
    acceleration: str = ACCELERATIONS[0]
    socket: SocketLb | None = None


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Whether pods speak to the world by the node's address, for each family."""

    ipv4: bool = False
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class DatapathSpec:
    """How the datapath behaves.

    ``tunnel``: encapsulate in BPF, in a geneve device, or what the kernel has. ``routing``: pods of other
    nodes are reached by the network's routes, or through the tunnel. ``native_routing``: the networks to
    which pods keep their own address. ``like``: the first of
    Cilium's patch releases that has these rules, one of ``RELEASES``.
    """

    accounting: bool = False
    sctp: bool = False
    fragments: bool = True
    tunnel: str = "auto"
    like: str = RELEASES[-1]
    routing: str = "native"
    masquerade: Masquerade = Masquerade()
    native_routing: tuple[Network, ...] = ()
    ipv6: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    ct: CtSpec = CtSpec()
    lb: LbSpec = LbSpec()


_DATAPATH_KEYS = (
    *("accounting", "sctp", "fragments", "tunnel", "like", "routing", "masquerade", "native-routing-cidr"),
    *("ipv6", "timeouts", "ct", "lb"),
)


def _masquerade(fields: Fields) -> Masquerade:
    item = fields.item.entries.get("masquerade")
    if item is not None and item.kind == "map":
        inner = Fields(item, "masquerade", ("ipv4", "ipv6"))
        return Masquerade(inner.boolean("ipv4", False), inner.boolean("ipv6", False))
    both = fields.boolean("masquerade", False)
    return Masquerade(both, both)


def _native_routing(fields: Fields) -> tuple[Network, ...]:
    networks = fields.networks("native-routing-cidr")
    for version in (4, 6):
        if (count := sum(network.version == version for network in networks)) > NATIVE_NETWORKS:
            raise fields.error("native-routing-cidr", f"{count} IPv{version} networks; at most {NATIVE_NETWORKS}")
    return networks


def parse_datapath(item: Item) -> DatapathSpec:
    """The ``datapath`` of a node file. Raises ConfigError."""
    fields = Fields(item, "datapath", _DATAPATH_KEYS)
    defaults = Timeouts()
    keys = {name.replace("_", "-"): name for name in TIMEOUTS}
    times = Fields(fields.mapping("timeouts"), "timeouts", keys)
    return DatapathSpec(
        accounting=fields.boolean("accounting", False),
        sctp=fields.boolean("sctp", False),
        fragments=fields.boolean("fragments", True),
        tunnel=fields.choice("tunnel", ("auto", "bpf", "device"), "auto"),
        like=fields.choice("like", RELEASES, RELEASES[-1]),
        routing=fields.choice("routing", ("native", "tunnel"), "native"),
        masquerade=_masquerade(fields),
        native_routing=_native_routing(fields),
        ipv6=fields.boolean("ipv6", False),
        timeouts=Timeouts(**{name: times.duration(key, int(getattr(defaults, name))) for key, name in keys.items()}),
        ct=_ct(fields.mapping("ct")),
        lb=_lb(fields.mapping("lb")),
    )


def _ct(item: Item) -> CtSpec:
    fields = Fields(item, "ct", ["tcp-max", "any-max", "snat-max", "report-interval", "report-flags"])
    default = CtSpec()
    return CtSpec(
        tcp_max=fields.integer("tcp-max", default.tcp_max, low=1, high=1 << 26),
        any_max=fields.integer("any-max", default.any_max, low=1, high=1 << 26),
        snat_max=fields.integer("snat-max", default.snat_max, low=1, high=1 << 26),
        report_interval=fields.duration("report-interval", default.report_interval),
        report_flags=fields.integer("report-flags", default.report_flags, high=255),
    )


def _lb(item: Item) -> LbSpec:
    known = ["algorithm", "maglev-table-size", "maglev-seed", "mode", "dispatch", "loopback", "no-backend"]
    known += ["acceleration", "socket"]
    fields = Fields(item, "lb", known)
    default = LbSpec()
    size = fields.integer("maglev-table-size", default.maglev_table_size, low=2, high=131071)
    if any(size % divisor == 0 for divisor in range(2, int(size**0.5) + 1)):
        raise fields.error("maglev-table-size", f"{size} is not a prime number (e.g. 251, 1021, 16381, 131071)")
    return LbSpec(
        algorithm=fields.choice("algorithm", ("maglev", "random"), default.algorithm),
        maglev_table_size=size,
        maglev_seed=fields.parsed("maglev-seed", _seed, default.maglev_seed),
        mode=fields.choice("mode", LB_MODES, default.mode),
        dispatch=fields.choice("dispatch", ("geneve", "opt"), default.dispatch),
        loopback=fields.parsed("loopback", parse_ipv4, default.loopback),
        no_backend=fields.choice("no-backend", ("reject", "drop"), default.no_backend),
        acceleration=fields.choice("acceleration", ACCELERATIONS, default.acceleration),
        socket=_socket_lb(fields),
    )


def _socket_lb(fields: Fields) -> SocketLb | None:
    item = fields.item.entries.get("socket")
    if item is not None and item.kind == "map":
        return SocketLb(Fields(item, "socket", ("cgroup",)).text("cgroup"))
    return SocketLb() if fields.boolean("socket", False) else None


def _seed(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 12:
        raise ValueError(f"{text!r} is not 12 bytes in base64")
    return text
