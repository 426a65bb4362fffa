"""What garbage collection tells: reports, explanations, the result of an undo."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ctctl.errors import CtctlError
from ctctl.model.entry import CtState
from ctctl.model.entry_class import EntryClass


class EngineName(StrEnum):
    """Values of ``--engine``."""

    BATCH = "batch"
    KERNEL = "kernel"
    PER_KEY = "per-key"


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one class of entries in one table.

    ``alive``: not expired; ``expired``: expired when tested; ``deleted``: of these, deleted;
    ``skipped``: of these, refreshed, gone before the delete, or refused by the kernel. A dry run deletes
    and skips nothing.
    """

    map: str
    family: str
    entry_class: EntryClass
    alive: int
    expired: int
    deleted: int
    skipped: int


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table's part of a run. ``protocol`` is the metrics' label: ``TCP`` or ``non-TCP``.

    ``refused``: deletions, of SNAT entries too, that the kernel refused: those entries stayed (``skipped`` has
    the conntrack entries among them). ``complete``: it was gone through to its end. ``node``: whose it is, where
    that is known.
    """

    map: str
    family: str
    protocol: str
    max_entries: int
    rows: tuple[Row, ...]
    nat_deleted: int
    resets: int
    complete: bool
    duration_s: float
    refused: int = 0
    node: str | None = None

    @property
    def alive(self) -> int:
        return sum(row.alive for row in self.rows)

    @property
    def expired(self) -> int:
        return sum(row.expired for row in self.rows)

    @property
    def deleted(self) -> int:
        return sum(row.deleted for row in self.rows)

    @property
    def skipped(self) -> int:
        return sum(row.skipped for row in self.rows)

    @property
    def ratio(self) -> float:
        """deleted / max_entries: what the interval rule looks at."""
        return self.deleted / self.max_entries if self.max_entries else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run. ``now`` is in units of the tables' clock; times are in seconds.

    ``complete`` is False after Ctrl-C or a failure, and where the kernel refused a deletion: every figure then still
    counts what was done.
    ``undo_file`` is the journal of what was deleted, ``failure`` what ended the run; ``foreign``: the
    tables are another program's.
    ``orphans`` is None unless orphans were asked for; in a dry run it counts those found.
    """

    source: str
    engine: EngineName
    dry_run: bool
    now: int
    tables: tuple[TableReport, ...]
    orphans: int | None
    duration_s: float
    complete: bool
    interval_s: float
    next_interval_s: float
    notes: tuple[str, ...] = ()
    undo_file: Path | None = None
    foreign: bool = False
    failure: CtctlError | None = None
    #: whose entries were scrubbed, expired or not: ``expired`` counts them, ``alive`` all others
    scrubbed: str | None = None
    #: of the orphans, those that the kernel refused to delete
    orphans_refused: int = 0
    #: the nodes that its source has names of, be it that nothing was told of one
    nodes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for table in self.tables for row in table.rows)

    @property
    def ratio(self) -> float:
        """The greatest share of deleted entries over the tables (docs/reference/abi.md, "GC facts")."""
        return max((table.ratio for table in self.tables), default=0.0)

    @property
    def deleted(self) -> int:
        return sum(table.deleted for table in self.tables)

    @property
    def nat_deleted(self) -> int:
        return sum(table.nat_deleted for table in self.tables)

    @property
    def refused(self) -> int:
        return sum(table.refused for table in self.tables) + self.orphans_refused


@dataclass(frozen=True, slots=True)
class Explanation:
    """One class of entries with one fate.

    ``least_s`` and ``most_s``: seconds since expiry (``expired``) or left (not); None where a scrub tells of a table
    whose time is unknown. ``timeout``: the datapath's timeout that set the lifetime, by its node file name
    (docs/reference/abi.md, "Timeouts").
    """

    map: str
    entry_class: EntryClass
    state: CtState
    goes: bool
    count: int
    least_s: int | None
    most_s: int | None
    timeout: str
    #: whose entries a scrub takes, expired or not
    scrubbed: str | None = None
    expired: bool = False
    node: str | None = None

    @property
    def why(self) -> str:
        """One sentence for an operator."""
        span = f"{self.least_s} s" if self.least_s == self.most_s else f"{self.least_s} to {self.most_s} s"
        if self.scrubbed is not None:
            whose = f"{'of' if self.goes else 'not of'} {self.scrubbed}"
            if self.least_s is None:
                return f"{whose}; what is left of {self.timeout} is unknown"
            age = f"expired {span} ago" if self.expired else f"{span} left of {self.timeout}"
            return f"{whose}; {age}"
        if self.goes:
            return f"expired {span} ago, {self.timeout} ran out without a packet"
        return f"{span} left of {self.timeout}"
