"""A compiled BPF object: open, configure, load; its programs and maps."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ctctl
from ctctl._ffi import CallError, Fd, capture_log, libbpf
from ctctl.btf import Btf, Kind
from ctctl.errors import ClosedError, KernelError, NotFoundError, VerifierError
from ctctl.kernel.capabilities import missing_capabilities
from ctctl.kernel.failures import PROGRAMS, kernel_error, operation, permission_hint
from ctctl.kernel.map import Map, MapType
from ctctl.kernel.program import Program
from ctctl.kernel.verifier import refusal

_CONFIG_SECTION = ".rodata"

#: Where the package carries its compiled objects.
OBJECTS = Path(ctctl.__file__).parent / "bpf"

#: Descriptors that libbpf opens for a moment to try what the kernel can.
_TRIED_AT_ONCE = 8


class BpfObject:
    """One object file. Everything set between ``open`` and ``load`` shapes what is loaded.

    Programs and maps it gives are borrowed: they stop working when the object is closed. What must
    outlive it is pinned, attached, or taken with ``dup``.
    """

    def __init__(self, handle: Any, path: Path) -> None:
        self._handle: Any = handle
        self._path = path
        self._loaded = False
        self._maps: dict[str, Any] = {}
        self._programs: dict[str, Any] = {}
        self._config: dict[str, tuple[int, int, bool]] = {}
        self._keep: list[Map] = []
        self._index()

    @classmethod
    def open(cls, path: str | Path) -> BpfObject:
        """Parse the object; nothing reaches the kernel yet. Raises NotFoundError, KernelError."""
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"no BPF object at {path}; make bpf builds the package's")
        with capture_log() as log:
            try:
                handle = libbpf().bpf_object__open_file(os.fsencode(path), None)
            except CallError as error:
                raise KernelError("open BPF object", path.name, error.errno, _first_line(log)) from error
        return cls(handle, path)

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def closed(self) -> bool:
        return self._handle is None

    @property
    def loaded(self) -> bool:
        return self._loaded

    # ---- what is in it

    def config_names(self) -> frozenset[str]:
        """Names of the ``volatile const`` variables that ``set_config`` takes."""
        return frozenset(self._config)

    def map_names(self) -> list[str]:
        """Names of the maps the source declares (without .rodata, .bss, …)."""
        self._live()
        library = libbpf()
        return [name for name, handle in self._maps.items() if not library.bpf_map__is_internal(handle)]

    def program_names(self) -> list[str]:
        self._live()
        return list(self._programs)

    def map_shape(self, map_name: str) -> tuple[MapType | int, int, int, int]:
        """(type, key size, value size, max entries) as ``load`` would create it."""
        library, handle = libbpf(), self._map(map_name)
        kind = library.bpf_map__type(handle)
        return (
            MapType(kind) if kind in MapType.__members__.values() else kind,
            library.bpf_map__key_size(handle),
            library.bpf_map__value_size(handle),
            library.bpf_map__max_entries(handle),
        )

    # ---- between open and load

    def set_config(self, name: str, value: int | bytes) -> None:
        """Set a ``volatile const``: an int in native byte order, or bytes of exactly its size.

        Raises NotFoundError for an unknown name, ValueError for a value that does not fit.
        """
        self._unloaded("set config")
        offset, size, signed = self._variable(name)
        if isinstance(value, int):
            try:
                data = value.to_bytes(size, "little", signed=signed or value < 0)
            except OverflowError:
                raise ValueError(f"{self.name}: {value} does not fit {name} ({size} bytes)") from None
            if value < 0 and not signed:
                raise ValueError(f"{self.name}: {name} is unsigned, not {value}")
        else:
            data = bytes(value)
            if len(data) != size:
                raise ValueError(f"{self.name}: {name} takes {size} bytes, not {len(data)}")
        room = ctypes.c_size_t()
        base = libbpf().bpf_map__initial_value(self._map(_CONFIG_SECTION), ctypes.byref(room))
        if not base or offset + size > room.value:
            raise KernelError("set config", name, errno.ERANGE, f"{self.name} has no such room in {_CONFIG_SECTION}")
        ctypes.memmove(base + offset, data, size)

    def set_max_entries(self, map_name: str, n: int) -> None:
        self._unloaded("resize map")
        with operation("set size of map", map_name):
            libbpf().bpf_map__set_max_entries(self._map(map_name), n)

    def set_inner_map(self, map_name: str, inner: Map) -> None:
        """Give a map of maps its template. libbpf only remembers the descriptor: a copy is kept until close."""
        self._unloaded("set inner map")
        template = inner.dup()
        self._keep.append(template)
        with operation("set inner map of", map_name):
            libbpf().bpf_map__set_inner_map_fd(self._map(map_name), template.fd)

    def reuse_map(self, map_name: str, m: Map) -> None:
        """Load with ``m`` in place of a new map. Raises KernelError if its shape differs (at load)."""
        self._unloaded("reuse map")
        with operation("reuse map", map_name):
            libbpf().bpf_map__reuse_fd(self._map(map_name), m.fd)

    def disable_program(self, name: str) -> None:
        """Do not load this program."""
        self._unloaded("disable program")
        with operation("disable program", name):
            libbpf().bpf_program__set_autoload(self._program(name), False)

    def set_attach_target(self, name: str, target: Program, function: str) -> None:
        """Let the tracing program ``name`` be about ``function`` of another BPF program. Raises KernelError."""
        self._unloaded("set attach target")
        with operation("trace", f"{function} of program {target.name}"):
            libbpf().bpf_program__set_attach_target(self._program(name), target.fd, os.fsencode(function))

    def load(self) -> None:
        """Create the maps and load the programs.

        Raises VerifierError with the lines that matter, else KernelError; nothing stays loaded then.
        """
        self._unloaded("load")
        with capture_log() as log:
            try:
                libbpf().bpf_object__load(self._handle)
            except CallError as error:
                # Where it cannot open one to try what the kernel can, libbpf takes it for a kernel that cannot.
                if not _are_left(len(self._maps) + len(self._programs) + _TRIED_AT_ONCE):
                    raise kernel_error("load BPF object", self.name, errno.EMFILE) from error
                raise self._load_error(error.errno, log) from error
        self._loaded = True

    # ---- after load

    def program(self, name: str) -> Program:
        """A loaded program, borrowed. Raises NotFoundError, KernelError if it was not loaded."""
        self._ready()
        with operation("get program", name):
            number = libbpf().bpf_program__fd(self._program(name))
        return Program(Fd(number, f"program {name} of {self.name}", owner=self), name)

    def map(self, name: str) -> Map:
        """A map, borrowed. Raises NotFoundError."""
        self._ready()
        with operation("get map", name):
            number = libbpf().bpf_map__fd(self._map(name))
        return Map(Fd(number, f"map {name} of {self.name}", owner=self), name)

    def close(self) -> None:
        """Drop the object; what is pinned or attached lives on."""
        handle, self._handle = self._handle, None
        if handle is not None:
            libbpf().bpf_object__close(handle)
            for template in self._keep:
                template.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            import warnings

            warnings.warn(f"BPF object {self.name} was not closed", ResourceWarning, stacklevel=2)
            self.close()

    # ---- inside

    def _index(self) -> None:
        library = libbpf()
        handle = library.bpf_object__next_map(self._handle, None)
        while handle:
            name = library.bpf_map__name(handle).decode()
            # libbpf names data sections "<object>.rodata": the object's file name is no part of a name here.
            if library.bpf_map__is_internal(handle):
                name = name[name.index(".") :] if "." in name else name
            self._maps[name] = handle
            handle = library.bpf_object__next_map(self._handle, handle)
        program = library.bpf_object__next_program(self._handle, None)
        while program:
            self._programs[library.bpf_program__name(program).decode()] = program
            program = library.bpf_object__next_program(self._handle, program)
        self._index_config()

    def _index_config(self) -> None:
        library = libbpf()
        handle = library.bpf_object__btf(self._handle)
        if not handle:
            return
        size = ctypes.c_uint32()
        with operation("read BTF of", self.name):
            data = library.btf__raw_data(handle, ctypes.byref(size))
        btf = Btf(ctypes.string_at(data, size.value))
        section = btf.find(_CONFIG_SECTION, Kind.DATASEC)
        for member in section.members if section else ():
            variable = btf[member.type_id]
            self._config[variable.name] = (member.bit_offset // 8, member.size, btf.resolve(variable.id).signed)

    def _live(self) -> Any:
        if self._handle is None:
            raise ClosedError(f"BPF object {self.name} is used after it was closed")
        return self._handle

    def _unloaded(self, what: str) -> None:
        self._live()
        if self._loaded:
            raise KernelError(what, self.name, errno.EBUSY, "the object is loaded already")

    def _ready(self) -> None:
        self._live()
        if not self._loaded:
            raise KernelError("use", self.name, errno.EINVAL, "the object is not loaded")

    def _variable(self, name: str) -> tuple[int, int, bool]:
        if name not in self._config:
            raise NotFoundError(f"{self.name}: no configuration variable {name!r}; it has {_listing(self._config)}")
        return self._config[name]

    def _map(self, name: str) -> Any:
        self._live()
        if name not in self._maps:
            raise NotFoundError(f"{self.name}: no map {name!r}; it has {_listing(self._maps)}")
        return self._maps[name]

    def _program(self, name: str) -> Any:
        self._live()
        if name not in self._programs:
            raise NotFoundError(f"{self.name}: no program {name!r}; it has {_listing(self._programs)}")
        return self._programs[name]

    def _load_error(self, err: int, log: list[str]) -> KernelError:
        # A verifier that checks more strictly for lack of CAP_PERFMON says something about registers, not about rights.
        if err in (errno.EPERM, errno.EACCES) and missing_capabilities(*PROGRAMS):
            return kernel_error("load BPF object", self.name, errno.EPERM)
        refused = refusal(log)
        if refused and refused.log and err != errno.EPERM:
            return VerifierError(f"{refused.program} of {self.name}", err, refused.summary, refused.log)
        hint = f"{_first_line(log)}; {permission_hint()}" if err == errno.EPERM else _first_line(log)
        return kernel_error("load BPF object", self.name, err, hint)


def _listing(names: dict[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"


#: What libbpf warns of and goes on from: no cause of a failure.
_HARMLESS = ("Failed to bump RLIMIT_MEMLOCK", "Retrying without BTF")


def _first_line(log: list[str]) -> str:
    """The first warning that is not harmless is the cause; the rest follows from it."""
    lines = (line.removeprefix("libbpf: ").strip() for line in log)
    return next((line for line in lines if line and not any(words in line for words in _HARMLESS)), "")


def _are_left(count: int) -> bool:
    """Whether so many descriptors can be opened."""
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True
