"""Programs on devices: TCX links pinned under the node, or clsact filters named after it; and on a cgroup, by links.

Both can be found again without any record: a link by its pin, a filter by its name
``ctctl/<node>/<slot>``, in whatever network namespace it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ctctl.errors import CtctlError, NotFoundError, UnsupportedError
from ctctl.kernel import tc
from ctctl.kernel.attached import xdp_programs
from ctctl.kernel.link import (
    LINK_TYPE_CGROUP,
    LINK_TYPE_XDP,
    XDP_MODES,
    CgroupLink,
    Direction,
    Link,
    LinkInfo,
    TcxLink,
    XdpLink,
    has_tcx,
    query_tcx,
)
from ctctl.kernel.program import Program
from ctctl.node.netns import candidates, in_netns
from ctctl.node.paths import NodePaths
from ctctl.node.record import NodeRecord, SlotRecord
from ctctl.node.slots import program_version

#: Where our filters go: behind those that asked to be first, and IPv6's behind IPv4's, which takes outer headers off
#: for it. Of one priority the kernel runs the newest first.
_PRIORITY: Final = {4: 50, 6: 51}

#: How a program of sockets is attached, whatever the node's ``AttachMode`` for devices.
CGROUP = "cgroup"
#: And a device's XDP.
XDP = "xdp"


class AttachMode(StrEnum):
    """How programs are attached: ``auto`` is TCX where the kernel has it (6.6), else a clsact filter."""

    auto = "auto"
    tcx = "tcx"
    tc = "tc"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program found attached, by a link (``pin``) or a ``filter``. ``ifindex`` 0: the device is gone.

    On a cgroup: ``cgroup_id``, the hook of sockets as ``direction``, and ``CGROUP`` as ``mode``. A device's XDP has
    ``XDP`` as ``mode``, and as ``direction`` how it runs (``kernel.link.XDP_MODES``).
    """

    slot: str
    mode: str
    ifindex: int
    direction: str
    program_id: int
    pin: Path | None = None
    filter: tc.Filter | None = None
    netns: str | None = None
    cgroup_id: int = 0

    @property
    def there(self) -> bool:
        """Whether what it is attached to still is."""
        return bool(self.ifindex or self.cgroup_id)


def find_attachments(paths: NodePaths, record: NodeRecord | None, *, thorough: bool = False) -> list[Attachment]:
    """Every program of the node that is attached, and links whose device is gone (``ifindex`` 0).

    Filters are looked for where the record says that filters were used or says nothing, and always
    if ``thorough``.
    """
    found = list(_find_links(paths, record))
    if thorough or record is None or record.attach != AttachMode.tcx:
        found += find_filters(paths.node, candidates(record))
    return found


def _find_links(paths: NodePaths, record: NodeRecord | None) -> Iterator[Attachment]:
    for slot, pin in paths.link_pins().items():
        # Gone meanwhile, or no link at all: nothing is attached by it either way.
        with contextlib.suppress(CtctlError), Link.open_pinned(pin) as link:
            info = link.info
            if info.type == LINK_TYPE_CGROUP:
                hook = info.socket_hook or ""
                yield Attachment(slot, CGROUP, 0, hook, info.prog_id, pin, cgroup_id=info.cgroup_id)
                continue
            if info.type == LINK_TYPE_XDP:
                netns, how = _xdp_of(info, record)
                yield Attachment(slot, XDP, info.ifindex, how, info.prog_id, pin, netns=netns)
                continue
            netns = _netns_of(info) if record is None else record.netns
            yield Attachment(
                slot, AttachMode.tcx, info.ifindex, str(info.direction or ""), info.prog_id, pin, netns=netns
            )


def _xdp_of(link: LinkInfo, record: NodeRecord | None) -> tuple[str | None, str]:
    """The namespace in which that program is the device's XDP, and how it runs there: a link tells neither."""
    for netns in candidates(record) if link.ifindex else ():
        with contextlib.suppress(CtctlError):
            for found in in_netns(netns, xdp_programs):
                if (found.ifindex, found.prog_id) == (link.ifindex, link.prog_id):
                    return netns, found.mode
    return (record.netns if record else None), ""


def _netns_of(link: LinkInfo) -> str | None:
    """The namespace in which that interface runs that program: a link tells the index only."""
    direction = link.direction
    if not link.ifindex or direction is None:
        return None
    for netns in candidates(None):
        with contextlib.suppress(CtctlError):
            chain = in_netns(netns, lambda: query_tcx(link.ifindex, direction))
            if any(program.prog_id == link.prog_id for program in chain):
                return netns
    return None


def find_filters(node: str, namespaces: Iterable[str | None]) -> Iterator[Attachment]:
    """The node's clsact filters in these network namespaces."""
    prefix = filter_name(node, "")
    for netns in namespaces:
        with contextlib.suppress(CtctlError):
            for found in in_netns(netns, tc.list_filters):
                if found.name.startswith(prefix):
                    slot = found.name.removeprefix(prefix)
                    yield Attachment(
                        slot, AttachMode.tc, found.ifindex, str(found.direction), found.prog_id, None, found, netns
                    )


def filter_name(node: str, slot: str) -> str:
    """The name of a node's clsact filter: what it is found by."""
    return f"ctctl/{node}/{slot}"


def choose_mode(asked: AttachMode) -> AttachMode:
    """``auto`` decided by what the kernel has. Raises UnsupportedError if TCX is asked for and missing."""
    if asked is AttachMode.tc or (asked is AttachMode.auto and not has_tcx()):
        return AttachMode.tc
    if asked is AttachMode.tcx and not has_tcx():
        raise UnsupportedError("this kernel has no TCX links (Linux 6.6): use --attach tc or auto")
    return AttachMode.tcx


def attach_link(program: Program, slot: SlotRecord, pin: Path) -> None:
    """Attach by a link pinned at ``pin``, to a device of this thread's namespace or to a cgroup. Raises KernelError."""
    link: Link
    if slot.cgroup_id:
        link = CgroupLink.attach(program, Path(slot.interface), slot.direction)
    elif slot.direction in XDP_MODES:
        link = XdpLink.attach(program, slot.ifindex, slot.direction)
    else:
        link = TcxLink.attach(program, slot.ifindex, Direction(slot.direction))
    with link:
        link.pin(pin)


def exchange_link(pin: Path, program: Program) -> None:
    """Put another program behind a pinned link, in place."""
    with Link.open_pinned(pin) as link:
        link.update(program)


def detach_link(pin: Path) -> None:
    """Take a pinned link's program off its device and unpin it.

    Unpinning alone would do, but not at once: the kernel frees pins after a grace period.
    """
    with contextlib.suppress(CtctlError), Link.open_pinned(pin) as link:
        link.detach()
    pin.unlink(missing_ok=True)


def in_its_place(found: Attachment, slot: SlotRecord) -> bool:
    """Whether a program of the slot has only to take the place of the one found there: a filter may be out of order."""
    return found.filter is None or found.filter.priority == _PRIORITY[program_version(slot.program)]


def put_filter(program: Program, slot: SlotRecord, node: str, old: tc.Filter | None) -> tc.Filter:
    """Attach by a clsact filter in this thread's namespace, in place of ``old``, else beside all others."""
    direction = Direction(slot.direction)
    if old is not None:
        priority, handle = old.priority, old.handle
    else:
        used = {(f.priority, f.handle) for f in tc.list_filters(slot.ifindex) if f.direction == direction}
        priority = _PRIORITY[program_version(slot.program)]
        handle = next(number for number in range(1, len(used) + 2) if (priority, number) not in used)
    return tc.attach_filter(
        program, slot.ifindex, direction, name=filter_name(node, slot.name), priority=priority, handle=handle
    )


def drop_filter(old: tc.Filter) -> None:
    """Remove a filter, and the clsact qdisc if it was the last one in it."""
    if tc.detach_filter(old):
        tc.remove_clsact(old.ifindex)


def detach(old: Attachment) -> None:
    """Take one program off its device; a device or namespace that is gone took it along."""
    if old.pin is not None:
        detach_link(old.pin)
    elif old.filter is not None:
        found = old.filter
        with contextlib.suppress(NotFoundError):
            in_netns(old.netns, lambda: drop_filter(found))
