"""Load a node's objects: one per pod and one per device, all on the same maps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ctctl.abi import pins
from ctctl.config.node import NodeFile
from ctctl.errors import LayoutError
from ctctl.kernel.map import Map
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.kernel.program import Program
from ctctl.node.pool import PRIVATE_MAPS, MapPool
from ctctl.node.record import SlotRecord
from ctctl.node.slots import XDP_PROGRAM, Unit, program_name
from ctctl.node.tables import MAGLEV, map_sizes, rodata
from ctctl.node.write import new_lookup_table

Config = dict[str, int | bytes]


@dataclass(slots=True)
class Staged:
    """Programs that are loaded and not yet attached, by slot; closing drops those that never were."""

    programs: dict[SlotRecord, Program] = field(default_factory=dict)
    config: dict[str, Config] = field(default_factory=dict)


def unit_config(node: NodeFile, unit: Unit) -> Config:
    """The read-only data of an object's programs."""
    return rodata(node, unit.endpoint, overlay_device=node.datapath.tunnel == "device", version=unit.version)


def load_units(
    node: NodeFile,
    units: Iterable[Unit],
    pool: MapPool,
    *,
    owner: contextlib.ExitStack,
    step: Callable[[str], None],
) -> Staged:
    """Load every unit's object on the pool's maps; maps the pool lacks are made and put into it.

    ``owner`` closes the objects. Raises VerifierError, KernelError.
    """
    staged = Staged()
    sizes = map_sizes(node)
    for unit in units:
        step(f"load {unit.title}")
        config = unit_config(node, unit)
        bpf = owner.enter_context(_load(unit, config, pool, sizes, owner))
        for slot in unit.slots:
            staged.programs[slot] = bpf.program(slot.program)
            staged.config[slot.name] = config
        if unit.behind is not None:
            step(f"load {unit.behind.title}")
            behind = _load(unit.behind, unit_config(node, unit.behind), pool, sizes, owner)
            _go_on_to(owner.enter_context(behind), unit.behind.version, bpf)
    return staged


def _go_on_to(behind: BpfObject, version: int, bpf: BpfObject) -> None:
    """Have the XDP program of ``bpf`` go on to that of another family."""
    program = behind.program(program_name(XDP_PROGRAM, version))
    bpf.map(pins.XDP_NEXT).update(bytes(4), program.fd.to_bytes(4, "little"))


def _load(
    unit: Unit, config: Config, pool: MapPool, sizes: Mapping[str, int], owner: contextlib.ExitStack
) -> BpfObject:
    bpf = BpfObject.open(OBJECTS / f"{unit.object}.bpf.o")
    with contextlib.ExitStack() as undo:
        undo.callback(bpf.close)
        known = bpf.config_names()
        for name, value in config.items():
            if name in known:
                bpf.set_config(name, value)
        made = _choose_maps(bpf, pool, sizes, int(config["cfg_maglev_size"]), owner)
        if unit.behind is None and pins.XDP_NEXT in made:
            # Nothing will be in it.
            made.remove(pins.XDP_NEXT)
        bpf.load()
        for name in made:
            pool.fresh[name] = bpf.map(name).dup()
        undo.pop_all()
    return bpf


def _choose_maps(
    bpf: BpfObject, pool: MapPool, sizes: Mapping[str, int], maglev_size: int, owner: contextlib.ExitStack
) -> list[str]:
    """Point ``bpf`` at the pool's maps; returns the names of those that loading will make."""
    made = []
    for name in bpf.map_names():
        shared = pool.get(name)
        if shared is not None:
            _check_shape(bpf, name, shared)
            bpf.reuse_map(name, shared)
            continue
        if name in sizes:
            bpf.set_max_entries(name, sizes[name])
        if pins.of_ipv4(name) == MAGLEV:
            bpf.set_inner_map(name, owner.enter_context(new_lookup_table(maglev_size)))
        if name not in PRIVATE_MAPS:
            made.append(name)
    return made


def _check_shape(bpf: BpfObject, name: str, shared: Map) -> None:
    """Refuse a pinned map of another type; sizes are the pool's business. Raises LayoutError."""
    kind, info = bpf.map_shape(name)[0], shared.info
    if kind != info.type:
        raise LayoutError(f"{name}: pinned as map type {info.type}, {int(kind)} expected; ctctl unload removes it")


def plain_config(config: Config) -> dict[str, int | str]:
    """A program's configuration as JSON can hold it: bytes as hex."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in config.items()}
