"""What a node's own files say about it: version, table sizes, timeouts, clock; each with where that stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ctctl.model.clock import Clock

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Fact(Generic[Value]):
    """A value and the evidence for it, in words for people ("status --verbose")."""

    value: Value
    evidence: str
    #: of two facts the one of lower rank is believed: 0 the kernel's own, 1 what runs, 2 what was configured
    rank: int = 1


@dataclass(slots=True)
class NodeFacts:
    """Facts of one node. What nothing says is absent or None.

    ``capacity`` and ``pressure`` (0 to 1) are by table name, ``timeouts_s`` by the names of
    ``model.timeouts.Timeouts``. ``modes``: how its datapath is configured, by the keys of ``modes.SETTINGS``.
    """

    version: Fact[str] | None = None
    node: Fact[str] | None = None
    clock: Clock | None = None
    gc_interval_s: Fact[float] | None = None
    #: CLOCK_MONOTONIC in ns when the agent last said that it is alive, which it does every second
    alive_ns: Fact[int] | None = None
    #: what added to that clock gives the time since 1970, in units of 512 ns
    utime_offset: Fact[int] | None = None
    #: when the files were made, in seconds since 1970
    made_unix: Fact[float] | None = None
    #: how long the machine was up, in seconds: not less than the first, not more than the second
    uptime_s: Fact[tuple[float, float]] | None = None
    capacity: dict[str, Fact[int]] = field(default_factory=dict)
    pressure: dict[str, Fact[float]] = field(default_factory=dict)
    timeouts_s: dict[str, Fact[int]] = field(default_factory=dict)
    modes: dict[str, Fact[str]] = field(default_factory=dict)

    def said(self) -> bool:
        """Whether there is anything in it."""
        return self != NodeFacts(made_unix=self.made_unix)

    def merge(self, other: NodeFacts) -> None:
        """Add what another file of the same node says; what is known already stays."""
        self.version = self.version or other.version
        self.node = self.node or other.node
        self.clock = self.clock or other.clock
        self.gc_interval_s = self.gc_interval_s or other.gc_interval_s
        self.alive_ns = self.alive_ns or other.alive_ns
        self.utime_offset = self.utime_offset or other.utime_offset
        self.made_unix = self.made_unix or other.made_unix
        self.uptime_s = self.uptime_s or other.uptime_s
        for mine, theirs in ((self.capacity, other.capacity), (self.timeouts_s, other.timeouts_s)):
            for name, fact in theirs.items():
                if name not in mine or fact.rank < mine[name].rank:
                    mine[name] = fact
        self.add_modes(other.modes)
        self.pressure = {**other.pressure, **self.pressure}

    def add_modes(self, modes: dict[str, Fact[str]]) -> None:
        """Add settings; of two that are told the better one stays."""
        for name, fact in modes.items():
            if name not in self.modes or fact.rank < self.modes[name].rank:
                self.modes[name] = fact
