"""What time it is in the tables' own clock: the one question that a deletion must not get wrong.

The clock is read by a program in the kernel, where the datapath reads it. This process's own clock is
only believed where that agrees: in a time namespace, or where time has been tampered with, nothing is deleted.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from ctctl.abi import layouts
from ctctl.abi.constants import CT_ENTRY_LAST_RX_REPORT, CT_ENTRY_LAST_TX_REPORT, CT_ENTRY_LIFETIME
from ctctl.errors import CtctlError, KernelError, PermissionDenied
from ctctl.kernel.clock import JIFFIES_SHIFT, jiffies_units, monotonic_offset_ns, monotonic_s
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.model.clock import Clock
from ctctl.tables.sources.base import CtTable, Source
from ctctl.tables.sources.clocks import AHEAD_S, LONGEST_S, objection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OBJECT = OBJECTS / "writer.bpf.o"
CLOCK = "writer_clock"

_SAMPLE = 4096
_REPORTS = (CT_ENTRY_LAST_TX_REPORT, CT_ENTRY_LAST_RX_REPORT)


class ClockError(CtctlError):
    """It cannot be told what has expired: nothing may be deleted."""


def kernel_clock() -> tuple[int, int] | None:
    """(nanoseconds of CLOCK_MONOTONIC, jiffies64) as the datapath reads them; None where no program can tell.

    Raises KernelError where there is no room for one.
    """
    try:
        with BpfObject.open(OBJECT) as loaded:
            for name in loaded.program_names():
                if name != CLOCK:
                    loaded.disable_program(name)
            loaded.load()
            failed, _ = loaded.program(CLOCK).run_syscall()
            told = layouts.ctctl_writer_ctl.from_buffer_copy(loaded.map("ctctl_writer_ctl").mmap())
    except KernelError as error:
        if error.is_shortage:
            raise
        return None
    except PermissionDenied:
        return None
    return None if failed else (told.ktime_ns, told.jiffies)


def datapath_now(clock: Clock) -> int:
    """Now in units of ``clock``, by the kernel's clock. Raises ClockError where it cannot be had for certain."""
    told = kernel_clock()
    if told is None:
        if monotonic_offset_ns():
            raise ClockError(
                "this process is in a time namespace and this kernel runs no program that could read the datapath's"
                " clock: nothing is deleted; run ctctl outside (nsenter -t 1 -T)"
            )
        units = monotonic_s() if clock.hz is None else jiffies_units()
        if units is None:
            raise ClockError("this kernel does not show jiffies (/proc/timer_list): give --now")
        return units
    ktime_ns, jiffies = told
    if clock.hz is not None:
        return jiffies >> JIFFIES_SHIFT
    if abs(ktime_ns // 1_000_000_000 - monotonic_s()) > AHEAD_S:
        raise ClockError(
            f"the kernel's clock says {ktime_ns // 1_000_000_000} s, this process's {monotonic_s()} s:"
            " nothing is deleted"
        )
    return ktime_ns // 1_000_000_000


def certain_now(source: Source, *, given: bool) -> int:
    """Now by the datapath's own clock, in units of a live source's: by the node's record, by evidence, or ``given``
    by the user, who is believed where the tables do not speak against it. Raises ClockError.
    """
    if source.foreign and not given and (source.clock.evidence == "assumed" or source.now is None):
        raise ClockError(
            f"{source.description}: report times fit no clock, so what has expired cannot be told: "
            "give --clock ktime or jiffies:HZ"
        )
    if not source.foreign and source.clock.hz is not None:
        raise ClockError(
            f"{source.description} is ctctl's own and counts in ktime, not in {source.clock}, so nothing is deleted:"
            " leave --clock out"
        )
    now = datapath_now(source.clock)
    if source.foreign:
        _check_newest(source, now)
    return now


def settle_time(source: Source, now: int | None, *, clock_given: bool) -> int:
    """Give every table of a live source the time that a deletion goes by, also where it is only asked what would go.

    It is the datapath's own, or the user's ``now`` where the entries can be of it. Raises ClockError.
    """
    now = certain_now(source, given=clock_given) if now is None else now
    for table in source.tables:
        check_times(table, now)
        table.now = now
    return now


def _check_newest(source: Source, now: int) -> None:
    """Make sure that something of another program's tables is of these days.

    In a clock that is far ahead of theirs everything has expired. Raises ClockError.
    """
    newest = max((_newest(table) for table in source.tables), default=0)
    # What is to come is a lifetime here: reports of the future are found table by table.
    if (text := objection(source.clock, now, min(newest, now))) is not None:
        raise ClockError(
            f"{source.description}: {text}: the clock is not the one that the datapath used, or no datapath uses it,"
            " so nothing is deleted; see --clock and --now"
        )


def _newest(table: CtTable) -> int:
    """The latest report in a sample of a live table; where there are none, the latest lifetime."""
    newest = 0
    for batch in itertools.islice(table.live.batches(_SAMPLE) if table.live is not None else (), 1):
        reports = max(int(_column(batch.values, at).max()) for at in _REPORTS)
        newest = reports or int(_column(batch.values, CT_ENTRY_LIFETIME).max())
    return newest


def check_times(table: CtTable, now: int) -> None:
    """Make sure that ``table`` can be one of a datapath whose clock says ``now``, by a sample of its entries.

    Raises ClockError for a report of the future or a lifetime no timeout gives.
    """
    if table.live is None:
        return
    unit_s = 1.0 if table.clock.hz is None else (1 << JIFFIES_SHIFT) / table.clock.hz
    latest, longest = now + AHEAD_S / unit_s, now + LONGEST_S / unit_s
    for batch in itertools.islice(table.live.batches(_SAMPLE), 1):
        lifetimes, tx, rx = (_column(batch.values, at) for at in (CT_ENTRY_LIFETIME, *_REPORTS))
        report = max(int(tx.max()), int(rx.max()))
        if report > latest:
            raise ClockError(
                f"{table.name}: an entry was reported on at {report}, and it is {now} now: the clock is not the one"
                " that the datapath used, so nothing is deleted; see --clock and --now"
            )
        if int(lifetimes.max()) > longest:
            raise ClockError(
                f"{table.name}: an entry has {int(lifetimes.max()) - now} units left, which no timeout gives: the clock"
                " is not the one that the datapath used, so nothing is deleted; see --clock and --now"
            )


def _column(values: NDArray[np.uint8], at: int) -> NDArray[np.uint32]:
    import numpy as np

    return np.ascontiguousarray(values[:, at : at + 4]).view("<u4").ravel()
