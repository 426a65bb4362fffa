"""``ct delete``, ``ct flush``, ``ct import``: the commands that change live tables.

Deleting takes the SNAT pair of an OUT entry along, as Cilium's GC does, and writes what goes to an
undo file first. Tables of another owner are only touched when the user says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctctl.abi import pins
from ctctl.ct.diff import load, row_of
from ctctl.decode.ct import KEY_SIZE
from ctctl.decode.nat import decode_nat
from ctctl.errors import NotFoundError, UsageError
from ctctl.kernel.map import Map, UpdateMode
from ctctl.model.entry import CtFlags
from ctctl.model.nat import NatEntry
from ctctl.model.row import CtRow
from ctctl.tables.pairs import is_out, nat_key, reverse_nat_key
from ctctl.tables.query.filter import Filter
from ctctl.tables.sources.base import CtTable, Listings, Source
from ctctl.tables.sources.snapshot import write_snapshot

if TYPE_CHECKING:
    from ctctl.tables.sources.base import Rows

_FLAGS_AT = 36


@dataclass(slots=True)
class Plan:
    """What would be deleted: (table, records) and the SNAT records that go with them, by map name."""

    source: Source
    tables: list[tuple[CtTable, dict[bytes, bytes]]] = field(default_factory=list)
    nat: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(records) for _, records in self.tables)

    def rows(self) -> Iterator[CtRow]:
        """The entries, as rows."""
        for table, records in self.tables:
            for key, value in records.items():
                yield row_of(table, key, value)

    def nat_entries(self) -> list[NatEntry]:
        """The SNAT records."""
        return [decode_nat(key, value, name) for name, found in self.nat.items() for key, value in found.items()]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done. ``gone``: entries that went away by themselves between looking and deleting."""

    deleted: int
    gone: int
    nat_deleted: int
    undo_file: str | None


def check_owner(source: Source, allow_foreign: bool) -> None:
    """Raise UsageError unless the source is live and ours, or ``allow_foreign`` was said."""
    if any(table.live is None for table in source.tables) or not source.tables:
        raise UsageError(f"{source.description} is no live table: nothing can be changed there")
    if source.foreign and not allow_foreign:
        raise UsageError(
            f"{source.description} belongs to another program (a live Cilium?); add --allow-foreign to change it"
        )


def plan_delete(source: Source, wanted: Filter) -> Plan:
    """What the filter selects, and the SNAT pairs of it."""
    plan = Plan(source)
    for table in source.tables:
        records = load(table, wanted)
        if records:
            plan.tables.append((table, records))
    if source.directory is not None:
        _add_nat(plan, Path(source.directory))
    return plan


def _add_nat(plan: Plan, directory: Path) -> None:
    for family in KEY_SIZE:
        try:
            with Map.open_pinned(directory / pins.SNAT_TABLES[family], read_only=True) as nat:
                for table, records in plan.tables:
                    if table.family == family:
                        _add_pairs(plan.nat.setdefault(nat.name, {}), nat, records)
        except NotFoundError:
            continue


def _add_pairs(found: dict[bytes, bytes], nat: Map, records: dict[bytes, bytes]) -> None:
    for key, value in records.items():
        if not is_out(key):
            continue
        dsr = bool(int.from_bytes(value[_FLAGS_AT : _FLAGS_AT + 2], "little") & CtFlags.DSRInternal)
        forward = nat_key(key, dsr)
        there = nat.lookup(forward)
        if there is None:
            continue
        found[forward] = there
        backward = reverse_nat_key(forward, there)
        other = nat.lookup(backward)
        if other is not None:
            found[backward] = other


def delete(plan: Plan, undo_file: Path | None) -> Outcome:
    """Write the undo file, then delete. Raises KernelError, and UsageError if the file is there already."""
    if undo_file is not None:
        _write_undo(plan, undo_file)
    directory = Path(plan.source.directory or "")
    deleted = gone = nat_deleted = 0
    for table, records in plan.tables:
        with _writable(table, directory) as live:
            result = live.delete_batch(b"".join(records))
            deleted += result.deleted
            gone += result.gone
    for name, found in plan.nat.items():
        if found:
            with Map.open_pinned(directory / name) as nat:
                nat_deleted += sum(nat.delete(key) for key in found)
    return Outcome(deleted, gone, nat_deleted, str(undo_file) if undo_file is not None else None)


def _writable(table: CtTable, directory: Path) -> Map:
    if "[" in table.name and table.live is not None:
        return Map.from_id(table.live.info.id)
    return Map.open_pinned(directory / table.name)


def default_undo_file() -> Path:
    """Where the undo file goes if the user names none."""
    return Path(f"ctctl-undo-{time.strftime('%Y%m%dT%H%M%S')}.ctsnap")


def _write_undo(plan: Plan, path: Path) -> None:
    import numpy as np

    def rows(table: CtTable) -> Iterator[Rows]:
        records = next(found for known, found in plan.tables if known is table)
        keys = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
        yield keys, np.frombuffer(b"".join(records.values()), np.uint8).reshape(len(records), -1)

    kept = Source(plan.source.description, listings=lambda _node: Listings(nat=plan.nat_entries()))
    try:
        with path.open("xb") as stream:
            write_snapshot(kept, [table for table, _ in plan.tables], rows, stream)
    except FileExistsError:
        raise UsageError(f"{path} is there already: name another undo file") from None
    except OSError as error:
        raise UsageError(f"cannot write the undo file {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What an import did; ``kept``: entries that were there and stayed as they were."""

    written: int
    kept: int
    nat_written: int
    skipped: tuple[str, ...]


def import_entries(
    snapshot: Source, target: Source, *, overwrite: bool = False, dry_run: bool = False
) -> ImportOutcome:
    """Write a snapshot's entries into live tables of the same names. Entries that are there stay, unless ``overwrite``.

    Raises UsageError if the snapshot's bytes are not the tables' own, KernelError.
    """
    directory = Path(target.directory or "")
    tables = {table.name: table for table in target.tables}
    written = kept = nat_written = 0
    skipped: list[str] = []
    for table in snapshot.tables:
        there = tables.get(table.name)
        if not table.raw:
            raise UsageError(f"{snapshot.description}: a listing, not the tables' own bytes; it cannot be imported")
        if there is None or there.layout is not table.layout:
            skipped.append(f"{table.name}: {'not there' if there is None else 'of another layout'}")
            continue
        with _writable(there, directory) as live:
            new, old = _write(live, load(table), overwrite=overwrite, dry_run=dry_run)
        written, kept = written + new, kept + old
    with ExitStack() as stack:
        opened: dict[str, Map] = {}
        for entry in snapshot.listings(None).nat:
            if entry.key is None or entry.value is None or entry.map is None:
                continue
            if entry.map not in opened:
                opened[entry.map] = stack.enter_context(Map.open_pinned(directory / entry.map))
            nat_written += _write(opened[entry.map], {entry.key: entry.value}, overwrite=overwrite, dry_run=dry_run)[0]
    return ImportOutcome(written, kept, nat_written, tuple(skipped))


def _write(live: Map, records: dict[bytes, bytes], *, overwrite: bool, dry_run: bool) -> tuple[int, int]:
    written = kept = 0
    for key, value in records.items():
        if not overwrite and live.lookup(key) is not None:
            kept += 1
            continue
        if not dry_run:
            live.update(key, value, mode=UpdateMode.ANY)
        written += 1
    return written, kept
