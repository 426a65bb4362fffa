"""The class of a conntrack entry: what counts, statistics and GC are grouped by."""

from __future__ import annotations

from dataclasses import dataclass

from ctctl.model.tuples import Direction


@dataclass(frozen=True, slots=True, order=True)
class EntryClass:
    """What entries are counted by."""

    protocol: int
    direction: Direction
    related: bool
