"""Bringing entries back: ``gc undo`` and ``ct import``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctctl.cli.asking import ask
from ctctl.errors import EXIT_INTERRUPTED, PartialDataError
from ctctl.model.units import counted
from ctctl.out.options import OutputOptions

if TYPE_CHECKING:
    from ctctl.cli.groups import SourceArgs
    from ctctl.tables.sources.base import Source
    from ctctl.tables.writer.restore import Restored


def undo_journal(
    file: Path,
    where: SourceArgs,
    *,
    yes: bool,
    dry_run: bool,
    allow_foreign: bool,
    same_boot: bool = False,
    options: OutputOptions = OutputOptions(),
) -> None:
    """Put back what a journal holds, and say what is wrong with it. Raises PartialDataError if not all is back."""
    from ctctl.cli.report import said_anyway, say
    from ctctl.ct.change import readable_maps
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.tables.writer.journal import open_journal
    from ctctl.tables.writer.targets import check_owner, open_targets, require_live
    from ctctl.tables.writer.undo import check_origin, remarks, undo, words_of, write_undone

    journal = open_journal(file)
    if not where.nodes and where.source in (None, ["auto"]) and journal.node is not None:
        # Whatever $CTCTL_NODE says: the journal knows which node it is of.
        where = replace(where, nodes=[journal.node], every_node=False)
    with ExitStack() as stack:
        source = stack.enter_context(where.open())
        if dry_run:
            require_live(source)
            check_origin(journal, source, same_boot=same_boot)
            maps = readable_maps(source)
        else:
            check_owner(source, allow_foreign=allow_foreign)
            check_origin(journal, source, same_boot=same_boot)
            question = f"Put the entries of {file} back into {source.description}?"
            ask(question, yes=yes, needed_for=f"writing entries to {source.description}")
            maps = stack.enter_context(open_targets(source, allow_foreign=allow_foreign)).maps()
        stop = stack.enter_context(stop_on_signals())
        undone = undo(file, maps, dry_run=dry_run, stopped=stop.is_set)
    with said_anyway([words_of(undone)]):
        write_undone(undone, options, sys.stdout)
    for line in remarks(undone):
        say(line)
    _raise_ended(undone.restored)
    if not undone.whole:
        raise PartialDataError(f"not everything in {file} was restored")


def import_snapshot(
    file: str, where: SourceArgs, *, yes: bool, dry_run: bool, allow_foreign: bool, same_boot: bool = False
) -> None:
    """Create a snapshot's entries in the live tables."""
    from ctctl.cli.report import opened, say
    from ctctl.ct.change import check_snapshot, origin_remarks, readable_maps, snapshot_records
    from ctctl.kernel.stopping import stop_on_signals
    from ctctl.tables.open import open_source
    from ctctl.tables.sources.base import SourceOptions
    from ctctl.tables.writer.restore import restore
    from ctctl.tables.writer.targets import check_owner, open_targets, require_live

    with opened(where) as target, open_source(file, SourceOptions()) as snapshot:
        if dry_run:
            require_live(target)
        else:
            check_owner(target, allow_foreign=allow_foreign)
        for text in check_snapshot(snapshot, target):
            say(f"left out {text}")
        for text in origin_remarks(snapshot, target, same_boot=same_boot):
            say(text)
        planned = restore(snapshot_records(snapshot, target), readable_maps(target), dry_run=True)
        say(f"{_words(planned)} to write into {target.description}; {planned.present} are there and stay")
        _say_left_out(planned)
        _raise_ended(planned)
        if dry_run:
            _raise_partial(snapshot, planned)
            return
        ask("Write them?", yes=yes, needed_for=f"writing entries to {target.description}")
        with open_targets(target, allow_foreign=allow_foreign) as targets, stop_on_signals() as stop:
            done = restore(snapshot_records(snapshot, target), targets.maps(), stopped=stop.is_set)
        say(
            f"{_words(done)} written; {done.present} are there and stay"
            f"{'; stopped before the end' if done.stopped else ''}"
        )
        _raise_ended(done)
        _raise_partial(snapshot, done)


def _raise_ended(done: Restored) -> None:
    """Raise what ended a restore before its end, after it was said what it did."""
    if done.failure is not None:
        raise done.failure
    if done.stopped:
        raise typer.Exit(EXIT_INTERRUPTED)


def _words(done: Restored) -> str:
    return f"{counted(done.restored - done.nat, 'entry', 'entries')} and {counted(done.nat, 'SNAT record')}"


def _say_left_out(done: Restored) -> None:
    from ctctl.cli.report import say
    from ctctl.tables.writer.restore import NO_ROOM

    if done.full:
        say(f"{done.full} do not fit: {NO_ROOM}")
    for reason, count in done.skipped.items():
        say(f"left out {counted(count, 'record')}: {reason}")


def _raise_partial(snapshot: Source, done: Restored) -> None:
    left_out = done.full + sum(done.skipped.values())
    missing = [f"{left_out} records of it do not go into the tables"] if left_out else []
    if snapshot.partial or missing:
        raise PartialDataError("; ".join([*snapshot.partial, *missing]))
