"""Turn a failed foreign call into the project's error: operation, object name, errno, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ctctl._ffi import CallError
from ctctl.errors import KernelError
from ctctl.kernel.capabilities import Capability, missing_capabilities

#: What loading and attaching programs takes.
PROGRAMS = (Capability.CAP_BPF, Capability.CAP_PERFMON, Capability.CAP_NET_ADMIN)
#: What opening an object by its id, entering or making a namespace, and mounting take.
SYS_ADMIN = (Capability.CAP_SYS_ADMIN,)


def permission_hint(needed: Sequence[Capability] = PROGRAMS) -> str:
    """Why EPERM: which of the capabilities that it takes this thread lacks; with all of them, it is the kernel."""
    missing = missing_capabilities(*needed)
    return f"needs root, or {', '.join(missing)}" if missing else "this kernel forbids it"


def kernel_error(
    what: str, name: str, err: int, hint: str = "", needed: Sequence[Capability] = PROGRAMS
) -> KernelError:
    """KernelError for ``err`` (positive). Without a ``hint``: for EPERM what is missing of the ``needed`` rights, for
    ENOSYS what the kernel was built without.
    """
    if not hint and err == errno.EPERM:
        hint = permission_hint(needed)
    if not hint and err == errno.ENOSYS:
        hint = "this kernel was built without it (bpf(2): CONFIG_BPF_SYSCALL)"
    return KernelError(what, name, err, hint)


@contextmanager
def operation(what: str, name: str, hints: Mapping[int, str] | None = None) -> Iterator[None]:
    """Raise KernelError(``what``, ``name``) for a CallError or OSError of the block."""
    try:
        yield
    except CallError as error:
        raise kernel_error(what, name, error.errno, (hints or {}).get(error.errno, "")) from error
    except OSError as error:
        err = error.errno or errno.EIO
        raise kernel_error(what, name, err, (hints or {}).get(err, "")) from error
