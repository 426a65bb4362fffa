"""The way before TCX: programs as direct-action filters of a clsact qdisc, through rtnetlink.

Everything acts in the calling thread's network namespace.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ctctl.errors import UnsupportedError
from ctctl.kernel.failures import kernel_error
from ctctl.kernel.link import Direction
from ctctl.kernel.program import Program

#: TC_H_CLSACT with TC_H_MIN_INGRESS, TC_H_MIN_EGRESS (linux/pkt_sched.h).
_PARENT: Final = {Direction.INGRESS: 0xFFFFFFF2, Direction.EGRESS: 0xFFFFFFF3}
#: TCA_BPF_ID (linux/pkt_cls.h), which pyroute2 does not name.
_TCA_BPF_ID = 11
_ETH_P_ALL = 3


@dataclass(frozen=True, slots=True)
class Filter:
    """A BPF filter of a clsact qdisc. ``name`` is what it was attached under, ``handle`` and ``priority`` its place."""

    ifindex: int
    direction: Direction
    prog_id: int
    name: str
    priority: int
    handle: int


def attach_filter(
    program: Program, ifindex: int, direction: Direction, *, name: str, priority: int = 1, handle: int = 1
) -> Filter:
    """Attach ``program``, in place of the filter at this priority and handle if there is one.

    Adds the clsact qdisc where it is missing. Raises KernelError.
    """
    found = Filter(ifindex, direction, program.info.id, name, priority, handle)
    with _rtnetlink(f"attach {name} to {direction} of", ifindex) as ip:
        _ensure_clsact(ip, ifindex)
        _put(ip, "replace-filter", program, found)
    return found


def attach_first(program: Program, ifindex: int, direction: Direction, *, name: str) -> Filter:
    """Attach ``program`` in front of every filter that is there; none of them is touched.

    A filter runs before those of a higher priority, and of its own priority before those that were there already
    (``cls_bpf_change`` in net/sched/cls_bpf.c). Needs the clsact qdisc. Raises UnsupportedError where another kind
    of filter has the lowest priority there can be; KernelError.
    """
    with _rtnetlink(f"attach {name} to {direction} of", ifindex) as ip:
        there = [_place(message) for message in ip.get_filters(index=ifindex, parent=_PARENT[direction])]
        first = min(there, default=None)
        priority, handle = (1, 1) if first is None else (first.priority - 1, 1)
        if first is not None and first.priority == 1:
            if first.kind != "bpf" or first.protocol != _ETH_P_ALL:
                raise UnsupportedError(
                    f"attach {name} to {direction} of interface {ifindex}: nothing goes in front of its {first.kind}"
                    " filter, which has priority 1"
                )
            priority, handle = 1, 1 + max(place.handle for place in there if place.priority == 1)
        # Who else attaches meanwhile may take the place: then this fails, and replaces nothing.
        found = Filter(ifindex, direction, program.info.id, name, priority, handle)
        _put(ip, "add-filter", program, found)
    return found


def add_clsact(ifindex: int) -> bool:
    """Give the device a clsact qdisc. False: it has one. Raises KernelError."""
    with _rtnetlink("add clsact to", ifindex) as ip:
        return _ensure_clsact(ip, ifindex)


def detach_filter(found: Filter) -> bool:
    """Remove one filter. False: it, or its device, was gone. Raises KernelError."""
    with _rtnetlink(f"detach {found.name} from {found.direction} of", found.ifindex) as ip:
        with _tolerate(errno.ENOENT, errno.ENODEV, errno.EINVAL):
            ip.tc(
                "del-filter",
                "bpf",
                found.ifindex,
                found.handle,
                parent=_PARENT[found.direction],
                prio=found.priority,
                protocol=_ETH_P_ALL,
            )
            return True
        return False


def list_filters(ifindex: int | None = None) -> list[Filter]:
    """BPF filters of one device, or of every device of the namespace, in the order they run."""
    with _rtnetlink("list filters of", ifindex or 0) as ip:
        holders = [qdisc["index"] for qdisc in ip.get_qdiscs() if qdisc.get_attr("TCA_KIND") == "clsact"]
        return [
            found
            for holder in holders
            if ifindex is None or holder == ifindex
            for direction in Direction
            for found in _filters(ip, holder, direction)
        ]


def remove_clsact(ifindex: int) -> bool:
    """Remove the device's clsact qdisc if no filter of any kind is left in it. True if it was removed."""
    with _rtnetlink("remove clsact from", ifindex) as ip:
        if not _has_clsact(ip, ifindex):
            return False
        if any(list(ip.get_filters(index=ifindex, parent=parent)) for parent in _PARENT.values()):
            return False
        with _tolerate(errno.ENOENT, errno.ENODEV, errno.EINVAL):
            ip.tc("del", "clsact", ifindex)
            return True
        return False


def _ensure_clsact(ip: Any, ifindex: int) -> bool:
    if _has_clsact(ip, ifindex):
        return False
    with _tolerate(errno.EEXIST):
        ip.tc("add", "clsact", ifindex)
        return True
    return False


def _put(ip: Any, command: str, program: Program, found: Filter) -> None:
    ip.tc(
        command,
        "bpf",
        found.ifindex,
        found.handle,
        fd=program.fd,
        name=found.name,
        parent=_PARENT[found.direction],
        prio=found.priority,
        protocol=_ETH_P_ALL,
        direct_action=True,
    )


class _Place(NamedTuple):
    """Where a filter of any kind is: the one of the lowest priority runs first. ``protocol`` as in EtherTypes."""

    priority: int
    handle: int
    kind: str
    protocol: int


def _place(message: Any) -> _Place:
    info = message["info"]
    return _Place(info >> 16, message["handle"], message.get_attr("TCA_KIND") or "", socket.ntohs(info & 0xFFFF))


def _filters(ip: Any, ifindex: int, direction: Direction) -> Iterator[Filter]:
    for message in ip.get_filters(index=ifindex, parent=_PARENT[direction]):
        options = message.get_attr("TCA_OPTIONS")
        # Each priority is announced once by itself, without options, ahead of its filters.
        if message.get_attr("TCA_KIND") != "bpf" or not options:
            continue
        yield Filter(
            ifindex,
            direction,
            _program_id(options),
            options.get_attr("TCA_BPF_NAME") or "",
            message["info"] >> 16,
            message["handle"],
        )


def _program_id(options: Any) -> int:
    for name, value in options["attrs"]:
        if name == "UNKNOWN" and value["header"]["type"] == _TCA_BPF_ID:
            number: int = struct.unpack_from("=I", value.data, value.offset + 4)[0]
            return number
    return 0


def _has_clsact(ip: Any, ifindex: int) -> bool:
    return any(q["index"] == ifindex and q.get_attr("TCA_KIND") == "clsact" for q in ip.get_qdiscs(index=ifindex))


@contextmanager
def _rtnetlink(what: str, ifindex: int) -> Iterator[Any]:
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        raise kernel_error(what, f"interface {ifindex}", error.code) from error


@contextmanager
def _tolerate(*codes: int) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise
