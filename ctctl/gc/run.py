"""One garbage collection from end to end: decide, collect every family, report."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctctl.errors import CtctlError, KernelError, NotFoundError
from ctctl.gc import batch, interval, orphans, perkey, walk
from ctctl.gc.audit import auditing
from ctctl.gc.job import BATCH_SIZE, Engine, Job
from ctctl.gc.limit import RateLimit
from ctctl.gc.report import EngineName, Report, TableReport
from ctctl.gc.tally import Tally
from ctctl.kernel.map_batch import NO_BATCH
from ctctl.kernel.stopping import Stop
from ctctl.model.suggest import unknown_name
from ctctl.out.files import WriteError
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.writer.clock import ClockError, datapath_now, settle_time
from ctctl.tables.writer.journal import Journal
from ctctl.tables.writer.targets import Targets, ids_of, open_targets

ENGINES: dict[EngineName, Engine] = {
    EngineName.BATCH: batch.collect,
    EngineName.KERNEL: walk.collect,
    EngineName.PER_KEY: perkey.collect,
}


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What a run is to do.

    ``now``: None for the tables' clock; ``clock_given``: the user named it. ``rate``: deletions a second;
    ``endpoint`` (an address or a name of the node's record) scrubs instead of collecting. ``undo``: where the
    journal goes; ``keep``: entries go that are alive, so there has to be one, named or not. ``interval_s`` is
    the interval this run was due by, ``elapsed_s`` what passed since the last one.
    """

    engine: EngineName = EngineName.BATCH
    dry_run: bool = False
    now: int | None = None
    clock_given: bool = False
    rate: float | None = None
    endpoint: str | None = None
    orphans: bool = False
    audit: Path | None = None
    undo: Path | None = None
    keep: bool = False
    allow_foreign: bool = False
    recheck: bool = True
    batch_size: int = BATCH_SIZE
    interval_s: float = interval.START_S
    elapsed_s: float = 0.0


@dataclass(slots=True)
class _Run:
    """One run over open tables, and what went wrong in it."""

    source: Source
    targets: Targets | None
    options: GcOptions
    now: int
    addresses: tuple[bytes, ...]
    notes: list[str]
    journal: Journal | None = None
    errors: list[CtctlError] = field(default_factory=list)
    #: journal or audit log could not be written: nothing more is deleted
    stopped: threading.Event = field(default_factory=threading.Event)

    def say(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


def run(source: Source, options: GcOptions, stop: Stop, progress: Callable[[int], None] | None = None) -> Report:
    """Collect the tables of ``source``. Setting ``stop`` ends the run early with a true report.

    Families run side by side: a slow or failing one takes nothing from the other. ``progress`` is told how
    many more entries were looked at, from any thread. Raises CtctlError when nothing could be done; a
    failure later on is ``failure`` of the report.
    """
    started = time.monotonic()
    addresses = resolve_endpoint(options.endpoint, source) if options.endpoint is not None else ()
    with ExitStack() as stack:
        # Whose they are first: what is refused is not even looked at.
        targets = None
        if not options.dry_run:
            targets = stack.enter_context(open_targets(source, allow_foreign=options.allow_foreign))
        now = time_of(source, options)
        notes = [note for note in source.notes if note.startswith("clock")] + list(source.partial)
        turn = _Run(source, targets, options, now, addresses, notes)
        path = None if options.dry_run else options.audit
        audit = stack.enter_context(auditing(path, now, turn.stopped.set))
        if targets is not None and (options.undo is not None or options.keep):
            node = next(iter(source.nodes()), None)
            turn.journal = stack.enter_context(
                Journal.create(options.undo, command="gc", source=source.description, node=node, maps=ids_of(source))
            )
        job = Job(
            now=now,
            stop=_AnyStop(stop, turn.stopped),
            limit=RateLimit(None, stop),
            dry_run=options.dry_run,
            journal=turn.journal,
            recorder=audit,
            addresses=addresses,
            batch_size=options.batch_size,
            recheck=options.recheck,
            progress=progress,
            say=turn.say,
        )
        reports = _families(turn, job)
        purged = _orphans(turn, _limited(job, options.rate))
        if audit is not None:
            audit.flush()
            _add_failure(turn, audit.failure)
    return _report(turn, reports, purged, time.monotonic() - started)


class _AnyStop:
    """Stops when the user does, and when nothing may be deleted any more."""

    def __init__(self, outer: Stop, inner: threading.Event) -> None:
        self._outer = outer
        self._inner = inner

    def is_set(self) -> bool:
        return self._outer.is_set() or self._inner.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._outer.wait(timeout)
        return self.is_set()


def _add_failure(turn: _Run, failure: CtctlError | None) -> None:
    if failure is not None:
        turn.errors.append(failure)
        turn.say(str(failure))


def _limited(job: Job, rate: float | None) -> Job:
    return replace(job, limit=RateLimit(rate, job.stop))


def _families(turn: _Run, job: Job) -> list[TableReport]:
    """Collect every table; families side by side, each with its share of the rate."""
    tables = turn.source.tables
    families = list(dict.fromkeys(table.family for table in tables))
    rate = turn.options.rate / len(families) if turn.options.rate is not None else None

    def family(number: int) -> list[TableReport]:
        mine = _limited(job, rate)
        return [_collect_table(turn, table, mine) for table in tables if table.family == number]

    with ThreadPoolExecutor(len(families), "ctctl-gc") as pool:
        return [report for result in pool.map(family, families) for report in result]


def time_of(source: Source, options: GcOptions) -> int:
    """Now, in units of the tables' clock. Raises ClockError unless it is certain, or a scrub, which goes by no time."""
    if options.endpoint is not None:
        return (options.now if options.now is not None else source.tables[0].now) or 0
    return settle_time(source, options.now, clock_given=options.clock_given)


def is_ahead(source: Source, options: GcOptions) -> bool:
    """Whether ``--now`` is a time to come: entries that are alive would go."""
    if options.now is None:
        return False
    with contextlib.suppress(ClockError):
        return options.now > datapath_now(source.tables[0].clock) + 1
    return True


def _collect_table(turn: _Run, table: CtTable, job: Job) -> TableReport:
    started, tally = time.monotonic(), Tally()
    if job.addresses and all(len(address) != table.keys.address for address in job.addresses):
        # An IPv4 pod has nothing in the IPv6 tables: figures for them would be a walk for nothing.
        return _table_report(table, tally, started)
    target = turn.targets.of(table) if turn.targets is not None else None
    engine = turn.options.engine
    try:
        try:
            ENGINES[engine](table, target, job, tally)
        except KernelError as error:
            if engine is not EngineName.BATCH or error.errno not in NO_BATCH:
                raise
            turn.say(f"{table.name}: no batch operations here, collected key by key")
            perkey.collect(table, target, job, tally)
    except CtctlError as error:
        if isinstance(error, WriteError):
            turn.stopped.set()
        turn.errors.append(error)
        turn.say(f"{table.name}: {error}")
        tally.complete = False
    return _table_report(table, tally, started)


def _table_report(table: CtTable, tally: Tally, started: float) -> TableReport:
    return TableReport(
        map=table.name,
        family=table.family_label,
        protocol=table.protocol,
        max_entries=table.max_entries or 0,
        rows=tally.rows(table.name, table.family_label),
        nat_deleted=tally.nat_deleted,
        resets=tally.resets,
        complete=tally.complete,
        duration_s=time.monotonic() - started,
        refused=tally.refused,
    )


def _orphans(turn: _Run, job: Job) -> orphans.Purged | None:
    if not turn.options.orphans and not job.addresses:
        return None
    if not job.addresses:
        for name in orphans.without_ct(turn.source):
            turn.say(f"{name}: orphans cannot be told without both conntrack tables")
    purged = orphans.Purged()
    try:
        if not job.stop.is_set():
            orphans.purge(turn.source, turn.targets, job, purged)
    except CtctlError as error:
        _add_failure(turn, error)
    return purged


def _report(turn: _Run, reports: list[TableReport], purged: orphans.Purged | None, duration_s: float) -> Report:
    options, notes = turn.options, turn.notes
    deleted = sum(report.deleted for report in reports)
    if len(turn.errors) >= len(reports) and not deleted and not (purged and purged.count):  # nothing could be done
        raise turn.errors[0]
    return Report(
        source=turn.source.description,
        engine=options.engine,
        dry_run=options.dry_run,
        now=turn.now,
        tables=tuple(reports),
        orphans=purged.count if purged is not None else None,
        orphans_refused=purged.refused if purged is not None else 0,
        duration_s=duration_s,
        complete=not turn.errors
        and not turn.source.partial
        and not any(report.refused for report in reports)
        and not (purged and purged.refused)
        and all(report.complete for report in reports),
        interval_s=options.interval_s,
        next_interval_s=interval.next_interval(
            options.interval_s, _ratio(reports, options), actual_s=options.elapsed_s
        ),
        notes=tuple(notes),
        undo_file=turn.journal.path if turn.journal is not None and turn.journal.kept else None,
        foreign=turn.targets is not None and turn.targets.foreign,
        failure=turn.errors[0] if turn.errors else None,
        scrubbed=options.endpoint,
    )


def _ratio(reports: list[TableReport], options: GcOptions) -> float:
    """The ratio for the interval rule; a dry run's is what the run would have deleted, a scrub has none."""
    if options.endpoint is not None:
        return 0.0
    if options.dry_run:
        return max(report.expired / report.max_entries for report in reports)
    return max(report.ratio for report in reports)


def resolve_endpoint(text: str, source: Source) -> tuple[bytes, ...]:
    """An endpoint's addresses in network order, from an address or a name the source knows (``tables.names``).

    A pod with an IPv4 and an IPv6 address has both. Raises NotFoundError for a name that nothing knows,
    UsageError for one that several things have.
    """
    from ctctl.tables.names import book_of

    with contextlib.suppress(ValueError):
        return (ipaddress.ip_address(text).packed,)
    known: dict[str, None] = {}
    for node in source.all_nodes():
        book = book_of(source, node)
        known.update(dict.fromkeys(book.pods))
        if book.has_pod(text):
            return tuple(
                network.network_address.packed for network in book.networks(f"pod/{text.removeprefix('pod/')}")
            )
    if not known:
        raise NotFoundError(f"no endpoint {text!r} at {source.description}: it has no names; give the address")
    raise NotFoundError(f"no endpoint {text!r} at {source.description}: {unknown_name('endpoint', text, known)}")
