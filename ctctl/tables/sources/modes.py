"""How a node's datapath is configured, by what its agent stored, its config map or its status say.

One list of settings with the name that each place has for them. Values are text in the words of the
node file (docs/node-file.md); what no place says is not there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from ctctl.model.units import decimal
from ctctl.tables.sources.facts import Fact

Modes = dict[str, Fact[str]]

#: The last port of the range that NodePorts are of.
NODE_PORT_MAX: Final = "lb.node-port-max"

STORED: Final = "the agent's configuration"
CONFIG_MAP: Final = "the config map"
STATUS: Final = "the agent's status"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its key, and its names in what the agent stores and in the config map."""

    key: str
    stored: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


SETTINGS: Final = (
    Setting("lb.mode", ("NodePortMode",), ("bpf-lb-mode", "node-port-mode")),
    Setting("lb.algorithm", ("NodePortAlg",), ("bpf-lb-algorithm", "node-port-algorithm")),
    Setting("lb.dispatch", ("LoadBalancerDSRDispatch",), ("bpf-lb-dsr-dispatch",)),
    Setting("lb.maglev-table-size", ("MaglevTableSize",), ("bpf-lb-maglev-table-size",)),
    Setting("lb.maglev-seed", ("MaglevHashSeed",), ("bpf-lb-maglev-hash-seed",)),
    Setting("lb.socket", ("EnableSocketLB",), ("bpf-lb-sock",)),
    Setting("lb.socket-host-only", ("BPFSocketLBHostnsOnly",), ("bpf-lb-sock-hostns-only",)),
    Setting("lb.loopback", ("LoopbackIPv4",), ("ipv4-service-loopback-address",)),
    Setting("lb.no-backend", ("ServiceNoBackendResponse",), ("service-no-backend-response",)),
    Setting(NODE_PORT_MAX, ("NodePortMax",), ()),
    Setting("lb.acceleration", ("NodePortAcceleration",), ("bpf-lb-acceleration",)),
    Setting("routing", ("RoutingMode",), ("routing-mode",)),
    Setting("tunnel", ("TunnelProtocol",), ("tunnel-protocol",)),
    Setting("masquerade.bpf", ("EnableBPFMasquerade",), ("enable-bpf-masquerade",)),
    Setting("masquerade.ipv4", ("EnableIPv4Masquerade",), ("enable-ipv4-masquerade",)),
    Setting("masquerade.ipv6", ("EnableIPv6Masquerade",), ("enable-ipv6-masquerade",)),
    Setting("masquerade.agent", ("EnableIPMasqAgent",), ("enable-ip-masq-agent",)),
    Setting("native-routing-cidr", ("IPv4NativeRoutingCIDR",), ("ipv4-native-routing-cidr",)),
    Setting("native-routing-cidr6", ("IPv6NativeRoutingCIDR",), ("ipv6-native-routing-cidr",)),
    Setting("pod-cidr", ("IPv4Range",), ("ipv4-range",)),
    Setting("pod-cidr6", ("IPv6Range",), ("ipv6-range",)),
    Setting("node.ip", ("IPv4NodeAddr",), ("ipv4-node",)),
    Setting("node.ip6", ("IPv6NodeAddr",), ("ipv6-node",)),
    Setting("ipv4", ("EnableIPv4",), ("enable-ipv4",)),
    Setting("ipv6", ("EnableIPv6",), ("enable-ipv6",)),
    Setting("sctp", ("EnableSCTP",), ("enable-sctp",)),
    Setting("fragments", ("EnableIPv4FragmentsTracking",), ("enable-ipv4-fragment-tracking",)),
    Setting("accounting", ("BPFConntrackAccounting",), ("bpf-conntrack-accounting",)),
    Setting("ipsec", ("EnableIPSec",), ("enable-ipsec",)),
    Setting("wireguard", ("EnableWireguard",), ("enable-wireguard",)),
    Setting("host-firewall", ("EnableHostFirewall",), ("enable-host-firewall",)),
    Setting("egress-gateway", ("EnableEgressGateway", "EnableIPv4EgressGateway"), ("enable-ipv4-egress-gateway",)),
    Setting("srv6", ("EnableSRv6",), ("enable-srv6",)),
    Setting("nat46x64", ("EnableNat46X64Gateway",), ("enable-nat46x64-gateway",)),
)
_STORED: Final = {name: setting.key for setting in SETTINGS for name in setting.stored}
_OPTIONS: Final = {name: setting.key for setting in SETTINGS for name in setting.options}
_MAX: Final = 200
_UNSET: Final = ("", "auto", "<nil>", "none")
_WORDS: Final = frozenset(
    {"snat", "dsr", "hybrid", "annotation", "maglev", "random", "opt", "geneve", "vxlan", "ipip", "native", "tunnel"}
    | {"disabled", "true", "false", "reject", "drop"}
)


def modes_of_stored(document: Mapping[str, Any]) -> Modes:
    """Of the configuration that an agent stored when it started (``agent-runtime-config.json``)."""
    found: Modes = {}
    for name, key in _STORED.items():
        text = _text(document.get(name))
        if text is not None:
            found.setdefault(key, Fact(text, f"{name} in {STORED}"))
    opts = document.get("Opts")
    options = opts.get("map") if isinstance(opts, dict) else None
    if isinstance(options, dict) and isinstance(options.get("ConntrackAccounting"), int):
        # What the running datapath does: the option above is what it started with.
        found["accounting"] = Fact(_word(bool(options["ConntrackAccounting"])), f"ConntrackAccounting in {STORED}")
    return found


def modes_of_config_map(data: Mapping[str, Any]) -> Modes:
    """Of a config map's data: what the agent was told, by the names of its options."""
    found: Modes = {}
    for name, key in _OPTIONS.items():
        text = _text(data.get(name))
        if text is not None:
            found.setdefault(key, Fact(text, f"{name} in {CONFIG_MAP}", 2))
    ports = str(data.get("node-port-range", "")).partition(",")[2].strip()
    if ports.isdecimal():
        found.setdefault(NODE_PORT_MAX, Fact(ports, f"node-port-range in {CONFIG_MAP}", 2))
    old = _text(data.get("tunnel"))  # up to 1.14: vxlan, geneve or disabled
    if old == "disabled":
        found.setdefault("routing", Fact("native", f"tunnel in {CONFIG_MAP}", 2))
    elif old is not None:
        found.setdefault("routing", Fact("tunnel", f"tunnel in {CONFIG_MAP}", 2))
        found.setdefault("tunnel", Fact(old, f"tunnel in {CONFIG_MAP}", 2))
    return found


def modes_of_status(document: Any) -> Modes:
    """Of what an agent answers to ``/healthz``."""
    if not isinstance(document, dict):
        return {}
    found = {
        "lb.mode": _at(document, "kube-proxy-replacement", "features", "nodePort", "mode"),
        "lb.algorithm": _at(document, "kube-proxy-replacement", "features", "nodePort", "algorithm"),
        "lb.maglev-table-size": _at(document, "kube-proxy-replacement", "features", "nodePort", "lutSize"),
        NODE_PORT_MAX: _at(document, "kube-proxy-replacement", "features", "nodePort", "portMax"),
        "lb.dispatch": _dispatch(_at(document, "kube-proxy-replacement", "features", "nodePort", "dsrMode")),
        "lb.acceleration": _at(document, "kube-proxy-replacement", "features", "nodePort", "acceleration"),
        "lb.socket": _at(document, "kube-proxy-replacement", "features", "socketLB", "enabled"),
        "routing": _at(document, "routing", "inter-host-routing-mode"),
        "tunnel": _at(document, "routing", "tunnel-protocol"),
        "native-routing-cidr": _at(document, "masquerading", "snat-exclusion-cidr-v4"),
        "native-routing-cidr6": _at(document, "masquerading", "snat-exclusion-cidr-v6"),
    }
    masquerading = document.get("masquerading")
    if isinstance(masquerading, dict):
        protocols = masquerading.get("enabledProtocols")
        found["masquerade.bpf"] = masquerading.get("mode") == "BPF"
        for family in ("ipv4", "ipv6"):
            found[f"masquerade.{family}"] = isinstance(protocols, dict) and protocols.get(family) is True
    if _at(document, "kube-proxy-replacement", "features", "socketLB") is not None:
        found["lb.socket-host-only"] = bool(
            _at(document, "kube-proxy-replacement", "features", "bpfSocketLBHostnsOnly")
        )
    told = ((key, _text(value)) for key, value in found.items())
    return {key: Fact(text, STATUS) for key, text in told if text is not None}


def snat_first_port(modes: Modes) -> Fact[int] | None:
    """Where SNAT's ports begin: above the NodePort range. None where nothing says, or what says it is no such port."""
    last = modes.get(NODE_PORT_MAX)
    port = decimal(last.value, 65534) if last is not None else None
    return Fact(port + 1, last.evidence, last.rank) if last is not None and port else None


_ROUTING = re.compile(r"Routing:\s{1,60}Network: (Tunnel|Native)(?: \[(\w{1,12})\])?")
_MASQUERADING = re.compile(r"Masquerading:\s{1,60}(.{1,400})")
_ENABLED = re.compile(r"\[IPv4: (\w+), IPv6: (\w+)\]")
_DETAIL = re.compile(
    r"  {1,3}(Socket LB|Socket LB Coverage|Mode|DSR Dispatch Mode|Backend Selection):\s{1,40}(\S.{0,60})"
)
#: What a line of them is not without, and one quickly.
STATUS_WORDS: Final = ("Routing:", "Masquerading:", "Socket LB", "Mode:", "Backend Selection:")
STATUS_HINT: Final = re.compile(
    r"^(?:Routing|Masquerading):|^ {2,4}(?:Socket LB(?: Coverage)?|Mode|DSR Dispatch Mode|Backend Selection):"
)


def modes_of_status_line(line: str) -> Modes:
    """Of one line of ``status --verbose``; nothing where it is none of interest."""
    return {key: Fact(text, "status --verbose") for key, value in _said(line) if (text := _text(value)) is not None}


def _said(line: str) -> Iterator[tuple[str, Any]]:
    if match := _ROUTING.match(line):
        yield "routing", match[1]
        yield "tunnel", match[2]
    elif match := _MASQUERADING.match(line):
        enabled = _ENABLED.search(match[1])
        yield "masquerade.bpf", match[1].startswith("BPF")
        for family, word in zip(("ipv4", "ipv6"), enabled.groups() if enabled else (), strict=False):
            yield f"masquerade.{family}", word == "Enabled"
        for word in match[1].split("[IPv4:")[0].split():
            version = _version(word)
            if version:
                yield "native-routing-cidr" if version == 4 else "native-routing-cidr6", word
    elif match := _DETAIL.match(line):
        value = match[2].strip()
        match match[1]:
            case "Socket LB":
                yield "lb.socket", value == "Enabled"
            case "Socket LB Coverage":
                yield "lb.socket-host-only", value == "Hostns-only"
            case "Mode":
                yield "lb.mode", value
            case "DSR Dispatch Mode":
                yield "lb.dispatch", _dispatch(value)
            case _:
                yield "lb.algorithm", value.split()[0]
                size = re.search(r"Table Size: (\d{1,7})", value)
                yield "lb.maglev-table-size", size[1] if size else None


def _version(word: str) -> int:
    try:
        return ip_network(word).version if "/" in word else 0
    except ValueError:
        return 0


def _dispatch(text: Any) -> str | None:
    """The agent's words for how DSR hands the service's address on, as its option has them."""
    return {"ip option/extension": "opt", "geneve": "geneve", "ipip": "ipip"}.get(str(text).lower())


def _at(document: Any, *names: str) -> Any:
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _word(value: bool) -> str:
    return "true" if value else "false"


def _text(value: Any) -> str | None:
    """A value as a setting's text, None for none; a network is what the agent stores of one, or as written."""
    if isinstance(value, bool):
        return _word(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return _network(value)
    if not isinstance(value, str) or value.lower() in _UNSET or len(value) > _MAX:
        return None
    # Agents write the words of their options in either case; anything else (a seed in base64) stays.
    return value.lower() if value.lower() in _WORDS else value


def _network(value: Mapping[str, Any]) -> str | None:
    """Go's ``net.IPNet`` as JSON: the address as text, the mask in base64."""
    try:
        address = ip_address(str(value.get("IP")))
        mask = base64.b64decode(str(value.get("Mask")), validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(mask) != len(address.packed):
        return None
    return f"{address}/{sum(byte.bit_count() for byte in mask)}"
