"""The undo journal: what is about to be deleted, on the disk before it is.

Lines of JSON. The first says what it is; then one a record, as it lay in the table; ``stayed`` names one
that was not deleted after all (a packet had refreshed it); the last says that the run came to its end:

    {"schema": "ctctl/undo/v1", "command": "gc", "source": …, "node": …, "boot_id": …, "maps": …, "time": …}
    {"map": TABLE, "key_hex": …, "value_hex": …}
    {"stayed": TABLE, "key_hex": …}
    {"done": true, "deleted": 325}

A batch of records is written and flushed whole before the first of them is deleted. What a kill leaves
is therefore complete: at worst it names entries that are still in the table, and a last line that is cut
off, whose entry was never deleted. ``stayed`` takes back the last record of its key before it, no later one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ctctl.errors import DecodeError
from ctctl.kernel.clock import boot_id
from ctctl.out.files import WriteError, cannot_write, new_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes2d = NDArray[np.uint8]

SCHEMA = "ctctl/undo/v1"
#: What ctctl wrote up to 0.1, the same lines.
OLD_SCHEMA = "ctctl/gc-undo/v1"
#: An IPv6 entry takes 240 characters and its table's name.
_LONGEST_LINE = 4096
#: The first line names every table, of which there may be some for each of 511 clusters.
_LONGEST_HEAD = 1 << 20


def default_path() -> Path:
    """Where a journal goes if the user names no file."""
    return Path(f"ctctl-undo-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.jsonl")


class Journal:
    """A journal being written; a context manager. Safe for several threads, each batch stays whole."""

    def __init__(self, path: Path, descriptor: int, head: dict[str, object], *, named: bool) -> None:
        self.path = path
        self._named = named
        self._fd = descriptor
        self._size = 0
        self._lock = threading.Lock()
        self._deleted = 0
        self._records = 0
        self._failed = False
        self._write(_line(head))

    @classmethod
    def create(
        cls, path: Path | None, *, command: str, source: str, node: str | None, maps: Mapping[str, int] | None = None
    ) -> Journal:
        """Begin a new file, for its owner only; one that the user did not name (None) is there only if it is needed.

        ``source``, ``node`` and ``maps``, the tables' ids by name, say whose entries it will have (``Contents``).
        Raises WriteError if it is there or cannot be written.
        """
        named = path is not None
        path = path or default_path()
        descriptor = new_file(path)
        head: dict[str, object] = {
            "schema": SCHEMA,
            "command": command,
            "source": str(Path(source).resolve()),
            "node": node,
            "boot_id": boot_id(),
            "maps": dict(maps or {}),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if len(_line(head)) > _LONGEST_HEAD:  # ids only tell more than the place does
            head["maps"] = {}
        try:
            made = cls(path, descriptor, head, named=named)
            _sync_directory(path)
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return made

    def planned(self, *records: tuple[str, Bytes2d, Bytes2d]) -> None:
        """Write and flush records, (table, keys (n, key size), values (n, value size)) each: they go next.

        Raises WriteError; the file then is as it was before.
        """
        with self._lock:
            self._write(b"".join(_records(*record) for record in records if len(record[1])), flush=True)
            self._records += sum(len(keys) for _, keys, _ in records)

    def gone(self, deleted: int, *stayed: tuple[str, Bytes2d]) -> None:
        """Say how many of the records planned last were deleted, and which were not.

        Never raises: the deletions are done, and nothing is lost but the word that an entry stayed.
        """
        with self._lock:
            self._deleted += deleted
            lines = b"".join(_stayed(*record) for record in stayed if len(record[1]))
            with contextlib.suppress(WriteError):
                if lines:
                    self._write(lines)

    @property
    def deleted(self) -> int:
        """Records that were deleted, SNAT entries included."""
        return self._deleted

    def close(self) -> None:
        """End the file with the word that the run did."""
        if self._fd < 0:
            return
        if not self._failed:
            with contextlib.suppress(Exception):
                self._write(_line({"done": True, "deleted": self._deleted}))
        os.close(self._fd)
        self._fd = -1
        if not self._records and not self._named:
            self.path.unlink(missing_ok=True)

    @property
    def kept(self) -> bool:
        """Whether there is anything in it to bring back."""
        return self._records > 0

    def _write(self, data: bytes, *, flush: bool = False) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            if flush:
                os.fdatasync(self._fd)
        except OSError as error:
            self._failed = True
            with contextlib.suppress(OSError):  # half a batch: none of it was deleted
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            raise cannot_write(self.path, error) from error
        self._size += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _sync_directory(path: Path) -> None:
    """Let the file's name survive a power failure too."""
    with contextlib.suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _records(table: str, keys: Bytes2d, values: Bytes2d) -> bytes:
    head = b'{"map": %s, "key_hex": "' % json.dumps(table).encode()
    return _lines(head, keys, b'", "value_hex": "', values, b'"}\n')


def _stayed(table: str, keys: Bytes2d) -> bytes:
    return _lines(b'{"stayed": %s, "key_hex": "' % json.dumps(table).encode(), keys, b'"}\n')


def _lines(*parts: bytes | Bytes2d) -> bytes:
    """Lines of equal length: text that is the same in all of them, and the hex of a matrix's rows."""
    import numpy as np

    count = next(len(part) for part in parts if not isinstance(part, bytes))
    columns = [
        np.broadcast_to(np.frombuffer(part, np.uint8), (count, len(part)))
        if isinstance(part, bytes)
        else _hex_digits()[np.ascontiguousarray(part)].view(np.uint8)
        for part in parts
    ]
    return np.concatenate(columns, axis=1).tobytes()


@functools.cache
def _hex_digits() -> NDArray[np.uint16]:
    import numpy as np

    return np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)


# ---- reading


@dataclass(slots=True)
class Contents:
    """What was found in a journal while it was read: known when the records have been walked.

    ``node``, ``source``, ``maps`` and ``boot_id`` say whose entries they are: the node's name (None for tables that are
    no node's of ours), where they were pinned, the tables' ids in that boot, and when their times count; ``time`` when
    the run began. ``damaged``: lines that do not say what they should; ``cut``: the last line has no end; ``finished``:
    the run that wrote it came to its end.
    """

    path: Path
    node: str | None = None
    source: str = ""
    boot_id: str | None = None
    maps: dict[str, int] = field(default_factory=dict)
    time: str | None = None
    damaged: int = 0
    cut: bool = False
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as it lay in its table."""

    table: str
    key: bytes
    value: bytes


def is_journal(head: bytes) -> bool:
    """Whether a file starts as a journal."""
    first = head.split(b"\n", 1)[0]
    return first.startswith(b"{") and (SCHEMA.encode() in first or OLD_SCHEMA.encode() in first)


def open_journal(path: Path) -> Contents:
    """What the first line of a journal says. Raises DecodeError for a file that is none."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise DecodeError(f"{path}: a pipe, and a journal is read twice: save it to a file")
        with path.open("rb") as stream:
            head = _parsed(stream.readline(_LONGEST_HEAD))
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror}") from None
    if head is None or head.get("schema") not in (SCHEMA, OLD_SCHEMA):
        raise DecodeError(f"{path}: no undo journal of ctctl (schema {SCHEMA})")
    node, source, boot, moment = (
        value if isinstance(value, str) else None for value in map(head.get, ("node", "source", "boot_id", "time"))
    )
    maps = head.get("maps")
    ids = {name: found for name, found in maps.items() if isinstance(found, int)} if isinstance(maps, dict) else {}
    return Contents(path, node, source or "", boot or None, ids, moment)


def records(contents: Contents) -> Iterator[Record]:
    """The entries that were deleted, without those that stayed. Reads the file twice, keeps what stayed in memory.

    A word that an entry stayed is about the record of it before that word: one that is planned again, as it was
    by then, and deleted, comes back.
    """
    stayed = _first_look(contents)
    # Of keys that stayed once: their records that no later word has taken back yet.
    waiting: dict[tuple[str, bytes], list[Record]] = {key: [] for key in stayed}
    for line in _parsed_lines(contents):
        if line is None:
            continue
        if "stayed" in line:
            taken_back = waiting.get(_stayed_key(line) or ("", b""))
            if taken_back:
                taken_back.pop()
            else:  # it names no record: which one stayed is not known
                contents.damaged += 1
        elif "map" in line:
            record = _record(line)
            if record is None:
                contents.damaged += 1
            elif (record.table, record.key) in waiting:
                waiting[record.table, record.key].append(record)
            else:
                yield record
    for left in waiting.values():
        yield from reversed(left)  # the latest is the one that is created


def _first_look(contents: Contents) -> set[tuple[str, bytes]]:
    """The keys of which one stayed; what else is to be known of the file goes into ``contents``."""
    stayed = set()
    for line in _parsed_lines(contents):
        if line is None:
            contents.damaged += 1
        elif "stayed" in line:
            key = _stayed_key(line)
            if key is not None:
                stayed.add(key)
        elif "done" in line:
            contents.finished = True
        elif "map" not in line:
            contents.damaged += 1
    return stayed


def _record(line: dict[str, Any]) -> Record | None:
    try:
        return Record(str(line["map"]), bytes.fromhex(line["key_hex"]), bytes.fromhex(line["value_hex"]))
    except (KeyError, ValueError, TypeError):
        return None


def _stayed_key(line: dict[str, Any]) -> tuple[str, bytes] | None:
    try:
        return str(line["stayed"]), bytes.fromhex(line["key_hex"])
    except (KeyError, ValueError, TypeError):
        return None


def _parsed_lines(contents: Contents) -> Iterator[dict[str, Any] | None]:
    """Every line behind the first; None for one that is damaged. A cut last line is only noted."""
    with contents.path.open("rb") as stream:
        stream.readline(_LONGEST_HEAD)
        while line := stream.readline(_LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
                contents.cut = True
                # A line that lacks nothing but its end is whole.
                if _parsed(line) is None:
                    return
            yield _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
