"""The filter language on events: which connections a live trace shows when no packet is named."""

from __future__ import annotations

from collections.abc import Iterator

from ctctl.model.entry import CtEntry, CtFlags
from ctctl.model.event import HookEvent
from ctctl.model.recent import RecentSet
from ctctl.model.tuples import Direction
from ctctl.tables.query.context import Resolver, TableContext
from ctctl.tables.query.filter import Filter


class EventFilter:
    """Whether a connection is wanted: yes from its first event on that the filter lets through.

    An event passes if one of the entries it found or wrote does; without entries, if its packet's tuple
    does, as if it opened the connection.
    """

    def __init__(self, wanted: Filter, names: Resolver | None = None) -> None:
        """Raises UsageError for a filter with a name that stands for nothing: nobody is to wait for that."""
        wanted.check(names)
        self._wanted = wanted
        self._names = names
        self._connections: RecentSet[int] = RecentSet()

    def __call__(self, event: HookEvent, connection: int) -> bool:
        """Whether to show ``event`` of that connection. Raises UsageError for a filter that cannot be bound."""
        if self._wanted.node is None or connection in self._connections:
            return True
        table = TableContext(family=event.tuple_in.src.version, now=event.now_s, names=self._names)
        if not any(self._wanted.matches(entry, table) for entry in _entries(event)):
            return False
        self._connections.add(connection)
        return True


def _entries(event: HookEvent) -> Iterator[CtEntry]:
    found = False
    for record in event.lookups:
        for entry in (record.after, record.before):
            if entry is not None:
                found = True
                yield entry
    if not found:
        yield _pretended(event)


def _pretended(event: HookEvent) -> CtEntry:
    return CtEntry(
        map=None,
        tuple=event.tuple_in,
        direction=Direction.OUT,
        related=False,
        tuple_flags=0,
        flags=CtFlags(0),
        lifetime=event.now_s,
        rev_nat=event.rev_nat or 0,
        src_sec_id=event.src_identity,
        tx_flags_seen=event.tcp_flags or 0,
        rx_flags_seen=0,
        last_tx_report=0,
        last_rx_report=0,
        backend_id=event.backend_id,
    )
