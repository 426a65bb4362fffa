"""What the ``ct`` commands find out: a connection, statistics, heavy hitters, differences, events."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctctl.model.nat import NatEntry
    from ctctl.model.row import CtRow
    from ctctl.model.service import Backend
    from ctctl.model.tuples import FlowTuple


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a connection and its role: service, out, in or related."""

    role: str
    row: CtRow


@dataclass(frozen=True, slots=True)
class Connection:
    """Every entry of one connection, joined. ``why`` is one sentence, ``notes`` are what else is worth knowing.

    ``backend`` is None where the node's table has no backend ``backend_id`` (any more).
    """

    flow: FlowTuple
    state: str
    why: str
    members: tuple[Member, ...] = ()
    nat: tuple[NatEntry, ...] = ()
    backend: Backend | None = None
    #: the frontend's address and port, its name where known
    service: str | None = None
    backend_id: int | None = None
    notes: tuple[str, ...] = ()


#: Upper ends of the histograms' buckets: bucket n holds 2^(n-1) to 2^n - 1 seconds, bucket 0 zero.
BUCKETS = 40


@dataclass(frozen=True, slots=True)
class TableStats:
    """Counts of one table. Without a now, ``expired`` and the histograms of time left are None."""

    map: str
    node: str | None
    entries: int
    capacity: int | None
    by_protocol: dict[str, int]
    by_direction: dict[str, int]
    by_state: dict[str, int]
    related: int
    expired: int | None
    #: seen one way only, and one side closed; not yet expired where that is known
    half_open: int
    half_closed: int
    flags: dict[str, int]
    remaining: tuple[int, ...] | None
    overdue: tuple[int, ...] | None
    idle: tuple[int, ...] | None
    #: "kernel": counted in one pass inside the kernel, "batch": from batches
    engine: str = "batch"

    @property
    def pressure(self) -> float | None:
        """Entries by capacity, None where the capacity is unknown."""
        return None if not self.capacity else self.entries / self.capacity


@dataclass(frozen=True, slots=True)
class Talker:
    """One line of ``ct top``. ``rate`` is new entries a second, with ``--watch``.

    ``node``: whose number the key is, where several nodes were read and each numbers its own.
    """

    key: str
    name: str | None
    entries: int
    expired: int | None
    packets: int | None
    bytes: int | None
    rate: float | None = None
    node: str | None = None


class Change(StrEnum):
    """How an entry differs between two tables."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that differs; ``fields`` are (before, after) by name for a changed one."""

    change: Change
    row: CtRow
    fields: dict[str, tuple[object, object]] = field(default_factory=dict)


class CtEventKind(StrEnum):
    """What happened to an entry."""

    NEW = "NEW"
    UPDATE = "UPDATE"
    CLOSING = "CLOSING"
    DESTROY = "DESTROY"


@dataclass(frozen=True, slots=True)
class CtEvent:
    """One event of ``ct events``. ``time`` is wall-clock seconds; ``cause`` a hook, or "snapshot"."""

    kind: CtEventKind
    time: float
    row: CtRow
    cause: str
    fields: dict[str, tuple[object, object]] = field(default_factory=dict)
