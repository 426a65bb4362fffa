"""What is loaded on this machine, told from the kernel; the record only adds names.

Reading never waits for a load that runs, and never fails because a piece is missing: what is
missing is the answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctctl.abi import pins
from ctctl.abi.layouts import CtctlStat
from ctctl.errors import CtctlError, PermissionDenied
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.program import Program
from ctctl.node.acceleration import NATIVE, OTHER_END, loses_frames
from ctctl.node.attach import CGROUP, XDP, Attachment, find_attachments
from ctctl.node.counters import Counter, read_counters, read_stat
from ctctl.node.find import choose_node, own_nodes
from ctctl.node.lock import is_locked
from ctctl.node.netns import interface_name_in
from ctctl.node.paths import NodePaths
from ctctl.node.pool import OF_IPV6, OF_SOCKETS, PRIVATE_MAPS, STATE_MAPS, count_entries
from ctctl.node.record import MAP_NAME, NodeRecord, SlotRecord, read_record


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """One slot: what should be attached there, and what is. ``problem`` is empty when they agree.

    ``gone``: what it was attached to is not there any more.
    """

    slot: str
    program: str
    endpoint: str
    interface: str
    ifindex: int
    direction: str
    mode: str
    id: int | None
    tag: str | None
    attached: bool
    problem: str = ""
    gone: bool = False

    @property
    def told(self) -> str:
        """The problem as a sentence of its own."""
        return f"{self.program} of {self.interface or self.slot}: {self.problem}"


@dataclass(frozen=True, slots=True)
class MapStatus:
    """One pinned map. ``entries`` is None where counting means nothing (arrays, ring buffers).

    Of a dump's table there is no ``id`` and ``type``, and a size only where something tells it.
    """

    name: str
    id: int | None
    type: str | None
    entries: int | None
    max_entries: int | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. ``netns`` None: the namespace of whoever loaded it; ``problems``: what is not as it should be."""

    name: str
    path: str
    netns: str | None
    device: str | None
    attach: str | None
    tunnel: str | None
    file: str | None
    version: str | None
    changing: bool
    programs: tuple[ProgramStatus, ...] = ()
    maps: tuple[MapStatus, ...] = ()
    counters: tuple[Counter, ...] = ()
    events_lost: int | None = None
    create_failed: int | None = None
    #: packets dropped because no port of the node's address was free
    snat_exhausted: int | None = None
    problems: tuple[str, ...] = field(default=())
    #: "ctctl", or "cilium" for another owner's node; how that one works, by topic
    owner: str = "ctctl"
    facts: Mapping[str, str] = field(default_factory=dict)
    #: False: told from files
    live: bool = True

    @property
    def drops(self) -> int | None:
        """Packets dropped, all hooks and reasons; None where nothing counts them."""
        if not self.counters and (not self.live or self.owner != "ctctl"):
            return None  # a node of ours has a counter for each hook; of Cilium's an empty table may be one not read
        return sum(counter.packets for counter in self.counters if counter.reason != "ok")


def node_statuses(name: str | None = None, bpffs: Path | None = None) -> list[NodeStatus]:
    """Every node, or the one called ``name``. Raises NotFoundError, PermissionDenied."""
    chosen = own_nodes(bpffs).values() if name is None else [choose_node(name, bpffs)]
    return [node_status(paths) for paths in chosen]


def node_status(paths: NodePaths) -> NodeStatus:
    """What there is of one node. Raises PermissionDenied."""
    record = read_record(paths.map(MAP_NAME))
    changing = is_locked(paths.dir)
    problems: list[str] = []
    maps, map_ids, counters, stats = _maps(paths, problems)
    programs = tuple(_programs(paths, record, map_ids))
    problems += [program.told for program in programs if program.problem]
    if paths.staging.exists() and not changing:
        problems.append("a load was interrupted: run ctctl load again, or ctctl unload")
    elif record is None and not changing:
        problems.append("nothing says how this node was loaded: run ctctl load again, or ctctl unload")
    return NodeStatus(
        name=paths.node,
        path=str(paths.dir),
        netns=record.netns if record else None,
        device=record.device or None if record else None,
        attach=record.attach if record else None,
        tunnel=record.tunnel if record else None,
        file=record.file_path if record else None,
        version=record.version if record else None,
        changing=changing,
        programs=programs,
        maps=maps,
        counters=counters,
        events_lost=stats.get(CtctlStat.STAT_EVENTS_LOST),
        create_failed=stats.get(CtctlStat.STAT_CT_CREATE_FAILED),
        snat_exhausted=stats.get(CtctlStat.STAT_SNAT_EXHAUSTED),
        problems=tuple(problems),
    )


def _maps(
    paths: NodePaths, problems: list[str]
) -> tuple[tuple[MapStatus, ...], dict[str, int], tuple[Counter, ...], dict[int, int]]:
    """(maps, their ids, counters, statistics) from the node's pins."""
    found: list[MapStatus] = []
    counters: tuple[Counter, ...] = ()
    stats: dict[int, int] = {}
    for name, path in paths.map_pins().items():
        try:
            with Map.open_pinned(path, read_only=True) as table:
                info = table.info
                found.append(MapStatus(name, info.id, map_type_name(info.type), count_entries(table), info.max_entries))
                if name == pins.METRICS:
                    counters = read_counters(table)
                elif name == pins.STATS:
                    stats = {stat: read_stat(table, stat) for stat in CtctlStat if stat < table.info.max_entries}
        except PermissionDenied:
            raise
        except CtctlError as error:
            problems.append(f"{name}: {error}")
    listed = {status.name for status in found}
    # A node with one family has none of the other's.
    expected = STATE_MAPS if listed & OF_IPV6 else STATE_MAPS - OF_IPV6
    expected = expected if listed & OF_SOCKETS else expected - OF_SOCKETS
    for name in sorted(expected - listed):
        problems.append(f"{name} is not pinned")
    return tuple(found), {one.name: one.id for one in found if one.id is not None}, counters, stats


def map_type_name(kind: int) -> str:
    with contextlib.suppress(ValueError):
        return MapType(kind).name.lower()
    return str(kind)


def _programs(paths: NodePaths, record: NodeRecord | None, map_ids: Mapping[str, int]) -> Iterator[ProgramStatus]:
    attached = {found.slot: found for found in find_attachments(paths, record)}
    wanted = {slot.name: slot for slot in record.slots} if record else {}
    for name, slot in wanted.items():
        yield _program(name, slot, attached.get(name), record, map_ids)
    for name in sorted(attached.keys() - wanted.keys()):
        yield _program(name, None, attached[name], record, map_ids)


def _program(
    name: str,
    slot: SlotRecord | None,
    found: Attachment | None,
    record: NodeRecord | None,
    map_ids: Mapping[str, int],
) -> ProgramStatus:
    netns = found.netns if found and found.netns else record.netns if record else None
    ifindex = (found.ifindex if found else 0) or (slot.ifindex if slot else 0)
    device = interface_name_in(netns, ifindex) or (slot.interface if slot else "")
    cgroup = bool(slot and slot.cgroup_id) or bool(found and found.mode == CGROUP)
    what = "cgroup" if cgroup else "interface"
    tag, problem = None, ""
    if found is None:
        gone = not cgroup and interface_name_in(netns, ifindex) is None
        problem = f"interface {device} is gone" if gone else "not attached"
    else:
        gone = not found.there
        tag, problem = _check_program(found, map_ids)
        if gone:
            problem = f"{what} {device or '?'} is gone"
    if slot is None and not problem and record is not None:
        problem = "attached, but not part of what was loaded last"
    return ProgramStatus(
        slot=name,
        program=slot.program if slot else name.rsplit("-", 1)[-1],
        endpoint=slot.endpoint if slot else "",
        interface=device,
        ifindex=ifindex,
        direction=slot.direction if slot else found.direction if found else "",
        mode=str(found.mode) if found else record.attach if record else "",
        id=found.program_id if found else None,
        tag=tag,
        attached=bool(found and found.there),
        problem=problem,
        gone=gone,
    )


def _goes_on(map_ids: Iterable[int]) -> bool:
    """Whether there is a program of IPv6 behind the XDP program that uses these maps. True where it cannot be told."""
    for map_id in map_ids:
        try:
            with Map.from_id(map_id) as table:
                if table.info.name == pins.XDP_NEXT:
                    return table.lookup(bytes(4)) is not None
        except CtctlError:
            continue
    return True


def _check_program(found: Attachment, map_ids: Mapping[str, int]) -> tuple[str | None, str]:
    """(tag, problem): a program must use the maps that are pinned, or nobody sees what it writes."""
    try:
        with Program.from_id(found.program_id) as program:
            info = program.info
    except CtctlError:
        return None, "its program is gone"
    if found.mode == XDP and pins.CT6_TCP in map_ids and not _goes_on(info.map_ids):
        return info.tag, "IPv6's program is not behind it, what is IPv6's is passed on: run ctctl load again"
    if found.mode == XDP and found.direction == NATIVE and loses_frames(found.netns, found.ifindex):
        return info.tag, f"every packet that it sends is lost: {OTHER_END}"
    foreign = [map_id for map_id in info.map_ids if map_id not in map_ids.values()]
    for map_id in foreign:
        with contextlib.suppress(CtctlError), Map.from_id(map_id) as table:
            name = table.info.name
            pinned = next((pin for pin in map_ids if pin[:15] == name and pin not in PRIVATE_MAPS), None)
            if pinned:
                return info.tag, f"uses another {pinned} (id {map_id}) than the pinned one: run ctctl load again"
    return info.tag, ""
