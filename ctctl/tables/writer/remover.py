"""Deletes entries of one table, each only if it still is what was planned, its SNAT pair with it.

A batch at a time: the pairs are looked up, everything is written to the journal, and then a program in
the kernel looks each entry up again, compares all of its bytes and deletes it in the next instructions.
Where the kernel runs no such program the same is done by system calls, and the window between compare
and delete is theirs: ``window`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from ctctl.abi.constants import CT_ENTRY_FLAGS
from ctctl.abi.layouts import CtctlWriterPair as Pair
from ctctl.abi.layouts import CtctlWriterPhase as Phase
from ctctl.abi.layouts import CtctlWriterStatus as Status
from ctctl.errors import KernelError
from ctctl.kernel.map import Map
from ctctl.model.entry import CtFlags
from ctctl.tables import pairs
from ctctl.tables.writer.programs import WriterProgram, column
from ctctl.tables.writer.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctctl.tables.writer.journal import Journal

    Bytes2d = NDArray[np.uint8]

#: Entries deleted behind one write to the journal: few flushes, little memory (184 or 288 bytes each).
ROOM = 8192

_STAYED = (Pair.PAIR_FORWARD_STAYED, Pair.PAIR_REVERSE_STAYED)


class Recorder(Protocol):
    """Told of every deletion, after it: raw key and value of the entry and of the SNAT entries that went along."""

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a batch: a ``ctctl_writer_status`` an entry, and how many SNAT entries went along.

    ``nat_refused``: of the SNAT entries that were to go along, those that the kernel refused to delete.
    """

    status: NDArray[np.uint8]
    nat_deleted: int
    nat_refused: int = 0

    @property
    def deleted(self) -> int:
        return int((self.status == Status.WRITER_DELETED).sum())

    @property
    def refused(self) -> int:
        """Deletions, of SNAT entries too, that the kernel refused: those entries stay."""
        return int((self.status == Status.WRITER_STAYED).sum()) + self.nat_refused


class Remover:
    """The deletions of one table; a context manager.

    ``journal`` None: the user said that nothing is to be kept. ``recorder`` is told what went and why;
    ``before_delete`` is called between journal and delete (tests put a refresh there). Raises KernelError where
    there is no room for a program: only where the kernel runs none is there another way.
    """

    def __init__(
        self,
        target: Target,
        *,
        journal: Journal | None = None,
        recorder: Recorder | None = None,
        reason: str = "",
        room: int = ROOM,
        before_delete: Callable[[Bytes2d], None] | None = None,
    ) -> None:
        self._target = target
        self._journal = journal
        self._recorder = recorder
        self._reason = reason
        self._before_delete = before_delete
        self.room = room
        #: why deletions are not done in the kernel, None where they are
        self.window: str | None = None
        self._program: WriterProgram | None = None
        try:
            self._program = WriterProgram(target, room)
        except KernelError as error:
            if error.is_shortage:
                raise
            self.window = f"no program can be run in this kernel ({error}): compared and deleted by system calls"
        self._slots = self._program.slots if self._program is not None else _plain_slots(target, room)

    def remove(self, keys: Bytes2d, values: Bytes2d) -> Removed:
        """Delete up to ``room`` conntrack entries that are still as given.

        Raises WriteError if the journal cannot be written, KernelError; nothing of the batch is gone then.
        """
        slots = self._filled(keys, "entry", values)
        self._run(Phase.WRITER_PAIRS, slots)
        if self._journal is not None:
            self._journal.planned((self._target.name, keys, values), *self._pairs(slots))
        if self._before_delete is not None:
            self._before_delete(keys)
        self._run(Phase.WRITER_DELETE, slots)
        gone = self._pairs(slots, deleted=True)
        stayed = sum(int(((slots["pair"] & side) != 0).sum()) for side in _STAYED)
        removed = Removed(slots["status"].copy(), sum(len(found) for _, found, _ in gone), stayed)
        self._tell(removed, keys, values, gone, self._left(slots))
        return removed

    def remove_nat(self, keys: Bytes2d, values: Bytes2d, *, orphans: bool) -> Removed:
        """Delete up to ``room`` SNAT entries that are as given; ``orphans``: that no conntrack entry stands behind."""
        assert self._target.nat is not None
        slots = self._filled(keys, "forward", values)
        if self._journal is not None:
            self._journal.planned((self._target.nat_name, keys, values))
        if self._before_delete is not None:
            self._before_delete(keys)
        self._run(Phase.WRITER_DELETE_ORPHANS if orphans else Phase.WRITER_DELETE_NAT, slots)
        status = slots["status"].copy()
        gone = status == Status.WRITER_DELETED
        if self._journal is not None:
            self._journal.gone(int(gone.sum()), (self._target.nat_name, keys[~gone]))
        if self._recorder is not None:
            _record(self._recorder, self._target.nat_name, self._reason, keys[gone], values[gone])
        return Removed(status, 0)

    def _filled(self, keys: Bytes2d, field: str, values: Bytes2d) -> NDArray[np.void]:
        slots = self._slots[: len(keys)]
        column(slots, "key")[:] = keys
        column(slots, field)[:] = values
        slots["status"] = Status.WRITER_UNTOUCHED
        slots["pair"] = 0
        return slots

    def _run(self, phase: Phase, slots: NDArray[np.void]) -> None:
        if phase is Phase.WRITER_PAIRS and self._target.nat is None:
            return
        if self._program is not None:
            self._program.run(phase, len(slots))
        else:
            _by_system_calls(self._target, phase, slots)

    def _pairs(self, slots: NDArray[np.void], *, deleted: bool = False) -> list[tuple[str, Bytes2d, Bytes2d]]:
        """(table, keys, values) of the SNAT entries that were found, or ``deleted``."""
        if self._target.nat is None:
            return []
        found = []
        for side, which in (("forward", Pair.PAIR_FORWARD), ("reverse", Pair.PAIR_REVERSE)):
            chosen = (slots["pair"] & (which << 2 * deleted)) != 0
            if chosen.any():
                keys, values = column(slots, f"{side}_key")[chosen], column(slots, side)[chosen]
                found.append((self._target.nat_name, keys, values))
        return found

    def _left(self, slots: NDArray[np.void]) -> list[tuple[str, Bytes2d]]:
        """The SNAT entries that were planned to go, and did not."""
        if self._target.nat is None:
            return []
        found = []
        for side, which in (("forward", Pair.PAIR_FORWARD), ("reverse", Pair.PAIR_REVERSE)):
            chosen = ((slots["pair"] & which) != 0) & ((slots["pair"] & (which << 2)) == 0)
            found.append((self._target.nat_name, column(slots, f"{side}_key")[chosen]))
        return found

    def _tell(
        self,
        removed: Removed,
        keys: Bytes2d,
        values: Bytes2d,
        gone: list[tuple[str, Bytes2d, Bytes2d]],
        left: list[tuple[str, Bytes2d]],
    ) -> None:
        mask = removed.status == Status.WRITER_DELETED
        if self._journal is not None:
            self._journal.gone(removed.deleted + removed.nat_deleted, (self._target.name, keys[~mask]), *left)
        if self._recorder is not None:
            _record(self._recorder, self._target.name, self._reason, keys[mask], values[mask])
            for table, nat_keys, nat_values in gone:
                _record(self._recorder, table, "snat-pair", nat_keys, nat_values)

    def close(self) -> None:
        if self._program is not None:
            self._program.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _record(recorder: Recorder, table: str, reason: str, keys: Bytes2d, values: Bytes2d) -> None:
    for key, value in zip(keys, values, strict=True):
        recorder.deleted(table, reason, key.tobytes(), value.tobytes())


def _plain_slots(target: Target, room: int) -> NDArray[np.void]:
    import numpy as np

    from ctctl.abi import layouts

    return np.zeros(room, np.dtype(getattr(layouts, f"ctctl_writer_slot{target.table.family}")))


def _by_system_calls(target: Target, phase: Phase, slots: NDArray[np.void]) -> None:
    """What writer.bpf.c does, from here."""
    for at in range(len(slots)):
        slot = slots[at : at + 1]
        if phase is Phase.WRITER_PAIRS:
            _find_pair(target, slot)
        elif phase is Phase.WRITER_DELETE:
            _delete_entry(target, slot)
        elif phase is Phase.WRITER_DELETE_ORPHANS and _in_use(target, slot):
            slot["status"] = Status.WRITER_CHANGED
        elif target.nat is not None:
            slot["status"] = _compare_and_delete(target.nat, _of(slot, "key"), _of(slot, "forward"))


def _find_pair(target: Target, slot: NDArray[np.void]) -> None:
    key, value = _of(slot, "key"), _of(slot, "entry")
    if target.nat is None or not pairs.is_out(key):
        return
    dsr = bool(int.from_bytes(value[CT_ENTRY_FLAGS : CT_ENTRY_FLAGS + 2], "little") & CtFlags.DSRInternal)
    forward = pairs.nat_key(key, dsr)
    there = target.nat.lookup(forward)
    if there is None:
        return
    _set(slot, "forward_key", forward)
    _set(slot, "forward", there)
    slot["pair"] = Pair.PAIR_FORWARD
    backward = pairs.reverse_nat_key(forward, there)
    there = None if dsr else target.nat.lookup(backward)
    if there is not None:
        _set(slot, "reverse_key", backward)
        _set(slot, "reverse", there)
        slot["pair"] = Pair.PAIR_FORWARD | Pair.PAIR_REVERSE


def _delete_entry(target: Target, slot: NDArray[np.void]) -> None:
    slot["status"] = _compare_and_delete(target.map, _of(slot, "key"), _of(slot, "entry"))
    if slot["status"][0] != Status.WRITER_DELETED or target.nat is None:
        return
    for side, which in (("forward", Pair.PAIR_FORWARD), ("reverse", Pair.PAIR_REVERSE)):
        if slot["pair"][0] & which:
            status = _compare_and_delete(target.nat, _of(slot, f"{side}_key"), _of(slot, side))
            slot["pair"] |= (which << 2) * (status == Status.WRITER_DELETED)


def _in_use(target: Target, slot: NDArray[np.void]) -> bool:
    key, value = _of(slot, "key"), _of(slot, "forward")
    forward = key if pairs.is_out(key) else pairs.forward_nat_key(key, value)
    return any(target.map.lookup(ct_key) is not None for ct_key in pairs.ct_keys(forward))


def _compare_and_delete(table: Map, key: bytes, planned: bytes) -> Status:
    there = table.lookup(key)
    if there is None:
        return Status.WRITER_GONE
    if there != planned:
        return Status.WRITER_CHANGED
    return Status.WRITER_DELETED if table.delete(key) else Status.WRITER_GONE


def _of(slot: NDArray[np.void], name: str) -> bytes:
    return column(slot, name).tobytes()


def _set(slot: NDArray[np.void], name: str, value: bytes) -> None:
    import numpy as np

    column(slot, name)[:] = np.frombuffer(value, np.uint8)
