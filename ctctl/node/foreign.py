"""What a live Cilium node is: its version and mode, its tables with their fill, programs on devices, drop counters.

Told from the kernel; what the agent stored or answers adds names and modes. Nothing is changed, and
nothing fails because a piece is missing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ctctl.abi import pins
from ctctl.decode.policy import decode_counter
from ctctl.decode.services import decode_service
from ctctl.errors import CtctlError, PermissionDenied
from ctctl.kernel import tc
from ctctl.kernel.attached import cgroup_programs, xdp_programs
from ctctl.kernel.link import Direction, query_tcx
from ctctl.kernel.map import Map
from ctctl.kernel.program import Program
from ctctl.model.drops import DatapathCounter, reason_name
from ctctl.model.service import ServiceFlags
from ctctl.model.version import CiliumVersion
from ctctl.node import agent
from ctctl.node.cilium import identify, is_this_nodes
from ctctl.node.counters import Counter
from ctctl.node.find import cilium_tables, not_readable, own_nodes
from ctctl.node.pool import count_entries
from ctctl.node.resolve import interface_name
from ctctl.node.status import MapStatus, NodeStatus, ProgramStatus, map_type_name, node_statuses

_SAMPLE: Final = 128
#: What Cilium calls the programs it attaches.
_PROGRAM: Final = "cil_"


def all_statuses(name: str | None = None, bpffs: Path | None = None) -> list[NodeStatus]:
    """The nodes that ctctl loaded and a live Cilium's, or the one called ``name``.

    Raises NotFoundError for a name that no node has, PermissionDenied.
    """
    directory = cilium_tables(bpffs)
    cilium = [] if directory is None else [cilium_status(directory)]
    if name is not None and name not in own_nodes(bpffs) and any(node.name == name for node in cilium):
        return cilium
    return [*node_statuses(name, bpffs), *(cilium if name is None else [])]


def cilium_status(directory: Path) -> NodeStatus:
    """The node whose maps are pinned in ``directory``. Raises PermissionDenied."""
    here = is_this_nodes(directory)
    problems: list[str] = []
    maps, counters = _maps(directory, problems)
    version = _version(directory, [status.name for status in maps], here=here)
    if here and not counters:
        problems.append(f"{pins.CILIUM_METRICS} is not pinned or empty: what was dropped is unknown")
    config = agent.runtime_config() if here else None
    on_devices = tuple(_programs(problems)) if here else ()
    programs = (*on_devices, *(_socket_programs(config[0] if config else {}) if here else ()))
    if here and not on_devices:
        problems.append("none of Cilium's programs is on a device of this network namespace: is it the host's?")
    facts = _facts(config[0] if config else {}, directory, version, here=here)
    if version is not None:
        facts = {"version by": version.evidence, **facts}
    return NodeStatus(
        name=_name(here=here),
        path=str(directory),
        netns=None,
        device=", ".join(dict.fromkeys(one.interface for one in on_devices if _is_physical(one.interface))) or None,
        attach=", ".join(dict.fromkeys(one.mode for one in on_devices)) or None,
        tunnel=facts.get("tunnel"),
        file=config[1] if config else None,
        version=str(version) if version is not None else None,
        changing=False,
        programs=programs,
        maps=maps,
        counters=counters,
        problems=tuple(problems),
        owner="cilium",
        facts=facts,
    )


def _name(*, here: bool) -> str:
    """The node's name as its agent has it, else the machine's."""
    if here:
        found: Any = agent.ask("/healthz")
        for key in ("cluster", "self"):
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str) and found:
            return found.rpartition("/")[2]
    return socket.gethostname()


def _is_physical(interface: str) -> bool:
    return not interface.startswith(("cilium_", "lxc"))


def _version(directory: Path, names: list[str], *, here: bool) -> CiliumVersion | None:
    def entries() -> Iterator[tuple[bytes, bytes]]:
        for name in pins.CT_TABLES:
            with contextlib.suppress(CtctlError), Map.open_pinned(directory / name, read_only=True) as table:
                yield from islice(table.items(), _SAMPLE)

    return identify(names, entries(), here=here)


def _maps(directory: Path, problems: list[str]) -> tuple[tuple[MapStatus, ...], tuple[Counter, ...]]:
    found: list[MapStatus] = []
    counters: tuple[Counter, ...] = ()
    try:
        paths = sorted(path for path in directory.iterdir() if path.is_file())
    except PermissionError:
        raise not_readable(directory) from None
    except OSError as error:
        problems.append(f"{directory}: {error.strerror}")
        return (), ()
    for path in paths:
        try:
            with Map.open_pinned(path, read_only=True) as table:
                info = table.info
                held = count_entries(table)
                found.append(MapStatus(path.name, info.id, map_type_name(info.type), held, info.max_entries))
                if path.name == pins.CILIUM_METRICS:
                    counters = _counters(table)
        except PermissionDenied:
            raise
        except CtctlError as error:
            problems.append(f"{path.name}: {error}")
    return tuple(found), counters


def _counters(table: Map) -> tuple[Counter, ...]:
    """Packets by direction and reason; what went through is one sum a direction, called ``ok``."""
    stride = table.per_cpu_stride or table.info.value_size
    return counters_of(decode_counter(key, value, stride) for key, value in table.items())


def counters_of(found: Iterable[DatapathCounter]) -> tuple[Counter, ...]:
    """Counters of places as sums by direction and reason."""
    sums: dict[tuple[str, str], list[int]] = {}
    for one in found:
        total = sums.setdefault((one.direction, reason_name(one.reason) if one.dropped else "ok"), [0, 0])
        total[0] += one.packets
        total[1] += one.bytes
    return tuple(Counter(*key, *total) for key, total in sorted(sums.items(), key=lambda one: one[0]))


# ---- programs


def _programs(problems: list[str]) -> Iterator[ProgramStatus]:
    """Cilium's programs on the devices of this network namespace, by TCX and by clsact."""
    try:
        for ifindex, name in socket.if_nameindex():
            for direction in (Direction.INGRESS, Direction.EGRESS):
                with contextlib.suppress(CtctlError):  # a kernel without TCX, a device that went away
                    for attached in query_tcx(ifindex, direction):
                        yield from _program(attached.prog_id, ifindex, name, str(direction), "tcx")
        for found in tc.list_filters():
            device = interface_name(found.ifindex) or str(found.ifindex)
            yield from _program(found.prog_id, found.ifindex, device, str(found.direction), "clsact")
        for xdp in xdp_programs():
            yield from _program(xdp.prog_id, xdp.ifindex, xdp.device, "ingress", f"xdp {xdp.mode}")
    except (CtctlError, OSError) as error:
        problems.append(f"programs could not be listed: {error}")


def _socket_programs(config: Mapping[str, Any]) -> Iterator[ProgramStatus]:
    """Cilium's programs on the sockets of a cgroup: the socket load balancer."""
    told = config.get("CgroupRoot", config.get("CGroupRoot"))
    places = [Path(told)] if isinstance(told, str) and told else []
    for root in dict.fromkeys((*places, *_CGROUPS)):
        found = [
            replace(one, slot=f"cgroup-{hook}", direction=hook)
            for hook, number in cgroup_programs(root)
            for one in _program(number, 0, str(root), hook, "cgroup")
        ]
        if found:
            yield from found
            return


#: Where an agent mounts the cgroup tree, where the system does.
_CGROUPS: Final = (Path("/run/cilium/cgroupv2"), Path("/sys/fs/cgroup"))


def _program(number: int, ifindex: int, device: str, direction: str, mode: str) -> Iterator[ProgramStatus]:
    with contextlib.suppress(CtctlError), Program.from_id(number) as program:
        info = program.info
        if info.name.startswith(_PROGRAM):
            endpoint = device if device.startswith("lxc") else ""
            yield ProgramStatus(
                slot=f"{device}-{direction}",
                program=info.name,
                endpoint=endpoint,
                interface=device,
                ifindex=ifindex,
                direction=direction,
                mode=mode,
                id=number,
                tag=info.tag,
                attached=True,
            )


# ---- mode


def _facts(config: Mapping[str, Any], directory: Path, version: CiliumVersion | None, *, here: bool) -> dict[str, str]:
    """How the node works, in words by topic; what nothing tells is left out."""
    status = agent.ask("/healthz") if here else None
    in_socket = _on(config.get("EnableSocketLB", _socket_lb(status)))
    facts = {
        "cluster": _text(config, "ClusterName"),
        "address": " ".join(filter(None, (_text(config, "IPv4NodeAddr"), _text(config, "IPv6NodeAddr")))),
        "pods": " ".join(filter(None, (_text(config, "IPv4Range"), _text(config, "IPv6Range")))),
        "families": " ".join(word for word in ("IPv4", "IPv6") if config.get(f"Enable{word}") is True),
        "routing": _text(config, "RoutingMode") or _text(status, "routing", "inter-host-routing-mode").lower(),
        "tunnel": _text(status, "routing", "tunnel-protocol") or _text(config, "TunnelProtocol"),
        "services": _text(config, "NodePortMode") or _service_mode(status, directory, version),
        "backend choice": _text(config, "NodePortAlg") or _feature(status, "algorithm").lower(),
        "socket LB": socket_words(host_only=_host_only(config)) if in_socket == "on" else in_socket,
        "kube-proxy replacement": _text(config, "KubeProxyReplacement") or _text(status, *_REPLACEMENT, "mode"),
        "masquerading": _masquerading(config),
        "accounting": _on(config.get("BPFConntrackAccounting")),
        "timeouts": _timeouts(config),
    }
    return {topic: word for topic, word in facts.items() if word}


_REPLACEMENT: Final = ("kube-proxy-replacement",)


def _text(document: Any, *path: str) -> str:
    for key in path:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if isinstance(document, str) else ""


def _feature(status: Any, name: str) -> str:
    return _text(status, *_REPLACEMENT, "features", "nodePort", name)


def _socket_lb(status: Any) -> Any:
    found = status
    for key in (*_REPLACEMENT, "features", "socketLB", "enabled"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _host_only(config: Mapping[str, Any]) -> bool:
    return config.get("BPFSocketLBHostnsOnly") is True


def socket_words(*, host_only: bool) -> str:
    """What a socket LB that is on does: for the host's own sockets only, pods' packets are balanced one by one."""
    return "on for the host's own connections only" if host_only else "on"


def _on(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, "") if isinstance(value, bool) else ""


def _service_mode(status: Any, directory: Path, version: CiliumVersion | None) -> str:
    """How replies of services with an outside address go: as the agent says, else by their records (from 1.17)."""
    told = _feature(status, "mode").lower()
    if told or version is None or not version.at_least(17):
        return told
    seen: set[str] = set()
    for name in (pins.LB4_SERVICES, pins.LB6_SERVICES):
        with contextlib.suppress(CtctlError), Map.open_pinned(directory / name, read_only=True) as table:
            for key, value in table.items():
                slot = decode_service(key, value)
                flags = ServiceFlags(slot.flags or 0)
                if not slot.slot and slot.port and flags & (ServiceFlags.NodePort | ServiceFlags.LoadBalancer):
                    seen.add("dsr" if flags & ServiceFlags.FwdModeDSR else "snat")
    return f"{' and '.join(sorted(seen))} by the services' flags" if seen else ""


def _masquerading(config: Mapping[str, Any]) -> str:
    families = [word for word in ("IPv4", "IPv6") if config.get(f"Enable{word}Masquerade") is True]
    if not families:
        return _on(config.get("EnableIPv4Masquerade"))
    return f"{' '.join(families)} by {'BPF' if config.get('EnableBPFMasquerade') is True else 'iptables'}"


def _timeouts(config: Mapping[str, Any]) -> str:
    """Conntrack timeouts in seconds, as they are configured in nanoseconds."""
    names = {"tcp": "TCP", "tcp-syn": "SYN", "tcp-fin": "FIN", "any": "Any", "service-tcp": "SVCTCP"}
    words = []
    for word, key in names.items():
        value = config.get(f"CTMapEntriesTimeout{key}")
        if isinstance(value, int) and value > 0:
            words.append(f"{word} {value // 10**9}s")
    return ", ".join(words)
