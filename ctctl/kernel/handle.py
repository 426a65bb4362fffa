"""What maps, programs and links have in common: a descriptor with an owner, pins, ids."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from ctctl._ffi import CallError, Fd, libbpf
from ctctl._ffi.structs import ObjGetOpts
from ctctl.errors import KernelError, NotFoundError
from ctctl.kernel import info as _info
from ctctl.kernel.failures import SYS_ADMIN, kernel_error, operation


class Handle:
    """A kernel object behind a descriptor: a context manager that closes what it owns."""

    #: what messages call it
    KIND: ClassVar[str]
    #: what the kernel calls it, as ``info.kind_of`` and libbpf's ``bpf_*_get_fd_by_id`` do
    KERNEL_KIND: ClassVar[str]

    def __init__(self, fd: Fd, name: str = "") -> None:
        self._fd = fd
        self._name = name

    @classmethod
    def open_pinned(cls, path: str | Path) -> Self:
        """What is pinned at ``path``. Raises NotFoundError, KernelError (something of another kind, too)."""
        return cls._open_pinned(path)

    @classmethod
    def _open_pinned(cls, path: str | Path, flags: int = 0, hints: Mapping[int, str] | None = None) -> Self:
        what = f"open pinned {cls.KIND}"
        try:
            number = libbpf().bpf_obj_get_opts(os.fsencode(path), ctypes.byref(ObjGetOpts(file_flags=flags)))
        except CallError as error:
            if error.errno == errno.ENOENT:
                raise NotFoundError(f"no {cls.KIND} is pinned at {path}") from error
            raise kernel_error(what, str(path), error.errno, (hints or {}).get(error.errno, "")) from error
        fd = Fd(number, f"{cls.KIND} {path}")
        if (kind := _info.kind_of(number)) != cls.KERNEL_KIND:
            fd.close()
            raise KernelError(what, str(path), errno.EINVAL, f"a {kind} is pinned there")
        return cls(fd, Path(path).name)

    @classmethod
    def from_id(cls, number: int) -> Self:
        """The object with this id. Raises NotFoundError, KernelError."""
        try:
            fd = getattr(libbpf(), f"bpf_{cls.KERNEL_KIND}_get_fd_by_id")(number)
        except CallError as error:
            if error.errno == errno.ENOENT:
                raise NotFoundError(f"no {cls.KIND} has id {number}") from error
            raise kernel_error(f"open {cls.KIND}", f"id {number}", error.errno, needed=SYS_ADMIN) from error
        return cls(Fd(fd, f"{cls.KIND} id {number}"))

    @property
    def fd(self) -> int:
        """The descriptor. Raises ClosedError once closed."""
        return self._fd.number

    @property
    def closed(self) -> bool:
        return self._fd.closed

    def pin(self, path: str | Path) -> None:
        """Pin it at ``path`` in a bpffs: it then outlives this process. Raises KernelError (EEXIST if taken)."""
        with operation(f"pin {self.KIND} at", str(path), {errno.EPERM: "is the directory in a BPF file system?"}):
            libbpf().bpf_obj_pin(self.fd, os.fsencode(path))

    def dup(self) -> Self:
        """An owned handle on the same object."""
        return type(self)(self._fd.dup(), self._name)

    def close(self) -> None:
        """Close an owned descriptor; a borrowed one is only forgotten."""
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name or self._fd.what}{' closed' if self.closed else ''}>"
