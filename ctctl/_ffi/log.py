"""libbpf's own log, process-wide as libbpf has it: kept for error messages, shown only for debugging."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ctctl._ffi.signatures import PrintFn

_LEVEL_DEBUG = 2


class Log:
    """Formats and hands on what libbpf prints. Debug lines only while somebody wants them."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._vasprintf = libc.vasprintf
        self._vasprintf.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p, ctypes.c_void_p)
        self._free = libc.free
        self._free.argtypes = (ctypes.c_void_p,)
        self._free.restype = None
        self._debug: Callable[[str], None] | None = None
        self._capture = threading.local()
        self.callback = PrintFn(self._print)

    def set_debug(self, sink: Callable[[str], None] | None) -> None:
        """Send every line to ``sink`` (None: to nobody)."""
        self._debug = sink

    @contextmanager
    def capturing(self) -> Iterator[list[str]]:
        """Collect this thread's warnings and notes in the list given."""
        outer: list[str] | None = getattr(self._capture, "lines", None)
        lines: list[str] = []
        self._capture.lines = lines
        try:
            yield lines
        finally:
            self._capture.lines = outer

    def _print(self, level: int, fmt: bytes, args: int) -> int:
        lines: list[str] | None = getattr(self._capture, "lines", None)
        if self._debug is None and (lines is None or level >= _LEVEL_DEBUG):
            return 0
        pointer = ctypes.c_void_p()
        size = self._vasprintf(ctypes.byref(pointer), fmt, args)
        if size < 0:
            return 0
        try:
            text = ctypes.string_at(pointer.value or 0, size).decode(errors="replace")
        finally:
            self._free(pointer)
        if lines is not None and level < _LEVEL_DEBUG:
            lines.append(text)
        if self._debug is not None:
            self._debug(text.rstrip("\n"))
        return 0


#: The one log: libbpf keeps a pointer to its callback, which therefore must never be freed.
LOG = Log()
