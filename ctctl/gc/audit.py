"""Deletions on file: the audit log for people and machines, the undo file for ``ctctl gc undo``.

Both are written as deletions are reported, in batches: what was deleted in the instant before a
kill -9 may be missing. Neither keeps anything in memory.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from ctctl.decode.ct import decode_entry
from ctctl.errors import DecodeError, KernelError
from ctctl.gc.job import Recorder
from ctctl.gc.report import Restored
from ctctl.gc.tables import NAT_TABLES, TableSet
from ctctl.kernel.map import Map, UpdateMode

AUDIT_SCHEMA = "ctctl/gc-audit/v1"
UNDO_SCHEMA = "ctctl/gc-undo/v1"


class AuditLog:
    """One JSON line a deletion: when, which table, why, the entry in words and raw."""

    def __init__(self, stream: TextIO, now: int) -> None:
        self._stream = stream
        self._now = now

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None:
        record: dict[str, object] = {
            "schema": AUDIT_SCHEMA,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "map": table,
            "reason": reason,
        }
        if table not in NAT_TABLES:
            entry = decode_entry(key, value, map_name=table)
            record |= {
                "entry": f"{entry.direction} {entry.tuple}",
                "related": entry.related,
                "state": str(entry.state),
                "lifetime": entry.lifetime,
                "now": self._now,
            }
        record |= {"key_hex": key.hex(), "value_hex": value.hex()}
        self._stream.write(json.dumps(record) + "\n")


class UndoFile:
    """One JSON line a deletion behind a header, enough to put every entry back."""

    def __init__(self, stream: TextIO, source: str) -> None:
        self._stream = stream
        stream.write(json.dumps({"schema": UNDO_SCHEMA, "source": source}) + "\n")

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None:  # noqa: ARG002
        self._stream.write(json.dumps({"map": table, "key_hex": key.hex(), "value_hex": value.hex()}) + "\n")


class Recorders:
    """Several recorders as one, safe to call from several threads."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders
        self._lock = threading.Lock()

    def deleted(self, table: str, reason: str, key: bytes, value: bytes) -> None:
        with self._lock:
            for recorder in self._recorders:
                recorder.deleted(table, reason, key, value)


@contextlib.contextmanager
def recording(audit: Path | None, undo: Path | None, source: str, now: int) -> Iterator[Recorder | None]:
    """The recorder of a run, None when nothing is to be written. The audit log grows, an undo file must be new.

    Raises OSError if a file cannot be opened (FileExistsError for an undo file that is there).
    """
    with contextlib.ExitStack() as stack:
        recorders: list[Recorder] = []
        if audit is not None:
            recorders.append(AuditLog(stack.enter_context(_private(audit, os.O_APPEND)), now))
        if undo is not None:
            recorders.append(UndoFile(stack.enter_context(_private(undo, os.O_EXCL)), source))
        yield Recorders(recorders) if recorders else None


def _private(path: Path, how: int) -> TextIO:
    # Addresses of connections are nobody else's business: readable for the owner only.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600), "w", encoding="utf-8")


def restore(path: Path, tables: TableSet, *, dry_run: bool = False) -> Restored:
    """Put back what an undo file holds, never over an entry that is there now.

    Raises DecodeError for a file that is none or names a table that is not there.
    """
    maps = {table.name: table.map for table in tables.tables} | {nat.name: nat for nat in tables.nats.values()}
    restored = present = 0
    with path.open(encoding="utf-8") as lines:
        if _record(next(lines, ""), path, 1).get("schema") != UNDO_SCHEMA:
            raise DecodeError(f"{path}: no undo file of ctctl gc (schema {UNDO_SCHEMA})")
        for number, line in enumerate(lines, 2):
            record = _record(line, path, number)
            try:
                table = maps[record["map"]]
                key, value = bytes.fromhex(record["key_hex"]), bytes.fromhex(record["value_hex"])
            except (KeyError, ValueError) as error:
                raise DecodeError(f"{path}:{number}: {error} is no table here or no hex") from None
            there = table.lookup(key) is not None if dry_run else not _insert(table, key, value)
            present += there
            restored += not there
    return Restored(restored, present, dry_run)


def _record(line: str, path: Path, number: int) -> dict[str, str]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise DecodeError(f"{path}:{number}: not a JSON object; a line cut short by a crash can be removed")
    return record


def _insert(table: Map, key: bytes, value: bytes) -> bool:
    try:
        table.update(key, value, mode=UpdateMode.NOEXIST)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    return True
