"""``ct events`` of a node of ours: what the hooks tell as they do it, and what went away between two looks.

The datapath says what it creates and changes, at once and with the hook. Nobody says what GC or the LRU
removes, so a look at the table every interval finds that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ctctl.abi import pins
from ctctl.ct.compare import Compared, Records, load
from ctctl.ct.diff import changed_fields
from ctctl.ct.events import kind_of, refresh_now
from ctctl.ct.report import CtEvent, CtEventKind
from ctctl.events.stream import EventStream
from ctctl.model.event import HookEvent, LookupRecord
from ctctl.model.row import CtRow
from ctctl.tables.query.context import TableContext
from ctctl.tables.query.filter import EVERYTHING, Filter
from ctctl.tables.sources.base import Source

_POLL_S = 0.2


def has_hooks(source: Source) -> bool:
    """Whether the source is a loaded node of ours, whose hooks can tell."""
    return not source.foreign and source.directory is not None and (Path(source.directory) / pins.EVENTS).exists()


def hook_events(
    source: Source, wanted: Filter = EVERYTHING, *, interval_s: float = 1.0, duration_s: float | None = None
) -> Iterator[CtEvent]:
    """Events of the node that ``source`` is, until ``duration_s`` is over, or for ever.

    Raises NotFoundError, KernelError, before any event.
    """
    directory = Path(source.directory or "")
    until = None if duration_s is None else time.monotonic() + duration_s
    opened = ExitStack()
    stream = opened.enter_context(
        EventStream([table.node for table in source.tables if table.node][:1], bpffs=directory.parent.parent)
    )
    return _follow(source, opened, stream, wanted, interval_s, until)


def _follow(  # noqa: PLR0917 - what the events of a node are made of
    source: Source, opened: ExitStack, stream: EventStream, wanted: Filter, interval_s: float, until: float | None
) -> Iterator[CtEvent]:
    with opened:
        offset = time.time() - time.monotonic()
        before = {table.name: load(table) for table in source.tables}
        look_at = time.monotonic() + interval_s
        while until is None or time.monotonic() < until:
            for hook_event in stream.read(_POLL_S):
                yield from events_of(hook_event, wanted, offset)
            if time.monotonic() >= look_at:
                for table in source.tables:
                    refresh_now(table)
                    after = load(table)
                    yield from _gone(before[table.name], after, wanted)
                    before[table.name] = after
                look_at = time.monotonic() + interval_s


def events_of(event: HookEvent, wanted: Filter, offset_s: float = 0.0) -> Iterator[CtEvent]:
    """What one packet did to entries. ``offset_s`` turns the monotonic clock into wall-clock time."""
    for lookup in event.lookups:
        kind = _kind(lookup)
        if kind is None or lookup.after is None:
            continue
        context = TableContext(now=event.now_s, map=lookup.map, node=event.node)
        if wanted.matches(lookup.after, context):
            row = CtRow(lookup.after, now=event.now_s, node=event.node)
            fields = changed_fields(lookup.before, lookup.after) if lookup.before is not None else {}
            yield CtEvent(kind, event.time_ns / 1e9 + offset_s, row, str(event.hook), fields)


def _kind(lookup: LookupRecord) -> CtEventKind | None:
    before, after = lookup.before, lookup.after
    if after is None:
        return None
    return CtEventKind.NEW if before is None else kind_of(before, after)


def _gone(before: Records, after: Records, wanted: Filter) -> Iterator[CtEvent]:
    context, at = after.table.context(), time.time()
    for row in Compared(before, after).gone():
        if wanted.matches(row.entry, context):
            yield CtEvent(CtEventKind.DESTROY, at, row, "snapshot")
