"""What time it is in the tables' own clock: the one question that GC must not get wrong."""

from __future__ import annotations

from ctctl.errors import CtctlError
from ctctl.gc.tables import TableSet
from ctctl.kernel.clock import jiffies_units, monotonic_s
from ctctl.model.clock import Clock


def now_of(tables: TableSet, clock: Clock | None, *, dry_run: bool) -> tuple[int, list[str]]:
    """Now, in units of the tables' clock, and what to tell about it.

    ctctl's own nodes count seconds of CLOCK_MONOTONIC. Another owner's clock is the one named, or is
    found by the evidence of its configuration and its entries. Raises CtctlError where that does not
    tell, except in a dry run, which then assumes seconds and says so.
    """
    if clock is not None:
        return _read(clock), []
    if not tables.foreign:
        return monotonic_s(), []
    from ctctl.tables.sources.base import SourceOptions
    from ctctl.tables.sources.live import open_directory, open_pin

    opening = open_directory if tables.path.is_dir() else open_pin
    with opening(tables.path, SourceOptions()) as source:
        found = source.tables[0]
        notes = [note for note in source.notes if note.startswith("clock")]
        if found.now is None or (found.clock.evidence == "assumed" and not dry_run):
            raise CtctlError(
                f"{tables.path}: report times fit no clock, so what has expired cannot be told: "
                "give --clock ktime or jiffies:HZ"
            )
        return found.now, notes


def _read(clock: Clock) -> int:
    if clock.hz is None:
        return monotonic_s()
    units = jiffies_units()
    if units is None:
        raise CtctlError("this kernel does not show jiffies (/proc/timer_list): give --now")
    return units
