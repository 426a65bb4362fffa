"""The ports that SNAT gives out on a node: by the node's own words, else by the entries, and then it is said.

Cilium takes them from above the NodePort range up to the last port (``docs/reference/real-nodes.md``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from ctctl.tables.sources.base import Source
from ctctl.tables.sources.modes import snat_first_port

#: What the datapath takes ports from unless its node says otherwise: above the default NodePort range (bpf/lib/snat.h).
FIRST_PORT: Final = 32768
LAST_PORT: Final = 65535
#: Ranges that are known again by the ports that are taken, the narrowest first: what Linux calls ephemeral,
#: Cilium's own, and what an egress gateway with a wide range has.
_KNOWN = ((FIRST_PORT, 60999), (FIRST_PORT, LAST_PORT), (1024, LAST_PORT), (0, LAST_PORT))
#: of the narrowest range that is guessed
SMALLEST: Final = min(last - first + 1 for first, last in _KNOWN)
#: A range of which less is taken is not known again by it.
SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class PortRange:
    """First and last port, and who says so; ``said`` is False where it follows from the entries or is the default."""

    first: int
    last: int
    evidence: str
    said: bool

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


DEFAULT: Final = PortRange(FIRST_PORT, LAST_PORT, "Cilium's default: the source does not say it", said=False)


def range_of(source: Source, node: str | None) -> PortRange | None:
    """What a node says of its range; None where it does not."""
    fact = snat_first_port(source.facts(node).modes)
    if fact is not None:
        return PortRange(fact.value, LAST_PORT, fact.evidence, said=True)
    home, _ = source.home_of(node)
    if home.directory is not None and not home.foreign:
        return PortRange(FIRST_PORT, LAST_PORT, "ctctl's own datapath", said=True)
    return None


def range_by(taken: Collection[int], told: PortRange | None) -> PortRange:
    """The range that ports to one remote end are taken from: what is told, else the one they fill, else the default."""
    if told is not None:
        return told
    for first, last in _KNOWN if taken else ():
        if first <= min(taken) and max(taken) <= last:
            if len(set(taken)) >= SHARE * (last - first + 1):
                return PortRange(first, last, "the entries fill it: the source does not say it", said=False)
            break
    return DEFAULT
