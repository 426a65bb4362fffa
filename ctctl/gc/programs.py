"""The in-kernel GC programs (bpf/gc.bpf.c), loaded on one table."""

from __future__ import annotations

from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ctctl.abi import layouts, pins
from ctctl.errors import KernelError
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.tables.sources.base import CtTable
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OBJECT = OBJECTS / "gc.bpf.o"


class Kind(StrEnum):
    """Which of the programs."""

    WALK = "walk"
    CHECK = "check"


class GcProgram:
    """One program on one table, with the memory it shares with user space; a context manager.

    On a table that is open for reading only it counts. ``log``: it deletes nothing and records what is
    expired. ``control`` is one ``ctctl_gc_ctl``; ``slots`` are ``ctctl_gc_slot4/6``; ``log`` ``ctctl_gc_log4/6``,
    the last two with as many elements as asked for. All are views of the live maps.
    """

    def __init__(
        self, where: Target | CtTable, kind: Kind, *, slots: int = 1, log: int = 0, recheck: bool = True
    ) -> None:
        family = (where.table if isinstance(where, Target) else where).family
        self._object = BpfObject.open(OBJECT)
        try:
            self._configure(where, f"gc_{kind}{family}", family, slots, log)
            self._object.set_config("cfg_gc_dry_run", int(not isinstance(where, Target)))
            self._object.set_config("cfg_gc_recheck", int(recheck))
            self._object.load()
            self._program = self._object.program(f"gc_{kind}{family}")
            self.control = self._shared(pins.GC_CTL, layouts.ctctl_gc_ctl)[0:1]
            self.slots = self._shared(f"ctctl_gc_slots{family}", getattr(layouts, f"ctctl_gc_slot{family}"))
            self.log = self._shared(f"ctctl_gc_log{family}", getattr(layouts, f"ctctl_gc_log{family}"))
        except BaseException:
            self.close()
            raise

    def _configure(self, where: Target | CtTable, program: str, family: int, slots: int, log: int) -> None:
        for name in self._object.program_names():
            if name != program:
                self._object.disable_program(name)
        table, nat = (where.map, where.nat) if isinstance(where, Target) else (where.live, None)
        assert table is not None
        self._object.reuse_map(f"ctctl_gc_ct{family}", table)
        if nat is not None:
            self._object.reuse_map(f"ctctl_gc_nat{family}", nat)
        self._object.set_config("cfg_gc_nat", int(nat is not None))
        self._object.set_max_entries(f"ctctl_gc_slots{family}", slots)
        self._object.set_max_entries(f"ctctl_gc_log{family}", max(log, 1))
        self._object.set_config("cfg_gc_log", int(log > 0))

    def _shared(self, name: str, layout: Any) -> NDArray[np.void]:
        import numpy as np

        return np.frombuffer(self._object.map(name).mmap(), np.dtype(layout))

    def run(self) -> None:
        """One run of the program. Raises KernelError."""
        result, _ = self._program.run_syscall()
        if result:
            raise KernelError("run", "in-kernel GC", 0x16, f"it returned {result}")

    def close(self) -> None:
        self._object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
