"""Our own compiled programs, loaded to see whether this kernel takes them, and dropped again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ctctl.kernel.map import MapType
from ctctl.kernel.object import OBJECTS, BpfObject

#: What a map of a trial holds: the verifier does not look at sizes.
_ENTRIES = 64
#: of a ring buffer: one page
_RING_BYTES = 4096


@contextmanager
def opened(
    name: str, programs: frozenset[str] | None = None, config: Mapping[str, int] | None = None
) -> Iterator[BpfObject]:
    """An object with small maps, not loaded yet, only ``programs`` of it (None: all) to be loaded.

    Raises NotFoundError.
    """
    with BpfObject.open(OBJECTS / f"{name}.bpf.o") as bpf:
        for program in bpf.program_names():
            if programs is not None and program not in programs:
                bpf.disable_program(program)
        for table in bpf.map_names():
            kind, _, _, entries = bpf.map_shape(table)
            if kind == MapType.RINGBUF:
                bpf.set_max_entries(table, _RING_BYTES)
            elif entries > _ENTRIES and kind != MapType.PERCPU_ARRAY:
                bpf.set_max_entries(table, _ENTRIES)
        for setting, value in (config or {}).items():
            bpf.set_config(setting, value)
        yield bpf


def verified_insns(name: str, program: str, config: Mapping[str, int] | None = None) -> int:
    """Load one program alone: how many instructions the verifier went through (1 million is its limit).

    Raises VerifierError, KernelError where this kernel does not take it.
    """
    with opened(name, frozenset({program}), config) as bpf:
        bpf.load()
        with bpf.program(program) as loaded:
            return loaded.info.verified_insns


@contextmanager
def returns_probe() -> Iterator[BpfObject]:
    """``proberet``, loaded with ``probe_return`` on a program of ours, not attached.

    Raises KernelError where this kernel lets no BPF program be traced.
    """
    with (
        opened("probe", frozenset({"probe_ingress"})) as traced,
        opened("proberet", frozenset({"probe_return"})) as bpf,
    ):
        traced.load()
        bpf.set_attach_target("probe_return", traced.program("probe_ingress"), "probe_ingress")
        bpf.load()
        yield bpf
