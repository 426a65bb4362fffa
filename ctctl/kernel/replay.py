"""Test runs of frames that lie in one buffer: no copy and no result packet, for replay at full speed."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ctctl._ffi import libbpf
from ctctl._ffi.structs import TestRunOpts
from ctctl.kernel.failures import kernel_error

if TYPE_CHECKING:
    from ctctl.kernel.program import Program


class FrameBuffer:
    """Bytes at a fixed address: a file mapped privately, or bytes copied once. A context manager."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._map = data if isinstance(data, mmap.mmap) else None
        self._owner = (
            (ctypes.c_char * len(data)).from_buffer(data)
            if isinstance(data, mmap.mmap)
            else ctypes.create_string_buffer(data, len(data))
        )
        self.address = ctypes.addressof(self._owner)
        self.view = memoryview(self._owner).cast("B")

    @classmethod
    def of_file(cls, path: Path) -> FrameBuffer:
        """The file's bytes. Raises OSError."""
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                return cls(b"")
            # A private writable mapping: ctypes gives no address of a read-only one.
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def close(self) -> None:
        """Unmap, or leave that to the last view of the bytes (an error's traceback may hold one)."""
        with contextlib.suppress(BufferError):
            self.view.release()
            del self._owner
            if self._map is not None:
                self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def frame_runner(program: Program, buffer: FrameBuffer) -> Callable[[int, int], None]:
    """A function of (offset, size) that runs ``program`` on a frame of ``buffer``.

    What the program returns and the packet that comes out are not looked at: the tables and the
    datapath's counters say what happened. The function raises KernelError.
    """
    opts = TestRunOpts(repeat=1)
    reference, call, fd, base = ctypes.byref(opts), libbpf().bpf_prog_test_run_opts, program.fd, buffer.address

    def run(offset: int, size: int) -> None:
        opts.data_in = base + offset
        opts.data_size_in = size
        # The kernel writes here how long the packet has become; left there it would ask for the packet.
        opts.data_size_out = 0
        if (result := call(fd, reference)) < 0:
            raise kernel_error("run program", program.name, -result)

    return run
