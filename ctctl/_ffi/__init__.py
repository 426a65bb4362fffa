"""libbpf through ctypes, and the raw bpf(2) calls that the installed libbpf lacks.

Nothing here knows what a call is for: callers in ``ctctl.kernel`` add operation and object name
to the errors. The library is loaded on first use.
"""

from __future__ import annotations

from ctctl._ffi.errors import CallError
from ctctl._ffi.fd import Fd
from ctctl._ffi.library import Libbpf, capture_log, libbpf, set_debug

__all__ = ["CallError", "Fd", "Libbpf", "capture_log", "libbpf", "set_debug"]
