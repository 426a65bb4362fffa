"""The writer's programs (bpf/writer.bpf.c), loaded on one table and its SNAT table."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ctctl.abi import layouts
from ctctl.abi.layouts import CtctlWriterPhase
from ctctl.errors import KernelError
from ctctl.kernel.object import BpfObject
from ctctl.tables.writer.clock import OBJECT
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class WriterProgram:
    """The program of one family; a context manager. ``slots``: as many ``ctctl_writer_slot4/6``, shared with it.

    Raises KernelError where no syscall program can be loaded.
    """

    def __init__(self, target: Target, slots: int) -> None:
        family = target.table.family
        program = f"writer{family}"
        self._object = BpfObject.open(OBJECT)
        try:
            for name in self._object.program_names():
                if name != program:
                    self._object.disable_program(name)
            self._object.reuse_map(f"ctctl_writer_ct{family}", target.map)
            if target.nat is not None:
                self._object.reuse_map(f"ctctl_writer_nat{family}", target.nat)
            self._object.set_config("cfg_writer_nat", int(target.nat is not None))
            self._object.set_max_entries(f"ctctl_writer_slots{family}", slots)
            self._object.load()
            self._program = self._object.program(program)
            self._control = self._shared("ctctl_writer_ctl", layouts.ctctl_writer_ctl)
            self.slots = self._shared(f"ctctl_writer_slots{family}", getattr(layouts, f"ctctl_writer_slot{family}"))
        except BaseException:
            self.close()
            raise

    def _shared(self, name: str, layout: Any) -> NDArray[np.void]:
        import numpy as np

        return np.frombuffer(self._object.map(name).mmap(), np.dtype(layout))

    def run(self, phase: CtctlWriterPhase, count: int) -> None:
        """One pass over the first ``count`` slots. Raises KernelError."""
        self._control["phase"], self._control["nr_slots"] = phase, count
        result, _ = self._program.run_syscall()
        if result:
            raise KernelError("run", "the writer's program", errno.EINVAL, f"it returned {result}")

    def close(self) -> None:
        self._object.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def column(slots: NDArray[np.void], name: str) -> NDArray[np.uint8]:
    """A field of slots as its bytes, uint8 (n, size): a writable view of them."""
    import numpy as np

    kind, offset = slots.dtype.fields[name][:2]  # type: ignore[index]
    return np.ndarray(
        (len(slots), kind.itemsize), np.uint8, buffer=slots, offset=offset, strides=(slots.dtype.itemsize, 1)
    )
