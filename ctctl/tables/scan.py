"""Filters and counts that run inside the kernel, on a live table (bpf/ctscan.bpf.c).

One walk over the table, and only what is wanted is copied out. Where the kernel or the user's rights
do not allow it, or a filter is too long or matches too much, the answer is None and the caller reads
the table by batches instead.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ctctl.abi.constants import CTSCAN_FOUND_SIZE, CTSCAN_FOUND_VALUE
from ctctl.decode.ct import KEY_SIZE
from ctctl.errors import CtctlError
from ctctl.kernel.object import OBJECTS, BpfObject
from ctctl.tables.query.predicate import INSTRUCTION, PROGRAM_LIMIT, Predicate, program_of
from ctctl.tables.sources.base import CtTable

if TYPE_CHECKING:
    from ctctl.decode.columns import CtColumns

OBJECT = OBJECTS / "ctscan.bpf.o"
#: Entries that a filter may find in the kernel; more are read by batches.
ROOM = 1 << 15
_ZERO = bytes(4)


def _open(table: CtTable, job: str) -> BpfObject:
    """The object with one program left, bound to the table; not yet loaded."""
    assert table.live is not None
    scanner = BpfObject.open(OBJECT)
    try:
        for name in scanner.program_names():
            if name != f"scan_{job}{table.family}":
                scanner.disable_program(name)
        scanner.reuse_map(f"target{table.family}", table.live)
    except BaseException:
        scanner.close()
        raise
    return scanner


def scan_records(table: CtTable, predicate: Predicate, room: int = ROOM) -> list[tuple[bytes, bytes]] | None:
    """Keys and values for which ``predicate`` holds, found inside the kernel; None: read by batches instead."""
    program = program_of(predicate)
    if program is None or table.live is None:
        return None
    try:
        with _open(table, "filter") as scanner:
            scanner.set_config("cfg_program", program.ljust(PROGRAM_LIMIT * INSTRUCTION.size, b"\0"))
            scanner.set_config("cfg_room", room)
            scanner.set_max_entries("ctscan_found", room)
            scanner.load()
            failed, _ = scanner.program(f"scan_filter{table.family}").run_syscall()
            state = scanner.map("ctscan_state").lookup(_ZERO)
            if failed or state is None:
                return None
            _, matched = struct.unpack("<QQ", state)
            return None if matched > room else _collect(table, scanner, matched)
    except CtctlError:
        return None


def _collect(table: CtTable, scanner: BpfObject, matched: int) -> list[tuple[bytes, bytes]]:
    size = KEY_SIZE[table.family]
    with scanner.map("ctscan_found").mmap() as found:
        raw = bytes(found[: matched * CTSCAN_FOUND_SIZE])
    starts = range(0, len(raw), CTSCAN_FOUND_SIZE)
    return [(raw[at : at + size], raw[at + CTSCAN_FOUND_VALUE : at + CTSCAN_FOUND_SIZE]) for at in starts]


def scan(table: CtTable, predicate: Predicate, room: int = ROOM) -> CtColumns | None:
    """The same as columns."""
    records = scan_records(table, predicate, room)
    if records is None:
        return None
    from ctctl.decode.columns import CtColumns

    keys, values = (b"".join(part) for part in zip(*records, strict=True)) if records else (b"", b"")
    return CtColumns.of_bytes(table.family, keys, values, table.layout)


#: struct ctscan_stats: entries, proto, direction/related/state/expired, the octets of the flags, three histograms.
STATS_FORMAT = struct.Struct("<Q256Q48Q512Q40Q40Q40Q")


def scan_stats(table: CtTable) -> tuple[int, ...] | None:
    """The numbers of ``struct ctscan_stats`` for a live table, in order; None: count in user space instead."""
    if table.live is None or table.now is None:
        return None
    try:
        with _open(table, "stats") as scanner:
            scanner.set_config("cfg_now", table.now)
            scanner.set_config("cfg_hz", table.clock.hz or 0)
            scanner.load()
            failed, _ = scanner.program(f"scan_stats{table.family}").run_syscall()
            raw = scanner.map("ctscan_stats").lookup(_ZERO)
    except CtctlError:
        return None
    return None if failed or raw is None else STATS_FORMAT.unpack(raw)
