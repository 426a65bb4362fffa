"""libbpf, loaded on first use, with every function typed from the signature table.

libbpf's own log goes nowhere by itself: ``capture_log`` collects it for error messages, and
``set_debug`` sends it on.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctctl._ffi.errors import CallError
from ctctl._ffi.log import LOG
from ctctl._ffi.signatures import SIGNATURES, Check, Signature
from ctctl.errors import UnsupportedError

_LIBRARY = "libbpf.so.1"

#: Where a wheel carries libbpf and what it needs; a checkout carries none.
_CARRIED = Path(__file__).parent.parent / "native"
#: What libbpf needs, in the order in which the loader must meet them.
_NEEDED = ("libz.so.1", "libelf.so.1")

_TABLE: dict[str, Signature] = {signature.name: signature for signature in SIGNATURES}


class Libbpf:
    """The library. Its functions are attributes, bound when first used.

    A failing call raises CallError as its row of the table says. A function that the installed
    library lacks raises UnsupportedError when it is called, not before.
    """

    def __init__(self, path: str | None = None) -> None:
        try:
            self.path = path or _installed()
            self._dll = ctypes.CDLL(self.path, use_errno=True)
        except OSError as error:
            raise UnsupportedError(
                f"cannot load libbpf: {error}; install libbpf 1.1 or newer (Debian: apt install libbpf1)"
            ) from error
        self._bind(_TABLE["libbpf_set_print"])(LOG.callback)

    def __getattr__(self, name: str) -> Any:
        signature = _TABLE.get(name)
        if signature is None:
            raise AttributeError(f"{name} is not in the libbpf signature table")
        function = self._bind(signature)
        setattr(self, name, function)
        return function

    @functools.cached_property
    def version(self) -> tuple[int, int]:
        """(major, minor) of the installed library."""
        return int(self.libbpf_major_version()), int(self.libbpf_minor_version())

    def strerror(self, err: int) -> str:
        """The text of an errno or of one of libbpf's own codes (4000 and up)."""
        buffer = ctypes.create_string_buffer(256)
        self.libbpf_strerror(err, buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def _bind(self, signature: Signature) -> Any:
        try:
            function = getattr(self._dll, signature.name)
        except AttributeError:
            return self._missing(signature)
        function.restype = signature.restype
        function.argtypes = signature.argtypes
        if signature.check is Check.NEGATIVE:
            function.errcheck = _raise_if_negative(signature.name)
        elif signature.check is Check.NULL:
            function.errcheck = _raise_if_null(signature.name)
        return function

    def _missing(self, signature: Signature) -> Callable[..., Any]:
        def stub(*_args: object) -> Any:
            major, minor = self.version
            raise UnsupportedError(f"{signature.name} needs libbpf >= {signature.since}; installed is {major}.{minor}")

        return stub


def _installed() -> str:
    """The libbpf of this installation: the one that the wheel carries, else the machine's.

    The carried libraries have no search path of their own. What libbpf needs is loaded first, by path: the
    dynamic loader takes a needed library that is in the process already, by its name.
    """
    carried = _CARRIED / _LIBRARY
    if not carried.exists():
        return _LIBRARY
    for name in _NEEDED:
        ctypes.CDLL(str(_CARRIED / name), mode=ctypes.RTLD_GLOBAL)
    return str(carried)


def _raise_if_negative(name: str) -> Callable[..., int]:
    def check(result: int, _function: object, _arguments: object) -> int:
        if result < 0:
            raise CallError(name, -result)
        return result

    return check


def _raise_if_null(name: str) -> Callable[..., Any]:
    def check(result: Any, _function: object, _arguments: object) -> Any:
        if not result:
            raise CallError(name, ctypes.get_errno())
        return result

    return check


@functools.cache
def libbpf() -> Libbpf:
    """The process's libbpf. Raises UnsupportedError if there is none."""
    return Libbpf()


@contextmanager
def capture_log() -> Iterator[list[str]]:
    """Collect what libbpf logs in this thread while the block runs."""
    with LOG.capturing() as lines:
        yield lines


def set_debug(sink: Callable[[str], None] | None) -> None:
    """Send every line libbpf logs to ``sink``, for --debug (None: to nobody)."""
    LOG.set_debug(sink)
