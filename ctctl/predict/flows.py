"""Connections as flows: how many entries are in use, and how many become idle, step by step.

Everything here is of one node with load 1; all of it is proportional to the load.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ctctl.decode.ct import table_name
from ctctl.model.timeouts import Timeouts
from ctctl.model.tuples import TCP
from ctctl.predict.model import DAY_S, ENTRIES_OF, Duration, Kind, Shape, Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Series = NDArray[np.float64]

#: Lifetimes are whole seconds and an entry expires in the second after: half a second more on average.
ROUNDING_S = 0.5
#: The kernel's LRU spares what was looked up since it was written (bpf_lru_list.c). Such an entry passes the
#: inactive list, half the table, twice and the active one once, at half the speed; one that only its first
#: packet ever saw is evicted at the end of the first pass: at a quarter of the age.
SEEN_ONCE_HASTE = 4.0
#: Points of the cumulative distribution per step.
_FINE = 4


@dataclass(slots=True)
class IdleClass:
    """Entries whose connection is over, which expire ``timeout_s`` later.

    ``inflow``: how many there were so far, from 0, an element more than steps. ``haste``: how much
    faster than others they come up for eviction.
    """

    timeout_s: float
    inflow: Series
    haste: float = 1.0


@dataclass(slots=True)
class Related:
    """ICMP related entries: one an address pair and direction, written anew by each connection of the pair.

    ``pairs`` entries, each written ``returning`` times a second; one expires ``timeout_s`` after the
    last time. The kernel counts a rewrite as a use, so an entry that was just made comes up for
    eviction as fast as others that were seen once, and a rewritten one does not.
    """

    pairs: float
    returning: float
    timeout_s: float

    def balance(self, age_s: Series) -> tuple[Series, Series, Series]:
        """Where making, rewriting, eviction at ``age_s`` and expiry balance.

        Entries that are there and not expired; how many a second are evicted, and how many expire.
        """
        rate = self.returning
        made_until = np.minimum(age_s / SEEN_ONCE_HASTE, self.timeout_s)
        rewritten_until = np.minimum(age_s, self.timeout_s)
        made_ends, rewritten_ends = np.exp(-rate * made_until), np.exp(-rate * rewritten_until)
        # Of all writes, those that find the entry there; the others make it.
        rewrites = rate * (1 - made_ends) / (rewritten_ends + 1 - made_ends)
        makes = rate - rewrites
        present = (makes * (1 - made_ends) + rewrites * (1 - rewritten_ends)) / rate
        made_evicted, rewritten_evicted = made_until < self.timeout_s, rewritten_until < self.timeout_s
        evicted = makes * made_ends * made_evicted + rewrites * rewritten_ends * rewritten_evicted
        expiring = makes * made_ends * ~made_evicted + rewrites * rewritten_ends * ~rewritten_evicted
        return self.pairs * present, self.pairs * evicted, self.pairs * expiring


@dataclass(slots=True)
class TableFlows:
    """What one table gets. ``active``: entries of connections that carry packets, by step."""

    name: str
    max_entries: int
    active: Series
    idle: list[IdleClass] = field(default_factory=list)
    related: list[Related] = field(default_factory=list)


def at(inflow: Series, position: Series) -> Series:
    """Cumulative inflow at the end of steps that need not be whole; 0 at -1, before the first."""
    where = np.clip(position + 1, 0, len(inflow) - 1)
    low = where.astype(np.intp)
    high = np.minimum(low + 1, len(inflow) - 1)
    below = inflow[low]
    found: Series = below + (inflow[high] - below) * (where - low)
    return found


def table_flows(workload: Workload, steps: int, step_s: float) -> list[TableFlows]:
    """The flows of every table that the workload touches."""
    tables = {
        f"{kind}{family}": TableFlows(
            table_name(family, TCP if kind == "tcp" else 0),
            workload.tcp_max if kind == "tcp" else workload.any_max,
            np.zeros(steps),
        )
        for family in (4, 6)
        for kind in ("tcp", "any")
    }
    used: set[str] = set()
    for kind in workload.kinds:
        for family, share in ((4, 1 - kind.ipv6), (6, kind.ipv6)):
            if share > 0:
                _add(kind, share, workload.timeouts, tables, family, steps, step_s)
                used |= {f"{'tcp' if kind.protocol == 'tcp' else 'any'}{family}"}
                used |= {f"any{family}"} if kind.pairs else set()
    return [table for key, table in tables.items() if key in used]


def _add(  # noqa: PLR0917 - the parts of one sum
    kind: Kind,
    share: float,
    timeouts: Timeouts,
    tables: dict[str, TableFlows],
    family: int,
    steps: int,
    step_s: float,
) -> None:
    flows, services, related = ENTRIES_OF[kind.pattern]
    table = tables[f"{'tcp' if kind.protocol == 'tcp' else 'any'}{family}"]
    arrivals = _arrivals(kind, steps, step_s) * share
    answered = arrivals * (1 - kind.unanswered)
    departures = _departures(answered, kind.duration, step_s) + _endings(kind, steps, step_s) * share
    active = kind.open * share + np.cumsum(answered) - np.cumsum(departures)
    for count, long, plain in (
        (flows, timeouts.regular_tcp, timeouts.regular_any),
        (services, timeouts.service_tcp, timeouts.service_any),
    ):
        if not count:
            continue
        table.active += active * count
        if kind.protocol == "tcp":
            _idle(table, timeouts.regular_tcp_fin, departures * (1 - kind.lost) * count)
            _idle(table, long, departures * kind.lost * count)
        else:
            _idle(table, plain, departures * count)
        first = timeouts.regular_tcp_syn if kind.protocol == "tcp" else plain
        _idle(table, first, arrivals * kind.unanswered * count, SEEN_ONCE_HASTE)
    for left_s, entries in kind.idle:
        at_start = np.zeros(steps)
        at_start[0] = entries * share
        _idle(table, left_s, at_start)
    if kind.pairs and related and kind.rate > 0:
        first = timeouts.regular_tcp_syn if kind.protocol == "tcp" else timeouts.regular_any
        pairs = kind.pairs * share
        tables[f"any{family}"].related.append(Related(related * pairs, kind.rate * share / pairs, first + ROUNDING_S))


def _endings(kind: Kind, steps: int, step_s: float) -> Series:
    """Of the connections that are open at the start, those that end in each step.

    How old they are is not known, so they last as long again as a new one.
    """
    if not kind.open:
        return np.zeros(steps)
    over = cdf(kind.duration, np.arange(steps + 1, dtype=np.float64) * step_s)
    found: Series = kind.open * np.diff(np.concatenate(([0.0], over[1:])))
    return found


def _idle(table: TableFlows, timeout_s: float, inflow: Series, haste: float = 1.0) -> None:
    """Add to the table's class of that timeout: entries of equal timeout expire in the order they fell idle."""
    if not inflow.any():
        return
    cumulative = np.concatenate(([0.0], np.cumsum(inflow)))
    for known in table.idle:
        if (known.timeout_s, known.haste) == (timeout_s + ROUNDING_S, haste):
            known.inflow += cumulative
            return
    table.idle.append(IdleClass(timeout_s + ROUNDING_S, cumulative, haste))


def _arrivals(kind: Kind, steps: int, step_s: float) -> Series:
    """New connections in each step; a daily swing starts at its mean."""
    middle = (np.arange(steps) + 0.5) * step_s
    found: Series = kind.rate * step_s * (1 + kind.daily * np.sin(2 * np.pi * middle / DAY_S))
    return found


def _departures(arrivals: Series, duration: Duration, step_s: float) -> Series:
    """Connections that end in each step: arrivals, spread over their step, convolved with the duration."""
    steps = len(arrivals)
    fine = np.arange(steps * _FINE + 1, dtype=np.float64) * (step_s / _FINE)
    over = cdf(duration, fine)
    # G, the integral of the distribution; its second difference is the share that ends j steps later.
    integral = np.concatenate(([0.0], np.cumsum((over[1:] + over[:-1]) / 2) * (step_s / _FINE)))[::_FINE] / step_s
    share = np.diff(np.concatenate(([0.0], np.diff(integral))))
    size = 1 << (2 * steps - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(arrivals, size) * np.fft.rfft(share, size), size)[:steps]
    found: Series = np.maximum(product, 0.0)
    return found


def cdf(duration: Duration, points: Series) -> Series:
    """``duration.cdf`` of many times, none below 0: a function call for each costs more than all the rest of a step."""
    if duration.shape is Shape.EMPIRICAL:
        return np.searchsorted(duration.samples, points, side="right") / len(duration.samples)
    if duration.shape is Shape.EXPONENTIAL and duration.scale_s > 0:
        with np.errstate(over="ignore"):  # beyond all numbers all are over
            return -np.expm1(-points / duration.scale_s)
    if duration.shape is Shape.CONSTANT:
        return (points >= duration.scale_s).astype(np.float64)
    return np.fromiter((duration.cdf(float(t)) for t in points), np.float64, len(points))
