"""What a trace by probes is asked for: where, which flow, and what the kernel compares of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ctctl.abi import layouts
from ctctl.errors import UsageError
from ctctl.model.suggest import unknown_name
from ctctl.node.find import cilium_tables, own_nodes
from ctctl.node.record import MAP_NAME, read_record
from ctctl.packet.text import FlowSpec
from ctctl.trace.live import compared_ends
from ctctl.trace.probe_event import ProbeEvent
from ctctl.trace.probe_points import ProbePoint

#: PROBE_OWN and PROBE_RAW of bpf/lib/probe_others.h
_OWN: Final = 8
_RAW: Final = 8
#: ARPHRD_ETHER, and ARPHRD_LOOPBACK, whose packets have the same header.
_ETHERNET: Final = frozenset({1, 772})


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What to follow, where, and for how long.

    ``tables`` are the bpffs directories with conntrack maps, by inode of the network namespace they belong to.
    """

    points: tuple[ProbePoint, ...]
    control: bytes = b""
    flow: FlowSpec | None = None
    tables: Mapping[int, Path] = field(default_factory=dict)
    count: int | None = None
    duration_s: float | None = None
    accept: Callable[[ProbeEvent], bool] | None = None


def probe_request(
    points: Sequence[ProbePoint],
    flow: FlowSpec | None,
    tables: Sequence[str] = (),
    *,
    count: int | None = None,
    duration_s: float | None = None,
    accept: Callable[[ProbeEvent], bool] | None = None,
) -> ProbeRequest:
    """A request with what is left open filled in: the tables of each namespace, and the kernel's filter.

    ``tables`` are directories, ``NETNS=DIR`` for one namespace; without them those of the node that is loaded
    there, else Cilium's. Raises UsageError.
    """
    named: dict[str, str] = {}
    for text in tables:
        netns, equals, directory = text.rpartition("=")
        named[netns if equals else ""] = directory
    nodes = {point.netns_inode: point.node or "" for point in points}
    if unknown := named.keys() - nodes.values() - {""}:
        raise UsageError("--tables: " + unknown_name("network namespace", unknown.pop(), filter(None, nodes.values())))
    directories = {}
    for inode, node in nodes.items():
        given = named.get(node, named.get(""))
        found = Path(given) if given else _own_tables(inode) or cilium_tables()
        if found is not None:
            directories[inode] = found
    control = control_of(flow, sorted(set(directories.values())))
    return ProbeRequest(tuple(points), control, flow, directories, count, duration_s, accept)


def control_of(flow: FlowSpec | None, directories: Sequence[Path]) -> bytes:
    """What the probes compare (``ctctl_probe_ctl``): of the flow's ends those of ``compared_ends``."""
    words = layouts.ctctl_probe_ctl()
    if flow is None:
        return bytes(words)
    networks, ports = compared_ends(flow, directories)
    words.filter, words.proto = 1, flow.proto or 0
    room = bytes(words)
    for side in (0, 1):
        network = networks[side]
        if network is None:
            continue
        words.family = network.version
        for name, address in (("addr", network.network_address), ("mask", network.netmask)):
            at = getattr(layouts.ctctl_probe_ctl, name).offset + 16 * side
            room = room[:at] + address.packed.ljust(16, b"\0") + room[at + 16 :]
    plain = layouts.ctctl_probe_ctl.from_buffer_copy(room)
    plain.family = words.family
    plain.port[0], plain.port[1] = ports
    return bytes(plain)


def namespace_words() -> dict[str, bytes]:
    """What the probes must know of this thread's namespace (bpf/lib/probe_others.h): its addresses, which SNAT may
    give a packet, and the devices whose packets have no Ethernet header.

    Where there are more than fit: of addresses zeros, which are any address; of devices ones, which are all.
    """
    from pyroute2 import IPRoute

    with IPRoute() as ip:
        found = [ip_address(message.get_attr("IFA_ADDRESS")) for message in ip.get_addr()]
        raw = [message["index"] for message in ip.get_links() if message["ifi_type"] not in _ETHERNET]
    words = {"cfg_raw": _raw_words(raw)}
    for variable, version, size in (("cfg_own", 4, 4), ("cfg_own6", 6, 16)):
        own = {one.packed for one in found if one.version == version and not (one.is_loopback or one.is_link_local)}
        room = _OWN * size
        words[variable] = b"".join(sorted(own)).ljust(room, b"\0") if len(own) <= _OWN else bytes(room)
    return words


def _raw_words(devices: Sequence[int]) -> bytes:
    if len(devices) > _RAW:
        return b"\xff" * 4 * _RAW
    return b"".join(index.to_bytes(4, sys.byteorder) for index in devices).ljust(4 * _RAW, b"\0")


def _own_tables(netns_inode: int) -> Path | None:
    """The pin directory of ctctl's own node in that namespace."""
    for paths in own_nodes().values():
        record = read_record(paths.map(MAP_NAME))
        if record is not None and record.netns_inode == netns_inode:
            return paths.dir
    return None
