"""The filter language on what probes see: which connections a trace by probes shows."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.recent import RecentSet
from ctctl.model.tuples import Direction
from ctctl.tables.query.context import Resolver, TableContext
from ctctl.tables.query.filter import Filter
from ctctl.trace.probe_event import ProbeEvent


class ProbeFilter:
    """Whether a connection is wanted: yes from its first packet on that the filter lets through.

    A packet passes if one of the entries it could find does; without entries, if its tuple does, as if it
    opened the connection.
    """

    def __init__(self, wanted: Filter, names: Resolver | None = None) -> None:
        """Raises UsageError for a filter with a name that stands for nothing: nobody is to wait for that."""
        wanted.check(names)
        self._wanted = wanted
        self._names = names
        self._connections: RecentSet[int | None] = RecentSet()

    def __call__(self, event: ProbeEvent) -> bool:
        """Whether to show ``event``. Raises UsageError for a filter that cannot be bound."""
        if self._wanted.node is None or event.connection in self._connections:
            return True
        now = event.time_ns // 1_000_000_000
        table = TableContext(family=event.flow.src.version, now=now, names=self._names)
        if not any(self._wanted.matches(entry, table) for entry in _entries(event)):
            return False
        self._connections.add(event.connection)
        return True


def _entries(event: ProbeEvent) -> Iterator[CtEntry]:
    known = (*event.entries, *event.behind)
    yield from known or (_pretended(event),)


def _pretended(event: ProbeEvent) -> CtEntry:
    return CtEntry(
        map=None,
        tuple=event.flow.reversed() if event.reply else event.flow,
        direction=Direction.OUT,
        related=False,
        tuple_flags=0,
        flags=CtFlags(0),
        lifetime=event.time_ns // 1_000_000_000,
        rev_nat=0,
        src_sec_id=event.identity or 0,
        tx_flags_seen=event.tcp_flags or 0,
        rx_flags_seen=0,
        last_tx_report=0,
        last_rx_report=0,
        backend_id=None,
    )
