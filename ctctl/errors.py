"""The exceptions ctctl raises on purpose: one tree, each with the exit code it ends in.

A message is one line for an operator: what failed, why, and what to do. The command line
prints it as it stands; a traceback appears only with ``--debug``. Exit codes are those of
``docs/reference/cli.md``: 1 runtime error, 2 usage, 3 findings, 4 no permission or the kernel lacks it,
5 partial data.
"""

from __future__ import annotations

import errno as _errno
import os
import sys
from pathlib import Path


class CtctlError(Exception):
    """Base of every error raised on purpose. ``exit_code`` is the process's exit status."""

    exit_code = 1


class UsageError(CtctlError):
    """What the user typed cannot be right: a filter, an option, a packet text."""

    exit_code = 2


class ConfigError(CtctlError):
    """A node file (or Kubernetes object) is wrong.

    ``path`` and ``line`` (1-based, None where unknown) say where; both are part of the message.
    """

    exit_code = 2

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        where = ":".join(str(part) for part in (path, line) if part is not None)
        super().__init__(f"{where}: {message}" if where else message)
        self.path = path
        self.line = line


class DecodeError(CtctlError):
    """Bytes, a dump or a snapshot that cannot be what they are said to be."""


class NothingReadError(DecodeError):
    """A dump of a known form, of which nothing could be read."""

    exit_code = 5


class PartialDataError(CtctlError):
    """The data ended early or a part of it was unusable; what was good has been delivered."""

    exit_code = 5


class LayoutError(DecodeError):
    """A table whose BTF differs from the layout asked for. Names the first differing field."""


#: Exit code of what a signal ended, as shells have it for SIGINT.
EXIT_INTERRUPTED = 130

_SHORTAGES = frozenset((_errno.EMFILE, _errno.ENFILE, _errno.ENOMEM, _errno.ENOSPC, _errno.EAGAIN, _errno.EINTR))


class KernelError(CtctlError):
    """A system call or libbpf call failed.

    ``errno`` is the kernel's (positive), never mapped to another one. ``operation`` is what was
    tried ("open pinned map"), ``name`` the object it was tried on.
    """

    def __init__(self, operation: str, name: str, err: int, hint: str = "") -> None:
        code = _errno.errorcode.get(err, str(err))
        text = f"{operation} {name}: {os.strerror(err)} ({code})" if err < 4000 else f"{operation} {name}: error {err}"
        super().__init__(f"{text}; {hint}" if hint else text)
        self.operation = operation
        self.name = name
        self.errno = err
        # Not allowed, or a kernel that was built without it.
        if err in (_errno.EPERM, _errno.EACCES, _errno.ENOSYS):
            self.exit_code = 4

    @property
    def is_shortage(self) -> bool:
        """Whether there was no room at this moment, which says nothing of what the kernel can do."""
        return self.errno in _SHORTAGES


class PermissionDenied(CtctlError):  # noqa: N818 - what the user is told
    """The user lacks a privilege. The message says which one and how to get it."""

    exit_code = 4


class UnsupportedError(CtctlError):
    """The kernel or the installed libbpf lacks a feature. The message says which is needed."""

    exit_code = 4


class MissingLibraryError(UnsupportedError):
    """A library that is an extra of ctctl's is not there. ``what`` is who needs it: "reports need jinja2"."""

    def __init__(self, what: str, extra: str) -> None:
        # A file of pex's making has its own environment (PEX-INFO), the Debian package a folder: no pip reaches either.
        carried = Path(sys.prefix, "PEX-INFO").exists() or Path(__file__).is_relative_to("/usr/lib/ctctl")
        if carried:
            super().__init__(f"{what}, which this build does not carry: install the wheel by pip, as 'ctctl[{extra}]'")
        else:
            # Of this environment: another's pip, or Debian's, would refuse, or fetch what a stranger calls ctctl.
            super().__init__(f"{what}: {sys.executable} -m pip install 'ctctl[{extra}]'")


class VerifierError(KernelError):
    """The kernel refused a program. ``log`` is the whole verifier log, the message its few lines that matter."""

    def __init__(self, name: str, err: int, summary: str, log: str) -> None:
        super().__init__("load program", name, err, summary)
        self.log = log


class NotFoundError(CtctlError):
    """A node, map, entry or file that was asked for by name is not there."""


class BusyError(CtctlError):
    """Another ctctl is changing the same node."""


class ClosedError(CtctlError):
    """A handle was used after it was closed: a bug in the caller."""


def first_line(error: Exception) -> str:
    """What a library's error says, in one line: its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
