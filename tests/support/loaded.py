"""What the kernel has of a loaded node: programs, links, maps, and entries that a test put there."""

from __future__ import annotations

import socket

from ctctl.abi import layouts
from ctctl.kernel.link import Direction, TcxLink, has_tcx, query_tcx
from ctctl.kernel.map import Map
from ctctl.kernel.netns import run_in_netns
from ctctl.node.attach import find_attachments
from ctctl.node.paths import NodePaths
from ctctl.node.pool import MapPool, open_pins
from ctctl.node.record import MAP_NAME, read_record
from ctctl.node.status import NodeStatus, node_statuses
from ctctl.node.tables import CONFIG_TABLES, MAGLEV
from ctctl.node.write import read_tables
from tests.support.nodes import BPFFS, TestNode


def status(node: TestNode) -> NodeStatus:
    """What ``ctctl status`` knows of it."""
    return node_statuses(node.name)[0]


def attached_ids(node: TestNode) -> dict[str, int]:
    """Slot → program id, of everything the kernel has attached for the node."""
    paths = NodePaths(BPFFS, node.name)
    record = read_record(paths.map(MAP_NAME))
    return {a.slot: a.program_id for a in find_attachments(paths, record, thorough=True) if a.ifindex}


def map_ids(node: TestNode) -> dict[str, int]:
    """Ids of the pinned maps by name."""
    found = {}
    for name, path in NodePaths(BPFFS, node.name).map_pins().items():
        with Map.open_pinned(path, read_only=True) as table:
            found[name] = table.info.id
    return found


def link_ids(node: TestNode) -> dict[str, int]:
    """Ids of the pinned links by their pins."""
    found = {}
    for name, pin in NodePaths(BPFFS, node.name).link_pins().items():
        with TcxLink.open_pinned(pin) as link:
            found[name] = link.info.id
    return found


def _ct_key(number: int) -> bytes:
    return bytes(layouts.ipv4_ct_tuple(daddr=number, saddr=1, dport=2, sport=3, nexthdr=6, flags=0))


def put_entries(node: TestNode, lifetimes: list[int]) -> None:
    """An entry of each lifetime."""
    with Map.open_pinned(node.dir / "cilium_ct4_global") as table:
        for number, lifetime in enumerate(lifetimes):
            table.update(_ct_key(number), bytes(layouts.ct_entry(lifetime=lifetime)))


def entries(node: TestNode) -> dict[bytes, int]:
    """Entries put by ``put_entries``: key → lifetime."""
    with Map.open_pinned(node.dir / "cilium_ct4_global") as table:
        return {
            key: layouts.ct_entry.from_buffer_copy(value).lifetime
            for key, value in table.items()
            if layouts.ipv4_ct_tuple.from_buffer_copy(key).saddr == 1
        }


def tcx_programs(node: TestNode) -> set[int]:
    """Program ids in the TCX chains of the node's devices, asked of the devices; none where there is no TCX."""
    if not has_tcx():
        return set()

    def ask() -> set[int]:
        return {
            program.prog_id
            for _index, name in socket.if_nameindex()
            if name != "lo"
            for direction in Direction
            for program in query_tcx(socket.if_nametoindex(name), direction)
        }

    return run_in_netns(node.name, ask)


def config_tables(node: TestNode) -> object:
    """Everything that the node file became, to compare with."""
    with MapPool(open_pins(NodePaths(BPFFS, node.name), only={*CONFIG_TABLES, MAGLEV})) as pool:
        return read_tables(pool.kept)
