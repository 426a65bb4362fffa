"""TCX: tc programs attached to a device by BPF links (Linux 6.6).

libbpf 1.1 knows no TCX, so attaching and querying are raw bpf(2) calls; the rest of a link's life
goes through libbpf.
"""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from ctctl._ffi import CallError, Fd, libbpf, syscall
from ctctl._ffi.structs import KernelLinkInfo
from ctctl.errors import KernelError
from ctctl.kernel import info as _info
from ctctl.kernel.failures import kernel_error, operation
from ctctl.kernel.handle import Handle
from ctctl.kernel.program import Program

_BPF_F_BEFORE = 1 << 3
_BPF_F_ID = 1 << 5
_MAX_ATTACHED = 64
_LOOPBACK = 1
#: BPF_LINK_TYPE_TCX (enum bpf_link_type).
LINK_TYPE_TCX: Final = 11


class Direction(StrEnum):
    """Which way through the device, as the host sees it."""

    INGRESS = "ingress"
    EGRESS = "egress"


#: BPF_TCX_INGRESS, BPF_TCX_EGRESS (enum bpf_attach_type).
_ATTACH_TYPE: Final = {Direction.INGRESS: 46, Direction.EGRESS: 47}
_DIRECTION: Final = {number: direction for direction, number in _ATTACH_TYPE.items()}

_NO_DEVICE: Final = "no such interface in this network namespace"
_ATTACH_HINTS: Final = {
    errno.EINVAL: "this kernel has no TCX (Linux 6.6)",
    errno.ENODEV: _NO_DEVICE,
    errno.EEXIST: "the program is in that chain already",
    errno.ENOENT: "the program to go in front of is not in that chain",
    errno.ERANGE: "the chain is full",
}


@dataclass(frozen=True, slots=True)
class AttachedProgram:
    """One program of a device's TCX chain. ``link_id`` is 0 for a program attached without a link."""

    prog_id: int
    link_id: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``struct bpf_link_info``. ``ifindex`` is 0 once the device is gone or the link is detached."""

    id: int
    type: int
    prog_id: int
    ifindex: int
    direction: Direction | None


class TcxLink(Handle):
    """A program attached to a device, as long as a descriptor or pin of the link lives."""

    KIND = KERNEL_KIND = "link"

    @classmethod
    def attach(
        cls,
        program: Program,
        ifindex: int,
        direction: Direction,
        *,
        before: int | Literal["first"] | None = None,
    ) -> TcxLink:
        """Attach to a device of this thread's network namespace, last in its chain.

        ``before``: in front of the program with this id, or "first" of all. Raises KernelError.
        """
        attr = syscall.LinkCreateAttr(prog_fd=program.fd, target_ifindex=ifindex, attach_type=_ATTACH_TYPE[direction])
        if before is not None:
            attr.flags = _BPF_F_BEFORE
            if before != "first":
                attr.flags |= _BPF_F_ID
                attr.relative_id = before
        where = f"{program.name} to {direction} of interface {ifindex}"
        with operation("attach", where, _ATTACH_HINTS):
            return cls(Fd(syscall.bpf(syscall.BPF_LINK_CREATE, attr), f"link of {where}"))

    @property
    def info(self) -> LinkInfo:
        """What the kernel says now."""
        raw = _info.fetch(self.fd, KernelLinkInfo, self._fd.what)
        tcx = raw.type == LINK_TYPE_TCX
        return LinkInfo(
            id=raw.id,
            type=raw.type,
            prog_id=raw.prog_id,
            ifindex=raw.ifindex if tcx else 0,
            direction=_DIRECTION.get(raw.attach_type) if tcx else None,
        )

    def update(self, program: Program) -> None:
        """Replace the program in place: no packet passes without one. Raises KernelError."""
        with operation("replace program of", self._fd.what):
            libbpf().bpf_link_update(self.fd, program.fd, None)

    def detach(self) -> None:
        """Take the program off the device now, whoever else holds the link. Raises KernelError."""
        with operation("detach", self._fd.what):
            libbpf().bpf_link_detach(self.fd)


def query_tcx(ifindex: int, direction: Direction) -> list[AttachedProgram]:
    """The device's TCX chain in the order programs run, in this thread's network namespace.

    Raises KernelError; a kernel without TCX answers EINVAL.
    """
    programs = (ctypes.c_uint32 * _MAX_ATTACHED)()
    links = (ctypes.c_uint32 * _MAX_ATTACHED)()
    attr = syscall.QueryAttr(
        target_ifindex=ifindex,
        attach_type=_ATTACH_TYPE[direction],
        prog_ids=ctypes.addressof(programs),
        count=_MAX_ATTACHED,
        link_ids=ctypes.addressof(links),
    )
    try:
        syscall.bpf(syscall.BPF_PROG_QUERY, attr)
    except CallError as error:
        if error.errno == errno.ENOENT:
            return []
        hint = _NO_DEVICE if error.errno == errno.ENODEV else ""
        raise kernel_error("query programs of", f"{direction} of interface {ifindex}", error.errno, hint) from error
    return [AttachedProgram(programs[i], links[i]) for i in range(attr.count)]


def has_tcx() -> bool:
    """Whether this kernel has TCX, asked of the loopback device, which every namespace has. Raises KernelError."""
    try:
        query_tcx(_LOOPBACK, Direction.INGRESS)
    except KernelError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True
