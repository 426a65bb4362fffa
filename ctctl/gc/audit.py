"""Deletions on file, for people and machines: the audit log.

It is written as deletions are reported, in batches: what was deleted in the instant before a kill -9 may
be missing. What undoes a run is the writer's journal (``tables/writer/journal.py``).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ctctl.abi import pins
from ctctl.decode.ct import VALUE_SIZE, decode_entry
from ctctl.out.files import appended

#: An IPv6 SNAT value is as long as a conntrack entry's.
_SNAT = tuple(pins.SNAT_TABLES.values()) + tuple(pins.SNAT_PER_CLUSTER.values())
AUDIT_SCHEMA = "ctctl/gc-audit/v1"


class AuditLog:
    """One JSON line a deletion: when, which table, why, the entry in words and raw. Safe for several threads."""

    def __init__(self, stream: TextIO, now: int) -> None:
        self._stream = stream
        self._now = now
        self._lock = threading.Lock()

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
            self._stream.write(json.dumps(record) + "\n")


@contextlib.contextmanager
def auditing(path: Path | None, now: int) -> Iterator[AuditLog | None]:
    """The audit log of a run, None where none is wanted; it grows at the end. Raises WriteError."""
    if path is None:
        yield None
        return
    with os.fdopen(appended(path), "w", encoding="utf-8") as stream:
        yield AuditLog(stream, now)
