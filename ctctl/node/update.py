"""Change a loaded node in place: services, endpoints, identities and policy, in the order of ``diff.py``.

Programs are touched only where an endpoint comes, goes or changes. A failure takes back what was
changed; a kill leaves tables that the next apply or load completes, since both start from what the
kernel has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from ctctl.abi import pins
from ctctl.config.node import NodeFile
from ctctl.errors import CtctlError, NotFoundError, UsageError
from ctctl.kernel.map import Map
from ctctl.node import tables as t
from ctctl.node.acceleration import check_acceleration
from ctctl.node.attach import Attachment, AttachMode, find_attachments
from ctctl.node.diff import BORDERS, Change, changes
from ctctl.node.find import choose_node
from ctctl.node.loader import LoadRequest
from ctctl.node.lock import node_lock
from ctctl.node.netns import describe, in_netns
from ctctl.node.owner import check_pins
from ctctl.node.paths import NodePaths, remove_tree
from ctctl.node.pool import STATE_MAPS, MapPool, open_pins
from ctctl.node.preflight import require_privileges
from ctctl.node.programs import Staged, load_units, plain_config, unit_config
from ctctl.node.record import MAP_NAME, NodeRecord, SlotRecord, read_record, write_record
from ctctl.node.resolve import resolve_node
from ctctl.node.slots import Unit, program_version, units
from ctctl.node.staging import begin, publish_maps, publish_record, uninterrupted
from ctctl.node.switch import Switch
from ctctl.node.tables import rodata
from ctctl.node.tunnel import resolve_tunnel
from ctctl.node.write import Quiescence, carry_out, carry_out_maglev, read_tables, wanted_tables

_MAGLEV = (t.MAGLEV, pins.of_family(t.MAGLEV, 6))
_OWN_MAPS = frozenset({*STATE_MAPS, *t.CONFIG_TABLES, *t.CONFIG6_TABLES, *_MAGLEV})


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What an update changed or, planned, would change. ``endpoints``: names whose programs come, change or go."""

    node: str
    changes: tuple[Change, ...]
    attached: tuple[str, ...]
    replaced: tuple[str, ...]
    detached: tuple[str, ...]
    planned: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.changes or self.attached or self.replaced or self.detached)


@dataclass(slots=True)
class _Plan:
    request: LoadRequest
    paths: NodePaths
    record: NodeRecord
    node: NodeFile
    pool: MapPool
    changes: list[Change]
    #: objects whose programs are new or have another configuration
    load: tuple[Unit, ...]
    attached: list[Attachment]

    def report(self, *, planned: bool = False) -> UpdateReport:
        wanted = {slot.name for unit in units(self.node) for slot in unit.slots}
        before = {slot.name for slot in self.record.slots}
        loaded = {slot.name for unit in self.load for slot in unit.slots}
        return UpdateReport(
            node=self.paths.node,
            changes=tuple(self.changes),
            attached=tuple(sorted(loaded - before)),
            replaced=tuple(sorted(loaded & before)),
            detached=tuple(sorted(before - wanted)),
            planned=planned,
        )


def update(request: LoadRequest, confirm: Callable[[UpdateReport], bool] = lambda _report: True) -> UpdateReport:
    """Bring the loaded node to what ``request.node`` says, after ``confirm`` has seen the plan.

    Raises NotFoundError (not loaded), UsageError (the change needs a load), ConfigError, LayoutError,
    KernelError; nothing is changed then, or was changed back. Refused by ``confirm``: a planned report.
    """
    require_privileges("ctctl apply")
    paths = choose_node(request.node.node.name, request.bpffs)
    with (
        node_lock(paths.dir, create=False, wait_s=request.wait_s, on_wait=request.say),
        contextlib.ExitStack() as closing,
    ):
        plan = _plan(request, paths, closing)
        report = plan.report()
        if report.empty:
            return report
        if not confirm(report):
            return plan.report(planned=True)
        _carry_out(plan, closing)
        return report


def plan_update(request: LoadRequest) -> UpdateReport:
    """What ``update`` would change; changes nothing."""
    require_privileges("ctctl apply")
    paths = choose_node(request.node.node.name, request.bpffs)
    with contextlib.ExitStack() as closing:
        return _plan(request, paths, closing).report(planned=True)


def _plan(request: LoadRequest, paths: NodePaths, closing: contextlib.ExitStack) -> _Plan:
    record = read_record(paths.map(MAP_NAME))
    check_pins(paths, record)
    if record is None or paths.staging.exists():
        raise NotFoundError(f"node {paths.node} is not completely loaded: run ctctl load first")
    where = describe(record.netns)
    resolved = in_netns(record.netns, lambda: resolve_node(request.node, where))
    node, makes_overlay = in_netns(record.netns, lambda: resolve_tunnel(resolved))
    pool = closing.enter_context(MapPool(open_pins(paths, only=_OWN_MAPS)))
    if makes_overlay:
        raise UsageError(f"tunnel changes from {record.tunnel} to a device: that takes ctctl load")
    _refuse_new_settings(node, record, pool)
    attached = find_attachments(paths, record)
    check_acceleration(node, record.netns, attached)
    wanted = wanted_tables(node)
    have = read_tables(pool.kept)
    _refuse_overflow(have, wanted, pool)
    return _Plan(
        request=request,
        paths=paths,
        record=record,
        node=node,
        pool=pool,
        changes=changes(have, wanted),
        load=tuple(unit for unit in units(node) if _differs(unit, node, record)),
        attached=attached,
    )


def _differs(unit: Unit, node: NodeFile, record: NodeRecord) -> bool:
    """Whether a unit's programs are not loaded yet, or not with this configuration on these devices."""
    config = plain_config(unit_config(node, unit))
    slots = {slot.name: (slot.ifindex, slot.direction) for slot in record.slots}
    return any(
        slots.get(slot.name) != (slot.ifindex, slot.direction) or record.rodata.get(slot.name) != config
        for slot in unit.slots
    )


def _refuse_new_settings(node: NodeFile, record: NodeRecord, pool: MapPool) -> None:
    """Settings of the node itself are compiled into every program: that is a load. Raises UsageError."""
    device = node.datapath.tunnel == "device"
    wanted = {version: plain_config(rodata(node, None, overlay_device=device, version=version)) for version in (4, 6)}
    for slot, config in record.rodata.items():
        for name, value in wanted[program_version(slot)].items():
            if config.get(name) != value:
                what = name.removeprefix("cfg_")
                raise UsageError(f"{what} changes from {config.get(name)} to {value}: that takes ctctl load")
    for name, size in t.map_sizes(node).items():
        table = pool.get(name)
        if table is not None and table.info.max_entries != size:
            raise UsageError(f"{name} changes from {table.info.max_entries} to {size} entries: that takes ctctl load")


def _refuse_overflow(have: t.Tables, wanted: t.Tables, pool: MapPool) -> None:
    """Old and new records are in a table together for a moment. Raises CtctlError."""
    for name, records in wanted.items():
        table, needed = pool.get(name), len(records.keys() | have.get(name, {}).keys())
        if table is not None and needed > table.info.max_entries:
            room = table.info.max_entries
            raise CtctlError(f"{name} holds {room} entries, changing it in place needs {needed}; use ctctl load")


def _carry_out(plan: _Plan, closing: contextlib.ExitStack) -> None:
    paths, step = plan.paths, plan.request.step
    with contextlib.ExitStack() as undo:
        undo.callback(remove_tree, paths.staging)
        begin(paths)
        staged = load_units(plan.node, plan.load, plan.pool, owner=closing, step=step)
        plan.pool.pin_fresh(paths.staging)
        write_record(paths.staging / MAP_NAME, _record(plan, staged))
        maps = plan.pool.all()
        adding = [change for change in plan.changes if is_addition(change)]
        removing = [change for change in plan.changes if not is_addition(change)]
        # A pod's records are there before its programs run.
        _change(maps, adding, undo, step)
        kept = frozenset(slot.name for unit in units(plan.node) for slot in unit.slots) - {
            slot.name for slot in staged.programs
        }
        mode = AttachMode(plan.record.attach)
        switch = Switch(paths, plan.record.netns, mode, plan.attached, undo, closing, step)
        switch.attach(staged.programs)
        _change(maps, removing, undo, step)
        step("put in place")
        undo.pop_all()
    with uninterrupted():
        publish_maps(paths)
        switch.commit(keep=kept)
        if all(unit.behind is None for unit in units(plan.node)):
            paths.map(pins.XDP_NEXT).unlink(missing_ok=True)
        publish_record(paths)


def is_addition(change: Change) -> bool:
    """Whether a change belongs before the exchange of programs: it takes nothing away."""
    return change.after is not None


def _change(
    maps: Mapping[str, Map], todo: list[Change], undo: contextlib.ExitStack, step: Callable[[str], None]
) -> None:
    """Make the changes in order; what is removed is waited for until no program can be looking at it."""
    with Quiescence() as quiescence:
        for phase, group in groupby((change for change in todo if change.table in maps), key=lambda c: c.phase):
            step(phase.name.lower().replace("_", " "))
            if phase in BORDERS:
                quiescence.wait()
            found = list(group)
            for change in found:
                undo.callback(carry_out, maps, change.reversed())
            for name in _MAGLEV:
                carry_out_maglev(maps, [change for change in found if change.table == name])
            for change in found:
                if change.table not in _MAGLEV:
                    carry_out(maps, change)


def _record(plan: _Plan, staged: Staged) -> NodeRecord:
    node, record = plan.node, plan.record
    slots: list[SlotRecord] = [slot for unit in units(node) for slot in unit.slots]
    rodata_by_slot = {
        slot.name: plain_config(staged.config[slot.name]) if slot.name in staged.config else record.rodata[slot.name]
        for slot in slots
    }
    return replace(
        record,
        slots=tuple(slots),
        file_path=node.path,
        file_text=plan.request.text,
        rodata=rodata_by_slot,
        endpoints={str(endpoint.ip): endpoint.name for endpoint in node.endpoints},
        services={str(number): service.name for service in node.services for number in service.ids},
        maps=record.maps | plan.pool.ids(),
    )
