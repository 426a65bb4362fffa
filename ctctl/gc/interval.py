"""When to collect next: the interval rule of docs/reference/abi.md ("GC facts"). Pure."""

from __future__ import annotations

import math

START_S = 300.0
MINIMUM_S = 10.0
MAXIMUM_S = 12 * 3600.0

#: Above this share of deleted entries the interval shrinks, below the other one it grows.
SHRINK_ABOVE = 0.25
GROW_BELOW = 0.05
SHRINK_LIMIT = 0.9
GROWTH = 1.5


def early_ratio(ratio: float, actual_s: float, expected_s: float) -> float:
    """The ratio of a run that came early, as if it had come on time: x expected / actual.

    A run that came on time or late, or whose elapsed time is unknown (0), keeps its ratio.
    """
    if 0 < actual_s < expected_s:
        return ratio * expected_s / actual_s
    return ratio


def next_interval(interval_s: float, ratio: float, *, actual_s: float = 0.0) -> float:
    """Seconds until the next run, after one that was due ``interval_s`` after its predecessor.

    ``ratio`` is the greatest deleted / max_entries over the tables; ``actual_s`` the time that had
    really passed since the previous run (0: unknown). Raises ValueError for a negative ratio.
    """
    if ratio < 0:
        raise ValueError(f"a share of deleted entries cannot be {ratio}")
    ratio = early_ratio(ratio, actual_s, interval_s)
    if ratio == 0:
        return interval_s
    if ratio > SHRINK_ABOVE:
        # Half a second rounds up, as the original's rounding does; Python's round() would go to the even one.
        return max(MINIMUM_S, math.floor(interval_s * (1 - min(ratio, SHRINK_LIMIT)) + 0.5))
    if ratio < GROW_BELOW:
        return min(MAXIMUM_S, interval_s * GROWTH)
    return interval_s
