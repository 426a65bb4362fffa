"""``ct delete``, ``ct flush``, ``ct import``: the commands that change live tables, through the one writer.

Deleting takes the SNAT pair of an OUT entry along, as Cilium's GC does. What was shown is what goes: an
entry that a packet refreshed since stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ctctl.abi.constants import CT_ENTRY_FLAGS, CT_ENTRY_SIZE
from ctctl.abi.layouts import CtctlWriterStatus
from ctctl.ct.compare import row_of
from ctctl.decode.nat import decode_nat
from ctctl.errors import UsageError
from ctctl.kernel.map import Map
from ctctl.model.entry import CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.tables import pairs
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.rows import matching
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.writer.journal import Journal, Record
from ctctl.tables.writer.remover import ROOM, Remover
from ctctl.tables.writer.targets import Target, Targets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes2d = NDArray[np.uint8]

#: Entries that changed under the deletion, as they are now, as far as they are still wanted.
_Again: TypeAlias = "Callable[[Bytes2d], tuple[Bytes2d, Bytes2d]]"
#: How often an entry that changed under the deletion is looked at anew, where nobody was shown the old one.
_ROUNDS = 4
#: SNAT pairs of a plan are looked up one by one only for so many entries: the rest is counted when it goes.
_LOOKED_UP = 4096


@dataclass(slots=True)
class Plan:
    """What would be deleted: the entries as they were read, by table, and SNAT entries that go with them.

    ``nat``: (table name, key, value) of the pairs of the first entries; ``nat_counted``: whether those are all.
    """

    source: Source
    wanted: Filter
    tables: list[tuple[CtTable, Bytes2d, Bytes2d]] = field(default_factory=list)
    nat: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    nat_counted: bool = True

    def __len__(self) -> int:
        return sum(len(keys) for _, keys, _ in self.tables)

    def rows(self) -> Iterator[CtRow]:
        """The entries, as rows."""
        for table, keys, values in self.tables:
            for key, value in zip(keys, values, strict=True):
                yield row_of(table, key.tobytes(), value.tobytes())

    def nat_entries(self) -> list[NatEntry]:
        """The SNAT records that were looked up."""
        return [decode_nat(key, value, name) for name, key, value in self.nat]


@dataclass(slots=True)
class Outcome:
    """What was done, at every moment. ``changed``: entries refreshed or reused since they were planned, which stayed;
    ``gone``: that went away by themselves; ``refused``: deletions, of SNAT entries too, that the kernel refused: these
    stayed; ``notes``: lines for the operator; ``complete``: nobody stopped it."""

    deleted: int = 0
    changed: int = 0
    gone: int = 0
    refused: int = 0
    nat_deleted: int = 0
    complete: bool = True
    notes: list[str] = field(default_factory=list)


def plan_delete(source: Source, wanted: Filter) -> Plan:
    """What the filter selects now, and the SNAT pairs of the first of it. Reads only."""
    plan = Plan(source, wanted)
    for table in source.tables:
        keys, values = _matching(table, wanted)
        if len(keys):
            plan.tables.append((table, keys, values))
    _add_pairs(plan)
    return plan


def _matching(table: CtTable, wanted: Filter) -> tuple[Bytes2d, Bytes2d]:
    import numpy as np

    found = [(columns.keys.copy(), columns.values.copy()) for columns in matching(table, wanted)]
    if not found:
        return np.empty((0, table.keys.size), np.uint8), np.empty((0, CT_ENTRY_SIZE), np.uint8)
    return np.concatenate([keys for keys, _ in found]), np.concatenate([values for _, values in found])


def _add_pairs(plan: Plan) -> None:
    for table, keys, values in plan.tables:
        if table.nat is None:
            continue
        plan.nat_counted = plan.nat_counted and len(keys) <= _LOOKED_UP
        for key, value in zip(keys[:_LOOKED_UP], values[:_LOOKED_UP], strict=True):
            plan.nat += _pair_of(table.nat, key.tobytes(), value.tobytes())


def _pair_of(nat: Map, key: bytes, value: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    if not pairs.is_out(key):
        return
    at = CT_ENTRY_FLAGS
    dsr = bool(int.from_bytes(value[at : at + 2], "little") & CtFlags.DSRInternal)
    forward = pairs.nat_key(key, dsr)
    there = nat.lookup(forward)
    if there is None:
        return
    yield nat.name, forward, there
    backward = pairs.reverse_nat_key(forward, there)
    other = None if dsr else nat.lookup(backward)
    if other is not None:
        yield nat.name, backward, other


def delete(
    plan: Plan,
    targets: Targets,
    journal: Journal | None,
    outcome: Outcome,
    *,
    shown: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Delete what was planned and still is so; ``outcome`` is true at every moment, also when something is raised.

    ``shown``: somebody agreed to what the plan says, so an entry that has changed since stays. Without that an
    entry that changed, and that the filter still wants, is looked at anew a few times. Raises WriteError if the
    journal cannot be written (nothing of that batch is gone), KernelError.
    """
    for table, keys, values in plan.tables:
        target = targets.of(table)
        with Remover(target, journal=journal) as remover:
            if remover.window is not None:
                outcome.notes.append(f"{table.name}: {remover.window}")
            again = None if shown else partial(_again, target, plan.wanted, outcome)
            for start in range(0, len(keys), ROOM):
                if stopped():
                    outcome.complete = False
                    return
                part = slice(start, start + ROOM)
                _delete_batch(remover, keys[part], values[part], again, outcome)


def _delete_batch(remover: Remover, keys: Bytes2d, values: Bytes2d, again: _Again | None, outcome: Outcome) -> None:
    rounds = 1 if again is None else _ROUNDS
    for turn in range(rounds):
        removed = remover.remove(keys, values)
        outcome.deleted += removed.deleted
        outcome.nat_deleted += removed.nat_deleted
        outcome.gone += int((removed.status == CtctlWriterStatus.WRITER_GONE).sum())
        outcome.refused += removed.refused
        left = keys[removed.status == CtctlWriterStatus.WRITER_CHANGED]
        if not len(left):
            return
        if again is None or turn == rounds - 1:
            outcome.changed += len(left)
            return
        keys, values = again(left)
        if not len(keys):
            return


def _again(target: Target, wanted: Filter, outcome: Outcome, keys: Bytes2d) -> tuple[Bytes2d, Bytes2d]:
    """Those of ``keys`` that the filter wants as they are now, with their values."""
    import numpy as np

    from ctctl.decode.columns import CtColumns
    from ctctl.tables.query.predicate import mask_of

    values = [target.map.lookup(key.tobytes()) for key in keys]
    there = np.array([value is not None for value in values])
    outcome.gone += int((~there).sum())
    keys = keys[there]
    found = np.frombuffer(b"".join(value for value in values if value is not None), np.uint8).reshape(len(keys), -1)
    predicate = wanted.bind(target.table.context())
    if isinstance(predicate, bool):
        mask = np.full(len(keys), predicate)
    else:
        mask = mask_of(predicate, CtColumns(keys, found, target.table.layout))
    outcome.changed += int((~mask).sum())
    return keys[mask], found[mask]


def check_snapshot(snapshot: Source, target: Source) -> list[str]:
    """Why tables of ``snapshot`` cannot be written into ``target``: those are left out.

    Raises UsageError if the snapshot's bytes are not the tables' own.
    """
    tables = {table.name: table for table in target.tables}
    left_out = []
    for table in snapshot.tables:
        if not table.raw:
            raise UsageError(f"{snapshot.description}: a listing, not the tables' own bytes; it cannot be imported")
        there = tables.get(table.name)
        if there is None or there.layout is not table.layout:
            left_out.append(f"{table.name}: {'not there' if there is None else 'of another layout'}")
    return left_out


def origin_remarks(snapshot: Source, target: Source, *, same_boot: bool = False) -> list[str]:
    """What an operator should know of a snapshot that is not of the tables it goes into, as far as both say.

    ``same_boot``: the user says that one that names no boot is of this one.
    """
    lines, here = [], target.nodes()
    others = [node for node in snapshot.nodes() if here and node not in here]
    if others:
        lines.append(f"{snapshot.description} is of {', '.join(others[:3])}, and goes into {', '.join(here)}")
    if snapshot.boot_id is not None and target.boot_id is not None and snapshot.boot_id != target.boot_id:
        lines.append(
            f"{snapshot.description} is of another boot or another machine: by the clock of {target.description} its"
            " entries end at other times"
        )
    elif None in (snapshot.boot_id, target.boot_id) and not same_boot:
        who = snapshot.description if snapshot.boot_id is None else "this kernel"
        lines.append(
            f"{who} names no boot: if {snapshot.description} is of another one (or of another machine), by the clock of"
            f" {target.description} its entries end at other times"
        )
    return lines


def snapshot_records(snapshot: Source, target: Source) -> Iterator[Record]:
    """The entries of a snapshot that go into ``target``: conntrack entries of tables of its layout, SNAT entries."""
    tables = {table.name: table for table in target.tables}
    for table in snapshot.tables:
        there = tables.get(table.name)
        if there is None or there.layout is not table.layout:
            continue
        for columns in matching(table, EVERYTHING):
            for key, value in zip(columns.keys, columns.values, strict=True):
                yield Record(table.name, key.tobytes(), value.tobytes())
    if snapshot.raw_nat is not None:
        for name, key, value in snapshot.raw_nat():
            yield Record(name, key, value)
        return
    for entry in snapshot.listings(None).nat:
        if entry.key is not None and entry.value is not None and entry.map is not None:
            yield Record(entry.map, entry.key, entry.value)


def readable_maps(source: Source) -> dict[str, Map]:
    """The maps of a source by name, as they are open for reading."""
    found = {table.name: table.live for table in source.tables if table.live is not None}
    return found | {table.nat.name: table.nat for table in source.tables if table.nat is not None}
