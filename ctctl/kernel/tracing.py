"""Tracing programs: attached to kernel tracepoints, or to the entry and exit of other BPF programs."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ctctl._ffi import Fd, libbpf
from ctctl.btf import Kind
from ctctl.btf.reader import load_kernel_btf
from ctctl.errors import NotFoundError
from ctctl.kernel.failures import operation
from ctctl.kernel.program import Program

#: The kernel keeps this many characters of a program's name (BPF_OBJ_NAME_LEN less the NUL).
_NAME_LENGTH = 15


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
    """The whole name of the function that a loaded program begins with, from its BTF.

    The kernel's own name for it is cut to 15 characters. Raises NotFoundError for a program without BTF,
    KernelError.
    """
    info = program.info
    if not info.btf_id:
        raise NotFoundError(f"program {info.id} ({info.name}) carries no BTF")
    names = [entry.name for entry in load_kernel_btf(info.btf_id) if entry.kind is Kind.FUNC]
    for name in names:
        if name[:_NAME_LENGTH] == info.name:
            return name
    raise NotFoundError(f"program {info.id} ({info.name}) has no function of that name in its BTF")
