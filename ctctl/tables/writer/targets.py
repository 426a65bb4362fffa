"""Tables opened for writing, once it is decided whose they are.

A source has its tables open for reading only. Whose a table is says the map's id, which is in the record
of the node that made it (``node/owner.py``); it is then opened for writing by that id, so that nothing
that was read under a path can be another map by the time it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from ctctl.errors import CtctlError, UsageError
from ctctl.kernel.map import Map
from ctctl.node.owner import own_maps
from ctctl.tables.sources.base import CtTable, Source


class ForeignTablesError(CtctlError):
    """The tables belong to another program and may not be changed without ``--allow-foreign``."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class Target:
    """One conntrack table open for writing, and its family's SNAT table, if there is one."""

    table: CtTable
    map: Map
    nat: Map | None = None

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def nat_name(self) -> str:
        return self.nat.name if self.nat is not None else ""


def private_target(table: CtTable) -> Target:
    """The target of a table whose maps this process made for itself and shows nobody: it need not be asked whose."""
    assert table.live is not None
    return Target(table, table.live, table.nat)


@dataclass(slots=True)
class Targets:
    """The tables of a source, open for writing; a context manager. ``foreign``: another program's, and allowed."""

    source: Source
    foreign: bool
    tables: list[Target] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)

    def maps(self) -> dict[str, Map]:
        """Every map that may be written, conntrack and SNAT, by its name in journals."""
        found = {target.name: target.map for target in self.tables}
        return found | {target.nat_name: target.nat for target in self.tables if target.nat is not None}

    def of(self, table: CtTable) -> Target:
        """The target of a table of the source. Raises KeyError."""
        for target in self.tables:
            if target.table is table:
                return target
        raise KeyError(table.name)

    def close(self) -> None:
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def check_owner(source: Source, *, allow_foreign: bool, owned: Callable[[], dict[int, str]] = own_maps) -> bool:
    """Whether another program's tables are among those of ``source``; nothing is opened for writing.

    Raises UsageError unless all are live and one node's, ForeignTablesError for another's tables without
    ``allow_foreign``.
    """
    require_live(source)
    ids = owned()
    strange = next((known for known in _maps_of(source) if known.info.id not in ids), None)
    if strange is not None and not allow_foreign:
        raise ForeignTablesError(
            f"{source.description} belongs to another program: {strange.name} is in no node that this ctctl loaded"
            " (a live Cilium's?); add --allow-foreign to change it"
        )
    return strange is not None


def require_live(source: Source) -> None:
    """Raise UsageError unless every table of ``source`` is live, and all are one node's.

    A journal knows a table by its name only: of two nodes' tables of one name, one would take the other's entries.
    """
    if not source.tables or any(table.live is None for table in source.tables):
        raise UsageError(
            f"{source.description} is no live table: nothing can be changed there (ct list and gc --dry-run read it)"
        )
    if len(source.nodes()) > 1 or len({table.name for table in source.tables}) < len(source.tables):
        raise UsageError(f"{source.description}: several nodes; change one after the other (one --from, or --node)")


def ids_of(source: Source) -> dict[str, int]:
    """The ids of a source's live conntrack tables by name: what they are whatever path they are found under."""
    return {table.name: table.live.info.id for table in source.tables if table.live is not None}


def _maps_of(source: Source) -> Iterator[Map]:
    for table in source.tables:
        if table.live is not None:
            yield table.live
        if table.nat is not None:
            yield table.nat


def open_targets(source: Source, *, allow_foreign: bool) -> Targets:
    """Open the tables of ``source`` for writing. Raises what ``check_owner`` does, KernelError, NotFoundError."""
    targets = Targets(source, check_owner(source, allow_foreign=allow_foreign))
    try:
        nats: dict[int, Map] = {}
        for table in source.tables:
            assert table.live is not None
            nat = table.nat
            if nat is not None and nat.info.id not in nats:
                nats[nat.info.id] = _for_writing(targets, nat)
            writable = _for_writing(targets, table.live)
            targets.tables.append(Target(table, writable, nats[nat.info.id] if nat is not None else None))
    except BaseException:
        targets.close()
        raise
    return targets


def _for_writing(targets: Targets, opened: Map) -> Map:
    return targets.resources.enter_context(Map.open_id(opened.info.id, opened.name, read_only=False))
