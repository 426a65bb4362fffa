"""One garbage collection from end to end: open, decide, collect every family, report."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ctctl.errors import CtctlError, KernelError, NotFoundError, UsageError
from ctctl.gc import batch, interval, orphans, perkey, walk
from ctctl.gc.audit import recording
from ctctl.gc.clock import now_of
from ctctl.gc.explain import Scrub, explain
from ctctl.gc.job import BATCH_SIZE, Engine, Job, Recorder
from ctctl.gc.limit import RateLimit
from ctctl.gc.report import EngineName, Explanation, Report, TableReport
from ctctl.gc.tables import ForeignTablesError, Table, TableSet, open_tables
from ctctl.gc.tally import Tally
from ctctl.kernel.stopping import Stop
from ctctl.model.clock import Clock
from ctctl.node.record import MAP_NAME, read_record

ENGINES: dict[EngineName, Engine] = {
    EngineName.BATCH: batch.collect,
    EngineName.KERNEL: walk.collect,
    EngineName.PER_KEY: perkey.collect,
}


@dataclass(frozen=True, slots=True)
class GcOptions:
    """What a run is to do. ``now``: None for the tables' clock, ``clock``, or the one found.

    ``rate``: deletions a second; ``endpoint`` (an address or a name of the node's record) scrubs instead of collecting;
    ``interval_s`` is the interval this run was due by, ``elapsed_s`` what passed since the last one.
    """

    engine: EngineName = EngineName.BATCH
    dry_run: bool = False
    now: int | None = None
    clock: Clock | None = None
    rate: float | None = None
    endpoint: str | None = None
    orphans: bool = False
    audit: Path | None = None
    undo: Path | None = None
    only: str | None = None
    allow_foreign: bool = False
    recheck: bool = True
    batch_size: int = BATCH_SIZE
    interval_s: float = interval.START_S
    elapsed_s: float = 0.0


def _now(tables: TableSet, options: GcOptions) -> tuple[int, list[str]]:
    if options.now is not None:
        return options.now, []
    return now_of(tables, options.clock, dry_run=options.dry_run)


@contextlib.contextmanager
def opened(path: Path, options: GcOptions) -> Iterator[TableSet]:
    """The tables of a run: read-only in a dry run; another owner's for writing only when allowed.

    Raises ForeignTablesError, NotFoundError, LayoutError, KernelError.
    """
    with open_tables(path, read_only=options.dry_run, only=options.only) as tables:
        if tables.foreign and not options.dry_run and not options.allow_foreign:
            raise ForeignTablesError(
                f"{path} is no node of ctctl: its tables are changed only with --allow-foreign (--dry-run needs none)"
            )
        yield tables


def run(path: Path, options: GcOptions, stop: Stop) -> Report:
    """Collect the tables at ``path``. Setting ``stop`` ends the run early with a true report.

    Raises CtctlError when nothing could be done; a failure in one table is a note in the report.
    """
    with opened(path, options) as tables:
        return collect(tables, options, stop)


def collect(tables: TableSet, options: GcOptions, stop: Stop, progress: Callable[[int], None] | None = None) -> Report:
    """One run over open tables. Families run side by side: a slow or failing one takes nothing from the other.

    ``progress`` is told how many more entries were looked at, from any thread.
    """
    started = time.monotonic()
    now, notes = _now(tables, options)
    address = resolve_endpoint(options.endpoint, tables.path) if options.endpoint is not None else None
    families = list(dict.fromkeys(table.family for table in tables.tables))
    rate = options.rate / len(families) if options.rate is not None else None
    with recording(options.audit, options.undo, str(tables.path), now) as recorder:

        def job() -> Job:
            made = _job(options, now, address=address, rate=rate, stop=stop, recorder=recorder)
            return replace(made, progress=progress)

        def family(name: str) -> list[TableReport]:
            mine, turn = [table for table in tables.tables if table.family == name], job()
            reports = [_collect_table(table, options.engine, turn, notes) for table in mine]
            return [report for report in reports if report is not None]

        with ThreadPoolExecutor(len(families), "ctctl-gc") as pool:
            reports = [report for result in pool.map(family, families) for report in result]
        if not reports:
            raise CtctlError("; ".join(notes))
        purged = _orphans(tables, options, job(), notes)
    return Report(
        source=str(tables.path),
        engine=options.engine,
        dry_run=options.dry_run,
        now=now,
        tables=tuple(reports),
        orphans=purged,
        duration_s=time.monotonic() - started,
        complete=len(reports) == len(tables.tables) and all(report.complete for report in reports),
        interval_s=options.interval_s,
        next_interval_s=interval.next_interval(
            options.interval_s, _ratio(reports, options), actual_s=options.elapsed_s
        ),
        notes=tuple(notes),
        scrubbed=options.endpoint,
    )


def _ratio(reports: list[TableReport], options: GcOptions) -> float:
    """The ratio for the interval rule; a dry run's is what the run would have deleted, a scrub has none."""
    if options.endpoint is not None:
        return 0.0
    if options.dry_run:
        return max(report.expired / report.max_entries for report in reports)
    return max(report.ratio for report in reports)


def _job(
    options: GcOptions,
    now: int,
    *,
    address: bytes | None,
    rate: float | None,
    stop: Stop,
    recorder: Recorder | None,
) -> Job:
    return Job(
        now=now,
        stop=stop,
        limit=RateLimit(rate, stop),
        dry_run=options.dry_run,
        recorder=recorder,
        address=address,
        batch_size=options.batch_size,
        recheck=options.recheck,
    )


def _collect_table(table: Table, engine: EngineName, job: Job, notes: list[str]) -> TableReport | None:
    started = time.monotonic()
    if job.address is not None and len(job.address) != table.layout.address:
        # An IPv4 pod has nothing in the IPv6 tables: figures for them would be a walk for nothing.
        return _table_report(table, Tally(), started)
    try:
        tally = ENGINES[engine](table, job)
    except KernelError as error:
        if engine is not EngineName.BATCH or error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, 524):
            notes.append(f"{table.name}: {error}")
            return None
        notes.append(f"{table.name}: no batch operations here, collected key by key")
        tally = perkey.collect(table, job)
    except CtctlError as error:
        notes.append(f"{table.name}: {error}")
        return None
    return _table_report(table, tally, started)


def _table_report(table: Table, tally: Tally, started: float) -> TableReport:
    return TableReport(
        map=table.name,
        family=table.family,
        protocol=table.protocol,
        max_entries=table.map.info.max_entries,
        rows=tally.rows(table.name, table.family),
        nat_deleted=tally.nat_deleted,
        resets=tally.resets,
        complete=tally.complete,
        duration_s=time.monotonic() - started,
    )


def _orphans(tables: TableSet, options: GcOptions, job: Job, notes: list[str]) -> int | None:
    if not options.orphans and job.address is None:
        return None
    if job.address is None:
        notes.extend(
            f"{family}: orphans cannot be told without both conntrack tables"
            for family in orphans.families_without_ct(tables)
        )
    return orphans.purge(tables, job)


def explanations(path: Path, options: GcOptions) -> list[Explanation]:
    """Why the entries at ``path`` would go or stay, table by table. Reads only."""
    with opened(path, replace(options, dry_run=True)) as tables:
        now, _ = _now(tables, replace(options, dry_run=True))
        scrubbed = None
        if options.endpoint is not None:
            scrubbed = Scrub(options.endpoint, resolve_endpoint(options.endpoint, tables.path))
        return [explanation for table in tables.tables for explanation in explain(table, now, scrubbed)]


def _named_addresses(text: str, path: Path) -> list[bytes]:
    """The addresses of a pod by name, as what lies beside the tables has them; empty where nothing does."""
    from ctctl.tables.names import book_of
    from ctctl.tables.sources.base import SourceOptions
    from ctctl.tables.sources.live import open_directory

    with contextlib.suppress(CtctlError), open_directory(path if path.is_dir() else path.parent, SourceOptions()) as at:
        return [network.network_address.packed for network in book_of(at).networks(f"pod/{text}")]
    return []


def resolve_endpoint(text: str, path: Path) -> bytes:
    """An endpoint's address in network order, from an address or a name the node or its agent knows.

    Raises NotFoundError for a name that neither knows, UsageError for one of several addresses: a scrub of
    one of them would leave the other's entries.
    """
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(text).packed
    directory = path if path.is_dir() else path.parent
    record = read_record(directory / MAP_NAME)
    known = {name: address for address, name in record.endpoints.items()} if record is not None else {}
    if text not in known:
        found = _named_addresses(text, path)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(str(ipaddress.ip_address(one)) for one in found)
            raise UsageError(f"{text!r} has several addresses ({listed}): scrub one after the other")
        names = f"it knows {', '.join(sorted(known))}" if known else "it has no record of names; give the address"
        raise NotFoundError(f"no endpoint {text!r} on the node at {path}: {names}")
    return ipaddress.ip_address(known[text]).packed
