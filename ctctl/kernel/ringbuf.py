"""Read a BPF ring buffer: a callback a record, in order."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ctctl._ffi import libbpf
from ctctl._ffi.signatures import RingBufferSampleFn
from ctctl.errors import ClosedError
from ctctl.kernel.failures import kernel_error, operation
from ctctl.kernel.map import Map


class RingBuffer:
    """A consumer of one ring buffer map. There can be only one at a time for a map.

    ``callback`` gets each record as a memoryview that is valid during the call only. An exception it
    raises ends the poll and is raised from there; the record counts as consumed.
    """

    def __init__(self, ring: Map, callback: Callable[[memoryview], None]) -> None:
        self._callback = callback
        self._failure: BaseException | None = None
        self._name = ring.name
        self._map = ring.dup()
        self._sample_fn = RingBufferSampleFn(self._sample)
        self._handle: Any = None
        try:
            with operation("open ring buffer", self._name):
                self._handle = libbpf().ring_buffer__new(self._map.fd, self._sample_fn, None, None)
        except BaseException:
            self._map.close()
            raise

    @property
    def closed(self) -> bool:
        return self._handle is None

    @property
    def fileno(self) -> int:
        """A descriptor that polls readable when records wait (borrowed)."""
        with operation("wait for ring buffer", self._name):
            number: int = libbpf().ring_buffer__epoll_fd(self._live())
        return number

    def poll(self, timeout_ms: int) -> int:
        """Wait up to ``timeout_ms`` (-1: for ever) and consume what there is; returns the records' number.

        A signal ends the wait with 0 or what was consumed. Raises what the callback raised, KernelError.
        """
        return self._finish("poll", libbpf().ring_buffer__poll(self._live(), timeout_ms))

    def consume(self) -> int:
        """Consume what there is without waiting; returns the records' number."""
        return self._finish("consume", libbpf().ring_buffer__consume(self._live()))

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            libbpf().ring_buffer__free(handle)
            self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def _live(self) -> Any:
        if self._handle is None:
            raise ClosedError(f"ring buffer {self._name} is used after it was closed")
        return self._handle

    def _sample(self, _context: int | None, data: int, size: int) -> int:
        try:
            record = (ctypes.c_char * size).from_address(data)
            self._callback(memoryview(record).cast("B"))
        except BaseException as error:  # nothing may cross the C frames between here and poll
            self._failure = error
            return -errno.ECANCELED
        return 0

    def _finish(self, what: str, result: int) -> int:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if result == -errno.EINTR:
            return 0
        if result < 0:
            raise kernel_error(f"{what} ring buffer", self._name, -result)
        return result
