"""BPF links: tc programs on a device by TCX (Linux 6.6), programs of sockets on a cgroup (Linux 5.7).

libbpf 1.1 knows no TCX, so attaching and querying are raw bpf(2) calls; the rest of a link's life
goes through libbpf.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

from ctctl._ffi import CallError, Fd, libbpf, syscall
from ctctl._ffi.structs import KernelLinkInfo
from ctctl.errors import KernelError, NotFoundError
from ctctl.kernel import info as _info
from ctctl.kernel.failures import kernel_error, operation
from ctctl.kernel.handle import Handle
from ctctl.kernel.program import Program

_BPF_F_BEFORE = 1 << 3
_BPF_F_ID = 1 << 5
MAX_ATTACHED = 64
_LOOPBACK = 1
#: BPF_LINK_TYPE_CGROUP, BPF_LINK_TYPE_XDP, BPF_LINK_TYPE_TCX (enum bpf_link_type).
LINK_TYPE_CGROUP: Final = 3
LINK_TYPE_XDP: Final = 6
LINK_TYPE_TCX: Final = 11
#: enum bpf_attach_type of the hooks of sockets, by the names of their ELF sections.
SOCKET_ATTACH_TYPES: Final = {
    "connect4": 10,
    "connect6": 11,
    "post_bind4": 12,
    "post_bind6": 13,
    "sendmsg4": 14,
    "sendmsg6": 15,
    "recvmsg4": 19,
    "recvmsg6": 20,
    "getpeername4": 29,
    "getpeername6": 30,
}
_SOCKET_HOOK: Final = {number: name for name, number in SOCKET_ATTACH_TYPES.items()}


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
#: How XDP runs on a device, and the flag that asks for it (XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE).
XDP_MODES: Final = {"generic": 1 << 1, "native": 1 << 2}
#: BPF_XDP (enum bpf_attach_type).
_XDP_ATTACH_TYPE: Final = 37
_XDP_HINTS: Final = {
    errno.ENODEV: _NO_DEVICE,
    errno.EBUSY: "another XDP program is attached to the device",
    errno.EEXIST: "another XDP program is attached to the device, in another mode",
    errno.EOPNOTSUPP: "the device's driver has no native XDP: use lb.acceleration: generic",
    errno.ERANGE: "native XDP has no room for packets of this MTU: use lb.acceleration: generic",
    errno.ENOSPC: "native XDP needs as many receive queues as the other end sends by: use lb.acceleration: generic",
}
_CGROUP_HINTS: Final = {
    errno.EBADF: "no directory of a cgroup2 file system",
    errno.EPERM: "a program without BPF_F_ALLOW_MULTI is attached to this cgroup or one above it",
    errno.E2BIG: "the cgroup has as many programs as it can have",
}


@dataclass(frozen=True, slots=True)
class AttachedProgram:
    """One program of a device's TCX chain. ``link_id`` is 0 for a program attached without a link."""

    prog_id: int
    link_id: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """``struct bpf_link_info``. ``ifindex``, ``cgroup_id``: 0 once what it was attached to is gone, or it is detached.

    ``direction`` is a TCX link's, ``socket_hook`` (a name of ``SOCKET_ATTACH_TYPES``) a cgroup's.
    """

    id: int
    type: int
    prog_id: int
    ifindex: int
    direction: Direction | None
    cgroup_id: int = 0
    socket_hook: str | None = None


class Link(Handle):
    """A program that is attached as long as a descriptor or pin of the link lives."""

    KIND = KERNEL_KIND = "link"

    @property
    def info(self) -> LinkInfo:
        """What the kernel says now."""
        raw = _info.fetch(self.fd, KernelLinkInfo, self._fd.what)
        tcx, cgroup = raw.type == LINK_TYPE_TCX, raw.type == LINK_TYPE_CGROUP
        device = raw.type in (LINK_TYPE_TCX, LINK_TYPE_XDP)
        return LinkInfo(
            id=raw.id,
            type=raw.type,
            prog_id=raw.prog_id,
            ifindex=raw.ifindex if device else 0,
            direction=_DIRECTION.get(raw.attach_type) if tcx else None,
            cgroup_id=raw.attach_type << 32 | raw.ifindex if cgroup else 0,
            socket_hook=_SOCKET_HOOK.get(raw.cgroup_attach_type) if cgroup else None,
        )

    def update(self, program: Program) -> None:
        """Replace the program in place: no packet, no call passes without one. Raises KernelError."""
        with operation("replace program of", self._fd.what):
            libbpf().bpf_link_update(self.fd, program.fd, None)

    def detach(self) -> None:
        """Take the program off now, whoever else holds the link. Raises KernelError."""
        with operation("detach", self._fd.what):
            libbpf().bpf_link_detach(self.fd)


class CgroupLink(Link):
    """A program of a hook of the sockets of a cgroup's processes, and of those of the cgroups below it."""

    @classmethod
    def attach(cls, program: Program, cgroup: Path, hook: str) -> CgroupLink:
        """Attach to the cgroup at that path, last of its programs. Raises KernelError, NotFoundError."""
        where = f"{program.name} to {hook} of cgroup {cgroup}"
        try:
            directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotFoundError(f"attach {where}: {error.strerror}") from error
        try:
            attr = syscall.LinkCreateAttr(
                prog_fd=program.fd, target_ifindex=directory, attach_type=SOCKET_ATTACH_TYPES[hook]
            )
            with operation("attach", where, _CGROUP_HINTS):
                return cls(Fd(syscall.bpf(syscall.BPF_LINK_CREATE, attr), f"link of {where}"))
        finally:
            os.close(directory)


class XdpLink(Link):
    """A program that is a device's XDP."""

    @classmethod
    def attach(cls, program: Program, ifindex: int, mode: str) -> XdpLink:
        """Attach to a device of this thread's network namespace, in one of ``XDP_MODES``. Raises KernelError."""
        attr = syscall.LinkCreateAttr(
            prog_fd=program.fd, target_ifindex=ifindex, attach_type=_XDP_ATTACH_TYPE, flags=XDP_MODES[mode]
        )
        where = f"{program.name} to {mode} XDP of interface {ifindex}"
        with operation("attach", where, _XDP_HINTS):
            return cls(Fd(syscall.bpf(syscall.BPF_LINK_CREATE, attr), f"link of {where}"))


class TcxLink(Link):
    """A program attached to a device."""

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


def query_tcx(ifindex: int, direction: Direction) -> list[AttachedProgram]:
    """The device's TCX chain in the order programs run, in this thread's network namespace.

    Raises KernelError; a kernel without TCX answers EINVAL.
    """
    programs = (ctypes.c_uint32 * MAX_ATTACHED)()
    links = (ctypes.c_uint32 * MAX_ATTACHED)()
    attr = syscall.QueryAttr(
        target_ifindex=ifindex,
        attach_type=_ATTACH_TYPE[direction],
        prog_ids=ctypes.addressof(programs),
        count=MAX_ATTACHED,
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
