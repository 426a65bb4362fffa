"""Undoing a run: the journal back into the tables, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ctctl.errors import DecodeError, UsageError
from ctctl.kernel.clock import started_at
from ctctl.kernel.map import Map
from ctctl.model.units import counted
from ctctl.out.fit import CommandLine
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_document
from ctctl.out.text import shell_word
from ctctl.tables.sources.base import Source
from ctctl.tables.writer.journal import Contents, open_journal, records
from ctctl.tables.writer.restore import NO_ROOM, Restored, restore
from ctctl.tables.writer.targets import ids_of

SCHEMA = "ctctl/gc-restored/v1"


@dataclass(frozen=True, slots=True)
class Undone:
    """What was brought back, and in what state the journal was."""

    restored: Restored
    journal: Contents

    @property
    def whole(self) -> bool:
        """Whether every line of the journal could be read and had its table here."""
        done = self.restored
        return not (self.journal.cut or self.journal.damaged or done.skipped or done.full or done.stopped)


def undo(
    path: Path, maps: dict[str, Map], *, dry_run: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Undone:
    """Put back what a journal holds. Raises DecodeError for a file that is none, or has no record that can be read."""
    journal = open_journal(path)
    done = restore(records(journal), maps, dry_run=dry_run, stopped=stopped)
    if journal.damaged and not (done.restored or done.present or done.full or done.skipped or done.failure):
        raise DecodeError(f"{path}: none of its {journal.damaged} lines is a record: nothing was restored")
    return Undone(done, journal)


def undo_command(path: Path, source: str, *, foreign: bool = False) -> CommandLine:
    """What to type to undo a run, from any directory and however many nodes there are, also when a link has gone."""
    words = ["ctctl", "gc", "undo", str(path.absolute()), "--from", str(Path(source).resolve()), "--yes"]
    return CommandLine("undo with", " ".join(map(shell_word, [*words, *(["--allow-foreign"] if foreign else [])])))


def remarks(undone: Undone) -> list[str]:
    """What an operator should know beside the figures, a line each."""
    journal, done = undone.journal, undone.restored
    lines = []
    if journal.cut:
        lines.append(
            f"the last line of {journal.path} is cut off: its entry is not restored (a run that was killed had not"
            " deleted it yet)"
        )
    if journal.damaged:
        lines.append(
            f"{journal.damaged} lines of {journal.path} are damaged: an entry of theirs is not restored, or is though"
            " it had stayed"
        )
    if not journal.finished and not journal.cut:
        lines.append(f"{journal.path} has no end: the run that wrote it was stopped before it came to its own")
    if done.full:
        lines.append(f"{done.full} entries are not restored: {NO_ROOM}")
    lines += [f"{counted(count, 'record')} left out: {reason}" for reason, count in done.skipped.items()]
    return lines


def write_undone(undone: Undone, options: OutputOptions, stream: TextIO) -> None:
    """The figures, in words or as a document."""
    journal, done = undone.journal, undone.restored
    if options.format in (Format.json, Format.jsonl, Format.yaml):
        document = {
            "restored": done.restored,
            "present": done.present,
            "full": done.full,
            "left_out": sum(done.skipped.values()),
            "damaged": journal.damaged,
            "cut": journal.cut,
            "finished": journal.finished,
            "stopped": done.stopped,
            "dry_run": done.dry_run,
        }
        write_document(SCHEMA, document, options, stream)
        return
    print(words_of(undone), file=stream)


def words_of(undone: Undone) -> str:
    """The figures in words."""
    done = undone.restored
    verb = "would be restored" if done.dry_run else "restored"
    words = f"{counted(done.restored, 'entry', 'entries')} {verb}, {done.present} left alone (their key is in use)"
    return f"{words}; stopped before the end" if done.stopped else words


def check_origin(journal: Contents, target: Source, *, same_boot: bool = False) -> None:
    """Make sure that a journal's entries are of the tables of ``target``, as far as both say. Raises UsageError.

    One table by its id is enough: under another path it is the same. Else a node of ours is known by its name, however
    often it was loaded anew, and others by where their tables are pinned. ``same_boot``: the user says that it is of
    this boot where it does not.
    """
    _check_boot(journal, target, same_boot=same_boot)
    if journal.boot_id is not None and journal.maps.items() & ids_of(target).items():
        return
    node = next(iter(target.nodes()), None)
    named = journal.node is not None and node is not None
    if journal.node == node if named else _same_place(journal.source, target.directory):
        return
    if journal.node is not None:
        raise UsageError(
            f"{journal.path} is of another node, {journal.node}: not restored into {target.description};"
            f" leave --from out, or give --node {shell_word(journal.node)}"
        )
    raise UsageError(
        f"{journal.path} is of another node: of the tables in {journal.source}, not of {target.description};"
        f" give --from {shell_word(journal.source)}"
    )


def _check_boot(journal: Contents, target: Source, *, same_boot: bool) -> None:
    if journal.boot_id is None or target.boot_id is None:
        if same_boot:
            return
        who = f"{journal.path} names no boot, as older ones" if journal.boot_id is None else "this kernel names no boot"
        raise UsageError(
            f"{who}: whether the journal's times mean anything in {target.description} is"
            f" not known, so nothing is restored; {_when(journal)}: if that is this boot, add --same-boot"
        )
    if journal.boot_id != target.boot_id:
        raise UsageError(
            f"{journal.path} is of another boot or another machine: its times mean nothing in {target.description},"
            " so nothing is restored"
        )


def _when(journal: Contents) -> str:
    """What would tell: when a journal was written, and when this machine started."""
    started = started_at()
    here = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds") if started is not None else None
    return f"it was written at {journal.time or 'no time that it tells'}, this machine started at {here or '?'}"


def _same_place(source: str, directory: str | None) -> bool:
    """Whether the tables that a journal names are those of a directory; what it does not say is no objection."""
    if directory is None or not Path(source).is_absolute():
        return True
    places = [Path(source), Path(source).parent]  # of the directory, or of one table in it
    if any(place.resolve() == Path(directory).resolve() for place in places):
        return True
    try:
        return any(place.samefile(directory) for place in places if place.exists())
    except OSError:
        return False
