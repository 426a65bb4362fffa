"""The in-kernel GC programs (bpf/gc.bpf.c), loaded on one table."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ctctl.abi import layouts, pins
from ctctl.errors import KernelError
from ctctl.gc.tables import Table
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.tables.pairs import IPV4

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OBJECT = OBJECTS / "gc.bpf.o"


class Kind(StrEnum):
    """Which of the programs."""

    WALK = "walk"
    CHECK = "check"


class Status(IntEnum):
    """What became of a candidate (``enum ctctl_gc_status``)."""

    UNTOUCHED = 0
    DELETED = 1
    REFRESHED = 2
    GONE = 3


class GcProgram:
    """One program on one table, with the memory it shares with user space; a context manager.

    ``control`` is one ``ctctl_gc_ctl``; ``slots`` are ``ctctl_gc_slot4/6``; ``log`` ``ctctl_gc_log4/6``,
    the last two with as many elements as asked for. All are views of the live maps.
    """

    def __init__(
        self, table: Table, kind: Kind, *, slots: int = 1, log: int = 0, dry_run: bool = False, recheck: bool = True
    ) -> None:
        family = 4 if table.layout is IPV4 else 6
        self._object = BpfObject.open(OBJECT)
        try:
            self._configure(table, f"gc_{kind}{family}", family, slots, log)
            self._object.set_config("cfg_gc_dry_run", int(dry_run))
            self._object.set_config("cfg_gc_recheck", int(recheck))
            self._object.load()
            self._program = self._object.program(f"gc_{kind}{family}")
            self.control = self._shared(pins.GC_CTL, layouts.ctctl_gc_ctl)[0:1]
            self.slots = self._shared(f"ctctl_gc_slots{family}", getattr(layouts, f"ctctl_gc_slot{family}"))
            self.log = self._shared(f"ctctl_gc_log{family}", getattr(layouts, f"ctctl_gc_log{family}"))
        except BaseException:
            self.close()
            raise

    def _configure(self, table: Table, program: str, family: int, slots: int, log: int) -> None:
        for name in self._object.program_names():
            if name != program:
                self._object.disable_program(name)
        self._object.reuse_map(f"ctctl_gc_ct{family}", table.map)
        if table.nat is not None:
            self._object.reuse_map(f"ctctl_gc_nat{family}", table.nat)
        self._object.set_config("cfg_gc_nat", int(table.nat is not None))
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
