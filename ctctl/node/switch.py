"""Put loaded programs in place of what is attached, so that until ``commit`` everything can be taken back.

New links are pinned in the staging directory, where a load that is killed leaves them. Programs
behind existing links and filters are exchanged in place, and exchanged back on failure; no packet
finds a device without a program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ctctl.kernel.link import XDP_MODES
from ctctl.kernel.program import Program
from ctctl.node.attach import (
    CGROUP,
    XDP,
    Attachment,
    AttachMode,
    attach_link,
    detach,
    detach_link,
    drop_filter,
    exchange_link,
    in_its_place,
    put_filter,
)
from ctctl.node.netns import in_netns
from ctctl.node.paths import NodePaths
from ctctl.node.record import SlotRecord


@dataclass(slots=True)
class Switch:
    """One exchange of a node's programs.

    ``undo`` unwound, nothing has changed; ``closing`` owns the handles that this takes. Both are the
    caller's, and ``closing`` must outlive ``undo``.
    """

    paths: NodePaths
    netns: str | None
    mode: AttachMode
    attached: list[Attachment]
    undo: contextlib.ExitStack
    closing: contextlib.ExitStack
    step: Callable[[str], None]
    _taken_over: list[Attachment] = field(default_factory=list)

    def attach(self, programs: Mapping[SlotRecord, Program]) -> None:
        """Attach every program to its slot. Raises KernelError."""
        for slot, program in programs.items():
            self.step(f"attach {slot.program} to {slot.interface} {slot.direction}")
            found = self._reusable(slot)
            if found is not None:
                self._taken_over.append(found)
            if self._mode_of(slot) == AttachMode.tc:
                self._filter(slot, program, found)
            else:
                self._link(slot, program, found)

    def commit(self, keep: frozenset[str] = frozenset()) -> None:
        """Move new links to their place and detach what was attached and is not wanted.

        ``keep`` are slots that were not part of this switch. There is no way back from here.
        """
        moved = set()
        for pin in sorted(self.paths.staged_links.iterdir()):
            # A rename over the link of a device that was made anew drops that link in the same moment.
            pin.rename(self.paths.links / pin.name)
            moved.add(pin.name)
        for old in self.attached:
            if old in self._taken_over or old.slot in keep or (old.pin is not None and old.slot in moved):
                continue
            self.step(f"detach {old.slot}")
            detach(old)

    def _mode_of(self, slot: SlotRecord) -> str:
        """How a slot's program is attached: the node's mode is of its tc programs."""
        return CGROUP if slot.cgroup_id else XDP if slot.direction in XDP_MODES else str(self.mode)

    def _reusable(self, slot: SlotRecord) -> Attachment | None:
        where = (slot.name, self._mode_of(slot), slot.ifindex, slot.cgroup_id, slot.direction)
        there = (a for a in self.attached if (a.slot, a.mode, a.ifindex, a.cgroup_id, a.direction) == where)
        return next((a for a in there if in_its_place(a, slot)), None)

    def _link(self, slot: SlotRecord, program: Program, found: Attachment | None) -> None:
        if found is None or found.pin is None:
            pin = self.paths.staged_links / slot.name
            self.undo.callback(detach_link, pin)
            in_netns(self.netns, lambda: attach_link(program, slot, pin))
            return
        before = self.closing.enter_context(Program.from_id(found.program_id))
        self.undo.callback(exchange_link, found.pin, before)
        exchange_link(found.pin, program)

    def _filter(self, slot: SlotRecord, program: Program, found: Attachment | None) -> None:
        node, old = self.paths.node, found.filter if found else None
        if found is not None:
            before = self.closing.enter_context(Program.from_id(found.program_id))
            self.undo.callback(in_netns, self.netns, lambda: put_filter(before, slot, node, old))
            in_netns(self.netns, lambda: put_filter(program, slot, node, old))
            return
        made = in_netns(self.netns, lambda: put_filter(program, slot, node, None))
        self.undo.callback(in_netns, self.netns, lambda: drop_filter(made))
