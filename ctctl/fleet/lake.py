"""A lake: a folder or an object store with Parquet files, and what was collected into it.

    _collections/ID.json                                    a collection: it is there when this file is
    TABLE/cluster=C/node=N/time=20260115T101530Z/ID.parquet  its rows of one table

The files of a collection are written first, each beside its place and then renamed (an object store shows an
object only when it is whole), its document last. What a killed run leaves (``.ctctl-*``) is in no document and is
read by nobody; the next run does not need it, and leaves it: it might be another's that still writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ctctl.errors import DecodeError, NotFoundError, PermissionDenied, UsageError, first_line
from ctctl.out.files import PRIVATE, WriteError
from ctctl.tables.show.arrow import ParquetFile, pyarrow

SCHEMA: Final = "ctctl/fleet-collection/v1"
_DOCUMENTS: Final = "_collections"
_MAX_DOCUMENT = 16 << 20
#: How long a store that does not answer is tried again.
_TRIED_S: Final = 30


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a collection: its path in the lake, rows and bytes."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Collection:
    """What was collected of one node at one time.

    ``tables``: the files by table; a table that the source did not show is not among them, and nothing may be
    concluded from its absence. ``covers``: the conntrack tables that were read (``ipv4/TCP``). ``complete``:
    nothing of what was read was damaged or missing. ``time_evidence`` says where ``collected_at`` is from. ``told`` is
    a number of what the user said of the source: with something else said it is another collection of the same thing.
    """

    collection: str
    cluster: str
    node: str
    collected_at: datetime
    time_evidence: str
    boot_id: str | None
    source: str
    complete: bool
    covers: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    tables: Mapping[str, Part] = field(default_factory=dict)
    told: str = ""

    def document(self) -> dict[str, object]:
        """As JSON."""
        # asdict of the whole copies every text and tuple, which is a tenth of what a small node takes.
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "collected_at": self.collected_at.isoformat(),
            "tables": {name: asdict(part) for name, part in self.tables.items()},
        }

    @classmethod
    def of_document(cls, document: dict[str, Any], where: str) -> Collection:
        """The inverse. Raises DecodeError."""
        try:
            if document["schema"] != SCHEMA:
                raise DecodeError(f"{where}: {document['schema']} is of another version of ctctl: use a newer one")
            document = {"told": "", **document}  # it came later than the others
            given = {name: document[name] for name in cls.__dataclass_fields__}
            given["collected_at"] = datetime.fromisoformat(given["collected_at"])
            given["covers"], given["partial"] = tuple(given["covers"]), tuple(given["partial"])
            given["tables"] = {name: Part(**part) for name, part in given["tables"].items()}
            return cls(**given)
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"{where}: damaged: {error!r}") from None

    def path(self, table: str) -> str:
        """Where its rows of a table lie."""
        time = self.collected_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        cluster, node = quote(self.cluster, safe=""), quote(self.node, safe="")
        return f"{table}/cluster={cluster}/node={node}/time={time}/{self.collection}.parquet"


class Lake:
    """A lake at ``where``: a folder, or a URL (``file://``, ``s3://``, ``gs://``, ``hdfs://``)."""

    def __init__(self, where: str) -> None:
        self.where = where
        fs = pyarrow("fs").fs
        self.local = "://" not in where or where.startswith("file://")
        try:
            if "://" in where:
                self._fs, self.root = fs.FileSystem.from_uri(bounded(where))
            else:
                self._fs, self.root = fs.LocalFileSystem(), str(Path(where).absolute())
        except Exception as error:
            raise UsageError(f"{where}: no lake can be there: {first_line(error)}") from None
        self.root = self.root.rstrip("/")
        if not self.root and not self.local:
            raise UsageError(f"{where}: no lake can be there: it names no bucket")

    # ---- reading

    def collections(self) -> list[Collection]:
        """All collections, the oldest first. Raises NotFoundError where there is no lake."""
        fs = pyarrow("fs").fs
        with self._told():
            found = self._fs.get_file_info(fs.FileSelector(f"{self.root}/{_DOCUMENTS}", allow_not_found=True))
        read = [self._read(info.path) for info in found if info.path.endswith(".json")]
        if not read:
            typed = shlex.quote(self.where)
            raise NotFoundError(f"{self.where}: no collection is there; ctctl fleet collect {typed} --from SRC")
        return sorted(read, key=lambda one: (one.collected_at, one.cluster, one.node))

    def find(self, collection: str) -> Collection | None:
        """That collection, where it was collected whole."""
        fs, path = pyarrow("fs").fs, f"{self.root}/{_DOCUMENTS}/{collection}.json"
        with self._told():
            (info,) = self._fs.get_file_info([path])
        return self._read(path) if info.type == fs.FileType.File else None

    def _read(self, path: str) -> Collection:
        with self._told(), self._fs.open_input_file(path) as stream:
            raw = stream.read(_MAX_DOCUMENT)
        try:
            return Collection.of_document(json.loads(raw), path)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"{path}: damaged: {error}") from None

    def location(self, path: str) -> str:
        """Where an engine finds a file of the lake."""
        return f"{self.root}/{path}" if self.local else f"{self.where.rstrip('/').partition('?')[0]}/{path}"

    def dataset(self, paths: list[str], schema: Any) -> Any:
        """The rows of files as an Arrow dataset, read through the lake's own file system."""
        dataset = pyarrow("dataset").dataset
        return dataset.dataset(
            [f"{self.root}/{path}" for path in paths], schema=schema, filesystem=self._fs, format="parquet"
        )

    # ---- writing

    @contextlib.contextmanager
    def file(self, path: str, columns: Mapping[str, str]) -> Iterator[ParquetFile]:
        """A Parquet file that is there when the block ends well, and not at all when it does not."""
        with self._whole(path) as stream:
            with self._told():
                file = _Written(columns, stream, self._told)
            try:
                yield file
                file.close()
            except BaseException:
                file.give_up()
                raise

    def size(self, path: str) -> int:
        """Bytes of a file of the lake."""
        with self._told():
            (info,) = self._fs.get_file_info([f"{self.root}/{path}"])
        return int(info.size)

    def commit(self, done: Collection, before: Collection | None = None) -> None:
        """Write the document of a collection whose files are all there; ``before`` is the one that it replaces."""
        document = json.dumps(done.document(), indent=1).encode()
        with self._whole(f"{_DOCUMENTS}/{done.collection}.json") as stream, self._told():
            stream.write(document)
        kept = {part.path for part in done.tables.values()}
        for part in before.tables.values() if before is not None else ():
            if part.path not in kept:
                with self._told(), contextlib.suppress(FileNotFoundError):
                    self._fs.delete_file(f"{self.root}/{part.path}")

    @contextlib.contextmanager
    def _whole(self, path: str) -> Iterator[Any]:
        """A stream into a file that is there when the block ends well. What fails in the block is not told here: it may
        be what is read there to be written."""
        full = f"{self.root}/{path}"
        if not self.local:
            with self._closed(full) as stream:
                yield stream
            return
        part = Path(full).with_name(f".ctctl-{secrets.token_hex(8)}")
        try:
            with self._told():
                part.parent.mkdir(parents=True, exist_ok=True)
                # For its owner only from its first byte on.
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))
            with self._closed(str(part)) as stream:
                yield stream
            with self._told():
                part.replace(full)
        finally:
            part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _closed(self, full: str) -> Iterator[Any]:
        """A stream that is closed however the block ends, and what was written gone if it does not end well.

        An object of a store is there when its stream is closed. The library has no other end for one: it closes a
        stream that is dropped by itself, half as it is, and one that is still there when the process ends makes it wait
        for ever.
        """
        with self._told():
            stream = self._fs.open_output_stream(full)
        try:
            yield stream
            with self._told():
                stream.close()
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is told
                stream.close()
                self._fs.delete_file(full)
            raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What a file system says, in one line."""
        unknown = pyarrow().ArrowException
        try:
            yield
        except PermissionError as error:
            raise PermissionDenied(f"{self.where}: {first_line(error)}") from None
        except OSError as error:
            raise WriteError(f"{self.where}: {first_line(error)}") from None
        except Exception as error:
            # What an Azure store says that has no word of its own; its subclasses are about data.
            if type(error) is not unknown:
                raise
            raise WriteError(f"{self.where}: {first_line(error)}") from None


class _Written(ParquetFile):
    """A file of a lake, of which what fails is the lake's: ``told`` says it."""

    def __init__(
        self, columns: Mapping[str, str], stream: Any, told: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        super().__init__(columns, stream)
        self._told = told

    def add(self, table: Any) -> None:
        with self._told():
            super().add(table)

    def close(self) -> None:
        with self._told():
            super().close()


def bounded(where: str) -> str:
    """A lake's URL with an end to how long a store is tried: Google's client else does for a quarter of an hour."""
    if not where.startswith(("gs://", "gcs://")) or "retry_limit_seconds=" in where:
        return where
    return f"{where}{'&' if '?' in where else '?'}retry_limit_seconds={_TRIED_S}"
