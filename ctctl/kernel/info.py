"""What the kernel says about a BPF object behind a descriptor."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TypeVar

from ctctl._ffi import libbpf
from ctctl.kernel.failures import operation

_Info = TypeVar("_Info", bound=ctypes.Structure)


def fetch(fd: int, info_type: type[_Info], name: str) -> _Info:
    """BPF_OBJ_GET_INFO_BY_FD into a fresh ``info_type``. Raises KernelError."""
    info = info_type()
    with operation("query", name):
        libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(ctypes.c_uint32(ctypes.sizeof(info))))
    return info


def kind_of(fd: int) -> str:
    """What a BPF descriptor is: "map", "prog", "link", or the name the kernel gives it."""
    target = str(Path(f"/proc/self/fd/{fd}").readlink())
    return target.removeprefix("anon_inode:").strip("[]").removeprefix("bpf-").removeprefix("bpf_")
