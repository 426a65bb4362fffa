"""Load a node: make or keep its maps, load its programs, put both in place at once.

Everything new is made under ``<node>/staging`` first and is renamed into place when the last
program is attached. Until then a failure unwinds to what was there before. A load that is killed
leaves the staging directory: the next load finishes or drops it, unload removes it, and the
node's own pins are at every moment either the old ones or the new ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ctctl.abi import pins
from ctctl.config.node import NodeFile
from ctctl.errors import UsageError
from ctctl.kernel import bpffs as _bpffs
from ctctl.kernel.map import UpdateMode
from ctctl.kernel.netns import netns_path
from ctctl.node import tables
from ctctl.node.acceleration import check_acceleration
from ctctl.node.attach import Attachment, AttachMode, choose_mode, find_attachments, find_filters
from ctctl.node.find import own_nodes
from ctctl.node.lock import DEFAULT_WAIT_S, node_lock
from ctctl.node.netns import describe, in_netns
from ctctl.node.owner import check_pins, check_place, has_id
from ctctl.node.paths import DEFAULT_BPFFS, NodePaths, remove_if_empty, remove_tree
from ctctl.node.pool import OF_IPV6, OF_SOCKETS, REMADE, STATE_MAPS, MapPool, check_sizes, open_pins
from ctctl.node.preflight import ensure_bpffs, require_kernel_btf, require_privileges
from ctctl.node.programs import Staged, load_units, plain_config
from ctctl.node.record import MAP_NAME, NodeRecord, read_record, write_record
from ctctl.node.resolve import netns_inode, resolve_node
from ctctl.node.slots import units
from ctctl.node.staging import begin, finish_interrupted, publish_maps, publish_record, uninterrupted
from ctctl.node.switch import Switch
from ctctl.node.tunnel import BPF, DEVICE, make_overlay, remove_overlays, resolve_tunnel, try_overlay, with_overlay
from ctctl.node.write import wanted_tables, write_tables


def _silent(_line: str) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """What to load and how. ``netns`` None: where the node is loaded already, else the caller's own.

    ``say`` gets lines for the operator, ``step`` the name of every step before it is taken.
    """

    node: NodeFile
    text: str = ""
    netns: str | None = None
    bpffs: Path = DEFAULT_BPFFS
    attach: AttachMode = AttachMode.auto
    resize: bool = False
    wait_s: float = DEFAULT_WAIT_S
    say: Callable[[str], None] = _silent
    step: Callable[[str], None] = _silent

    @property
    def paths(self) -> NodePaths:
        return NodePaths(self.bpffs, self.node.node.name)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did or, in a plan, would do."""

    node: str
    path: str
    netns: str | None
    attach: str
    tunnel: str
    kept: tuple[str, ...]
    made: tuple[str, ...]
    attached: tuple[str, ...]
    replaced: tuple[str, ...]
    detached: tuple[str, ...]
    mounted: bool = False
    planned: bool = False


@dataclass(slots=True)
class _Plan:
    request: LoadRequest
    paths: NodePaths
    record: NodeRecord | None
    netns: str | None
    node: NodeFile
    mode: AttachMode
    attached: list[Attachment]
    pool: MapPool
    makes_overlay: bool

    def report(self, *, mounted: bool = False, planned: bool = False) -> LoadReport:
        wanted = {slot.name for unit in units(self.node) for slot in unit.slots}
        there = {found.slot for found in self.attached if found.there}
        fresh = set(self.pool.fresh) or _maps_of(self.node) - set(self.pool.kept)
        return LoadReport(
            node=self.paths.node,
            path=str(self.paths.dir),
            netns=self.netns,
            attach=str(self.mode),
            tunnel=self.node.datapath.tunnel,
            kept=tuple(sorted(self.pool.kept)),
            made=tuple(sorted(fresh)),
            attached=tuple(sorted(wanted - there)),
            replaced=tuple(sorted(wanted & there)),
            detached=tuple(sorted(there - wanted)),
            mounted=mounted,
            planned=planned,
        )


def _maps_of(node: NodeFile) -> set[str]:
    """The maps that programs of this node share."""
    known = {*tables.config_tables(node), *STATE_MAPS, tables.MAGLEV}
    if node.datapath.lb.socket is None:
        known -= OF_SOCKETS
    if any(unit.behind is not None for unit in units(node)):
        known.add(pins.XDP_NEXT)
    if node.datapath.ipv6:
        return known | {pins.of_family(tables.MAGLEV, 6)}
    return known - OF_IPV6


def load(request: LoadRequest) -> LoadReport:
    """Load ``request.node``, or replace what is loaded of it without losing a connection.

    Raises ConfigError, UsageError (a map's size changes and ``resize`` is false), LayoutError,
    PermissionDenied, UnsupportedError, BusyError, KernelError, NotOursError (what lies in the node's place is not
    ctctl's: it would be renamed over and unpinned); whatever is raised, what was loaded before still is.
    """
    _preflight(request)
    if not _bpffs.is_bpffs(request.bpffs):
        with contextlib.ExitStack() as looking:  # what is wrong with the file is found before anything is mounted
            _plan(request, request.paths, looking)
    mounted = ensure_bpffs(request.bpffs)
    if mounted:
        request.say(f"mounted a BPF file system at {request.bpffs}")
    paths = request.paths
    try:
        with node_lock(paths.dir, create=True, wait_s=request.wait_s, on_wait=request.say):
            check_pins(paths, read_record(paths.map(MAP_NAME)))
            interrupted = finish_interrupted(paths, request.step)
            with contextlib.ExitStack() as closing:
                plan = _plan(request, paths, closing, thorough=interrupted)
                _carry_out(plan, closing)
                return plan.report(mounted=mounted)
    finally:
        remove_if_empty(paths.dir.parent)


def plan_load(request: LoadRequest) -> LoadReport:
    """What ``load`` would do; changes nothing. Raises what ``load`` raises for bad input."""
    _preflight(request)
    mounted = not _bpffs.is_bpffs(request.bpffs)
    check_pins(request.paths, read_record(request.paths.map(MAP_NAME)))
    with contextlib.ExitStack() as closing:
        plan = _plan(request, request.paths, closing)
        if plan.makes_overlay:
            try_overlay()
        return plan.report(mounted=mounted, planned=True)


def _preflight(request: LoadRequest) -> None:
    require_privileges("ctctl load")
    require_kernel_btf()
    check_place(request.paths.dir)
    if request.node.steps:
        request.say("this is a scenario: its steps are for ctctl trace --scenario and are not run")


def _plan(request: LoadRequest, paths: NodePaths, closing: contextlib.ExitStack, *, thorough: bool = False) -> _Plan:
    """Everything that can be found wrong without changing anything."""
    record = read_record(paths.map(MAP_NAME))
    if paths.map_pins() or paths.link_pins():
        attached = find_attachments(paths, record, thorough=thorough)
    else:  # a new node: no need to search every namespace of the machine
        attached = list(find_filters(paths.node, [request.netns]))
    found = next((one.netns for one in attached if one.ifindex), None)
    netns = request.netns or (record.netns if record else found)
    where = describe(netns)
    resolved = in_netns(netns, lambda: resolve_node(request.node, where))
    node, makes_overlay = in_netns(netns, lambda: resolve_tunnel(resolved))
    _refuse_taken(request, node, in_netns(netns, netns_inode))
    check_acceleration(node, netns, attached)
    kept = open_pins(paths, only=STATE_MAPS & _maps_of(node), remade=REMADE)
    pool = closing.enter_context(MapPool(kept))
    for name in check_sizes(kept, tables.map_sizes(node), resize=request.resize):
        pool.resize(name)
    for table in open_pins(paths, only=frozenset((*tables.CONFIG_TABLES, *tables.CONFIG6_TABLES))).values():
        table.close()
    return _Plan(
        request=request,
        paths=paths,
        record=record,
        netns=netns,
        node=node,
        mode=choose_mode(request.attach),
        attached=attached,
        pool=pool,
        makes_overlay=makes_overlay,
    )


def _refuse_taken(request: LoadRequest, node: NodeFile, netns: int) -> None:
    """Two nodes on one device would each see what the other left over. Raises UsageError."""
    slots = [slot for unit in units(node) for slot in unit.slots]
    wanted = {slot.ifindex: slot.interface for slot in slots if slot.ifindex}
    cgroup = next((slot for slot in slots if slot.cgroup_id), None)
    for name, other in own_nodes(request.bpffs).items():
        record = read_record(other.map(MAP_NAME))
        if name == request.paths.node or record is None:
            continue
        if cgroup is not None and cgroup.cgroup_id in {slot.cgroup_id for slot in record.slots}:
            raise UsageError(f"cgroup {cgroup.interface} belongs to node {name}: unload that node first")
        if record.netns_inode != netns:
            continue
        # Asked of the kernel: a namespace that is gone leaves its number and indexes to the next one.
        attached = find_attachments(other, record)
        taken = next((wanted[found.ifindex] for found in attached if found.ifindex in wanted), None)
        if taken is not None:
            raise UsageError(f"interface {taken!r} belongs to node {name}: unload that node first")


def _carry_out(plan: _Plan, closing: contextlib.ExitStack) -> None:
    """Build in staging, exchange the programs, rename into place; undone on any failure before the renames."""
    paths, pool, step = plan.paths, plan.pool, plan.request.step
    with contextlib.ExitStack() as undo:
        undo.callback(remove_if_empty, paths.links)
        undo.callback(remove_tree, paths.staging)
        step("prepare")
        begin(paths)
        _make_overlay(plan, undo)
        staged = load_units(plan.node, units(plan.node), pool, owner=closing, step=step)
        step("write tables")
        write_tables(pool.all(), wanted_tables(plan.node))
        pool.carry_over()
        step("pin maps")
        pool.pin_fresh(paths.staging)
        write_record(paths.staging / MAP_NAME, _record(plan, staged))
        switch = Switch(paths, plan.netns, plan.mode, plan.attached, undo, closing, step)
        switch.attach(staged.programs)
        step("put in place")
        undo.pop_all()
    with uninterrupted():
        _put_in_place(plan, switch)


def _put_in_place(plan: _Plan, switch: Switch) -> None:
    """The renames, after which there is no way back; a load that is killed in between is finished by the next."""
    paths, step = plan.paths, plan.request.step
    publish_maps(paths)
    step("links")
    switch.commit()
    plan.pool.carry_over(mode=UpdateMode.NOEXIST)
    _unpin_unused(plan)
    if plan.record is not None and (plan.record.tunnel, plan.node.datapath.tunnel) == (DEVICE, BPF):
        in_netns(plan.netns, lambda: remove_overlays(paths.node))
    step("record")
    publish_record(paths)
    step("done")


def _unpin_unused(plan: _Plan) -> None:
    """Tables of the load before, of a family or mode that the node has no more: nobody would look into them."""
    before = plan.record.maps if plan.record is not None else {}
    for name, pin in plan.paths.map_pins().items():
        if name in before and plan.pool.get(name) is None and has_id(pin, [before[name]]):
            pin.unlink(missing_ok=True)


def _make_overlay(plan: _Plan, undo: contextlib.ExitStack) -> None:
    overlay, node = plan.node.node.overlay, plan.paths.node
    if not plan.makes_overlay or overlay is None:
        return
    plan.request.step(f"make geneve device {overlay.name}")
    undo.callback(in_netns, plan.netns, lambda: remove_overlays(node))
    ifindex = in_netns(plan.netns, lambda: make_overlay(node, overlay.name))
    plan.node = with_overlay(plan.node, overlay.name, ifindex)


def _record(plan: _Plan, staged: Staged) -> NodeRecord:
    node = plan.node
    return NodeRecord(
        node=plan.paths.node,
        netns=str(netns_path(plan.netns)) if plan.netns else None,
        netns_inode=in_netns(plan.netns, netns_inode),
        attach=str(plan.mode),
        tunnel=node.datapath.tunnel,
        device=node.node.device.name if node.node.device else "",
        slots=tuple(staged.programs),
        file_path=node.path,
        file_text=plan.request.text,
        rodata={slot: plain_config(config) for slot, config in staged.config.items()},
        endpoints={str(endpoint.ip): endpoint.name for endpoint in node.endpoints},
        services={str(number): service.name for service in node.services for number in service.ids},
        maps=plan.pool.ids(),
    )
