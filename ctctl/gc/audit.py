"""Deletions on file, for people and machines: the audit log.

It is written as deletions are reported, in batches: what was deleted in the instant before a kill -9 may
be missing. Where it cannot be written the run ends. What undoes a run is the writer's journal
(``tables/writer/journal.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ctctl.abi import pins
from ctctl.decode.ct import VALUE_SIZE, decode_entry
from ctctl.model.units import counted
from ctctl.out.files import WriteError, appended, cannot_write

#: An IPv6 SNAT value is as long as a conntrack entry's.
_SNAT = tuple(pins.SNAT_TABLES.values()) + tuple(pins.SNAT_PER_CLUSTER.values())
AUDIT_SCHEMA = "ctctl/gc-audit/v1"
#: Lines are written so many bytes at a time.
_ROOM = 1 << 16


class AuditLog:
    """One JSON line a deletion: when, which table, why, the entry in words and raw. Safe for several threads.

    It is told of what has happened, and raises nothing: where a line cannot be written ``failing`` is called, once,
    and ``failure`` says why, and of how many deletions there is no line. No half line stays behind.
    """

    def __init__(self, path: Path, descriptor: int, now: int, failing: Callable[[], None]) -> None:
        self._path = path
        self._fd = descriptor
        self._now = now
        self._failing = failing
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._size = self._lost = 0
        self._error: OSError | None = None

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None:
        record: dict[str, object] = {
            "schema": AUDIT_SCHEMA,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "map": table,
            "reason": reason,
        }
        if len(value) == VALUE_SIZE and not table.startswith(_SNAT):
            entry = decode_entry(key, value, map_name=table)
            record |= {
                "entry": f"{entry.direction} {entry.tuple}",
                "related": entry.related,
                "state": str(entry.state),
                "lifetime": entry.lifetime,
                "now": self._now,
            }
        record |= {"key_hex": key.hex(), "value_hex": value.hex()}
        with self._lock:
            self._lines.append(json.dumps(record).encode() + b"\n")
            self._size += len(self._lines[-1])
            if self._size >= _ROOM:
                self._write()

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            self._write()

    @property
    def failure(self) -> WriteError | None:
        """Why not every deletion has its line, None where each has."""
        if self._error is None:
            return None
        why = cannot_write(self._path, self._error)
        return WriteError(f"{why}: {counted(self._lost, 'deletion')} {'is' if self._lost == 1 else 'are'} not in it")

    def _write(self) -> None:
        lines, self._lines, self._size = self._lines, [], 0
        view = memoryview(b"".join(lines))
        written = 0
        try:
            while self._error is None and written < len(view):
                written += os.write(self._fd, view[written:])
        except OSError as error:
            self._error = error
            self._failing()
        whole = bytes(view[:written]).rfind(b"\n") + 1
        self._lost += bytes(view[whole:]).count(b"\n")
        if whole < written:
            with contextlib.suppress(OSError):  # a pipe has no end that could be taken back
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - (written - whole))


@contextlib.contextmanager
def auditing(path: Path | None, now: int, failing: Callable[[], None]) -> Iterator[AuditLog | None]:
    """The audit log of a run, None where none is wanted; it grows at the end. Raises WriteError."""
    if path is None:
        yield None
        return
    descriptor = appended(path)
    try:
        yield AuditLog(path, descriptor, now, failing)
    finally:
        os.close(descriptor)
