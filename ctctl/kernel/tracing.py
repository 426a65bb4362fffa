"""Tracing programs: attached to kernel tracepoints, or to the entry and exit of other BPF programs."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Self

from ctctl._ffi import Fd, libbpf
from ctctl._ffi.structs import KernelProgInfo
from ctctl.btf.reader import load_kernel_btf
from ctctl.errors import NotFoundError
from ctctl.kernel import info
from ctctl.kernel.failures import operation
from ctctl.kernel.program import Program


class TracingLink:
    """A tracing program (fentry, fexit, tp_btf) attached to what it was loaded for, until closed."""

    def __init__(self, fd: Fd) -> None:
        self._fd = fd

    @classmethod
    def attach(cls, program: Program) -> TracingLink:
        """Attach. Raises KernelError: EPERM or ENOTSUPP where the kernel has no trampolines."""
        with operation("attach tracing program", program.name):
            return cls(Fd(libbpf().bpf_raw_tracepoint_open(None, program.fd), f"tracing link of {program.name}"))

    def close(self) -> None:
        """Detach."""
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def entry_function(program: Program) -> str:
    """The whole name of the function that a loaded program begins with, from its BTF (``func_info``).

    The kernel's own name for it is cut to 15 characters. Raises NotFoundError for a program without BTF,
    KernelError.
    """
    head = info.fetch(program.fd, KernelProgInfo, "program")
    if not head.btf_id or not head.nr_func_info:
        raise NotFoundError(f"program {head.id} ({head.name.decode(errors='replace')}) carries no BTF")
    records = (ctypes.c_uint32 * (head.func_info_rec_size // 4 * head.nr_func_info))()
    raw = KernelProgInfo(
        nr_func_info=head.nr_func_info,
        func_info_rec_size=head.func_info_rec_size,
        func_info=ctypes.addressof(records),
    )
    with operation("query", "program"):
        size = ctypes.c_uint32(ctypes.sizeof(raw))
        libbpf().bpf_obj_get_info_by_fd(program.fd, ctypes.byref(raw), ctypes.byref(size))
    # struct bpf_func_info { insn_off, type_id }: ascending, the entry function first.
    return load_kernel_btf(head.btf_id)[records[1]].name
