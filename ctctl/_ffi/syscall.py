"""Raw bpf(2) for what libbpf 1.1 lacks (TCX, flags with an id), and the other calls Python 3.11 has no wrapper for.

Layouts are those of ``union bpf_attr`` in linux/bpf.h (Linux 6.6 and later for TCX).
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import c_uint32, c_uint64
from typing import Any, ClassVar

from ctctl._ffi.errors import CallError
from ctctl.errors import UnsupportedError

BPF_MAP_GET_FD_BY_ID = 14
BPF_PROG_QUERY = 16
BPF_LINK_CREATE = 28

#: System call number of bpf(2) by machine.
_NR_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}


class LinkCreateAttr(ctypes.Structure):
    """``bpf_attr.link_create`` with its ``tcx`` member."""

    _fields_: ClassVar = [
        ("prog_fd", c_uint32),
        ("target_ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("relative_id", c_uint32),
        ("_pad", c_uint32),
        ("expected_revision", c_uint64),
        ("_rest", c_uint64 * 4),
    ]


class GetByIdAttr(ctypes.Structure):
    """``bpf_attr`` of the commands that open an object by its id."""

    _fields_: ClassVar = [("id", c_uint32), ("next_id", c_uint32), ("open_flags", c_uint32)]


class QueryAttr(ctypes.Structure):
    """``bpf_attr.query``."""

    _fields_: ClassVar = [
        ("target_ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_uint64),
        ("count", c_uint32),
        ("_pad", c_uint32),
        ("prog_attach_flags", c_uint64),
        ("link_ids", c_uint64),
        ("link_attach_flags", c_uint64),
        ("revision", c_uint64),
    ]


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
    libc.unshare.argtypes = (ctypes.c_int,)
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    return libc


def bpf_number() -> int:
    """The system call number of bpf(2) here. Raises UnsupportedError."""
    machine = os.uname().machine
    if machine not in _NR_BPF:
        raise UnsupportedError(f"bpf(2): system call number of {machine} is not known")
    return _NR_BPF[machine]


def bpf(command: int, attr: ctypes.Structure) -> int:
    """One bpf(2) call. Returns its result, raises CallError with its errno."""
    result: int = _libc().syscall(
        ctypes.c_long(bpf_number()), ctypes.c_long(command), ctypes.byref(attr), ctypes.c_ulong(ctypes.sizeof(attr))
    )
    if result < 0:
        raise CallError(f"bpf command {command}", ctypes.get_errno())
    return result


def setns(fd: int, nstype: int) -> None:
    """Move the calling thread into the namespace that ``fd`` names."""
    if _libc().setns(fd, nstype) != 0:
        raise CallError("setns", ctypes.get_errno())


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own."""
    if _libc().unshare(flags) != 0:
        raise CallError("unshare", ctypes.get_errno())


def mount(source: str, target: str, fstype: str, options: str) -> None:
    """mount(2) without flags."""
    if _libc().mount(os.fsencode(source), os.fsencode(target), os.fsencode(fstype), 0, os.fsencode(options)) != 0:
        raise CallError("mount", ctypes.get_errno())
