"""Turn a failed foreign call into the project's error: operation, object name, errno, what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ctctl._ffi import CallError
from ctctl.errors import KernelError
from ctctl.kernel.capabilities import effective_capabilities

#: CAP_NET_ADMIN and CAP_SYS_ADMIN: who has both lacks nothing that a program of ours needs.
_ALL_THAT_COUNTS = 1 << 12 | 1 << 21


def permission_hint() -> str:
    """Why EPERM: the user's rights, or the kernel's own configuration."""
    if effective_capabilities() & _ALL_THAT_COUNTS == _ALL_THAT_COUNTS:
        return "this kernel forbids it"
    return "needs root, or CAP_BPF with CAP_NET_ADMIN"


def kernel_error(what: str, name: str, err: int, hint: str = "") -> KernelError:
    """KernelError for ``err`` (positive), with the usual hint where a privilege is missing."""
    if not hint and err == errno.EPERM:
        hint = permission_hint()
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
