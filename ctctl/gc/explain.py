"""Why entries would go or stay: for each class the time since expiry or left, and the timeout behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ctctl.gc.report import Explanation
from ctctl.model.clock import Clock
from ctctl.model.entry import CtFlags, state_of
from ctctl.model.entry_class import EntryClass
from ctctl.model.tuples import TCP, Direction
from ctctl.tables import classes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A finer class number: class << 5 | selected << 4 | state bits << 1 | expired.
_CLOSING_MASK = 3
_SEEN_SHIFT = 2
_KTIME = Clock()


def timeout_of(entry_class: EntryClass, flags: int) -> str:
    """Name of the timeout that gave an entry its lifetime, from its flags (docs/reference/datapath.md)."""
    service = entry_class.direction is Direction.SVC
    if entry_class.related:
        return "regular-tcp-syn or regular-any"  # a copy of its flow's first lifetime, or refreshed by an ICMP error
    if entry_class.protocol != TCP:
        return "service-any" if service else "regular-any"
    if flags & _CLOSING_MASK == _CLOSING_MASK:
        return "regular-tcp-fin"
    if flags & CtFlags.SeenNonSyn:
        return "service-tcp" if service else "regular-tcp"
    return "regular-tcp-syn"


@dataclass(frozen=True, slots=True)
class Scrub:
    """A scrub: everything of an endpoint's addresses goes, expired or not. ``name`` is what the user said."""

    name: str
    addresses: tuple[bytes, ...]

    def of(self, keys: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which entries have one of the addresses at an end (network order); none of the other IP version."""
        return classes.with_address(keys, self.addresses)


def explain_rows(
    name: str,
    rows: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    now: int | None,
    scrub: Scrub | None = None,
    clock: Clock = _KTIME,
) -> list[Explanation]:
    """The classes of the entries in ``rows`` (keys, values), those that go first, the biggest first.

    ``now``: None where it is unknown, of which only a scrub can be told.
    """
    found: dict[int, Explanation] = {}
    for keys, values in rows:
        if not len(keys):
            continue
        for number, count, low, high in _groups(keys, values, now, scrub, clock):
            known = found.get(number)
            if known is None:
                found[number] = _explanation(name, number, count, low, high, scrub=scrub)
                continue
            found[number] = replace(
                known,
                count=known.count + count,
                least_s=min(known.least_s, low) if known.least_s is not None and low is not None else None,
                most_s=max(known.most_s, high) if known.most_s is not None and high is not None else None,
            )
    return sorted(found.values(), key=lambda e: (not e.goes, -e.count))


def _groups(
    keys: NDArray[np.uint8], values: NDArray[np.uint8], now: int | None, scrub: Scrub | None, clock: Clock
) -> list[tuple[int, int, int | None, int | None]]:
    """(fine class number, count, least and most seconds since or until expiry, None where now is) of a batch."""
    import numpy as np

    flags = classes.entry_flags(values)
    left = classes.in_seconds(classes.lifetimes(values).astype(np.int64), clock) - clock.seconds(now or 0)
    over = classes.expired(values, now) if now is not None else np.zeros(len(values), np.bool_)
    state = (flags & _CLOSING_MASK) | ((flags & CtFlags.SeenNonSyn) != 0).astype(np.uint16) << _SEEN_SHIFT
    chosen = scrub.of(keys) if scrub is not None else over
    numbers = (classes.class_numbers(keys).astype(np.int64) << 5) | (chosen << 4) | (state << 1) | over
    order = np.argsort(numbers, kind="stable")
    ordered, distance = numbers[order], np.abs(left)[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(starts, len(ordered)))
    groups = zip(ordered[starts].tolist(), counts.tolist(), strict=True)
    if now is None:
        return [(number, count, None, None) for number, count in groups]
    lows, highs = np.minimum.reduceat(distance, starts), np.maximum.reduceat(distance, starts)
    spans = zip(lows.tolist(), highs.tolist(), strict=True)
    return [(*group, *span) for group, span in zip(groups, spans, strict=True)]


def _explanation(
    map_name: str, number: int, count: int, low: int | None, high: int | None, *, scrub: Scrub | None
) -> Explanation:
    state = number >> 1 & 7
    flags = state & _CLOSING_MASK | (CtFlags.SeenNonSyn if state >> _SEEN_SHIFT else 0)
    entry_class = classes.class_of(number >> 5)
    return Explanation(
        map_name,
        entry_class,
        state_of(flags),
        bool(number >> 4 & 1),
        count,
        low,
        high,
        timeout_of(entry_class, flags),
        scrub.name if scrub is not None else None,
        bool(number & 1),
    )
