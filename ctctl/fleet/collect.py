"""``fleet collect``: sources into a lake, each node once, whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

from ctctl.config.allowance import shared
from ctctl.errors import CtctlError, PermissionDenied, UsageError
from ctctl.fleet.lake import Collection, Lake, Part
from ctctl.fleet.tables import LISTED, TABLES, listing_rows
from ctctl.out.fetched import as_named, fetched
from ctctl.tables.names import names_of
from ctctl.tables.open import open_source
from ctctl.tables.show.arrow import Stamp, arrow_rows, row_groups
from ctctl.tables.sources.base import CtTable, Source, SourceOptions
from ctctl.tables.sources.members import folder_of, word_of

#: When a sysdump or a bugtool was made, in its own name.
_DATED: Final = re.compile(r"(?<!\d)(20\d{6})-(\d{6})(?!\d)")
#: Of a file's name, what says only how it was packed and what is in it.
_ENDINGS: Final = frozenset(
    (
        *(".tar", ".tgz", ".gz", ".xz", ".bz2", ".zst", ".zip"),
        *(".ctsnap", ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".txt", ".out", ".log", ".md"),
    )
)
_BLOCK: Final = 1 << 20
#: What a lake's files of one node take, in units of ``config.budget``, with room for a busy machine.
NODE_WORK: Final = 6000
#: The same where what is written is read again at once.
ASKED_NODE_WORK: Final = 2 * NODE_WORK


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said: cluster, a node's name where a source has none, and when the files were made."""

    cluster: str = "default"
    node: str | None = None
    collected_at: datetime | None = None
    options: SourceOptions = field(default_factory=SourceOptions)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one node of one source.

    ``problem``: why there is nothing, or less, of it; ``refused``: that is for want of a right.
    """

    source: str
    node: str | None
    status: str
    rows: int = 0
    bytes: int = 0
    collection: str | None = None
    collected_at: datetime | None = None
    problem: str | None = None
    refused: bool = False


def collect(
    lake: Lake, specs: Sequence[str], wanted: Wanted, done: Callable[[Outcome], None] = lambda _one: None
) -> Iterator[Outcome]:
    """Collect each source; what fails is an outcome with its reason and stops no other."""
    homes: dict[str | None, str] = {}
    for spec in dict.fromkeys(specs):
        try:
            for outcome in _collect_source(lake, spec, wanted, homes):
                done(outcome)
                yield outcome
        except (CtctlError, OSError) as error:
            refused = isinstance(error, PermissionDenied | PermissionError)
            problem = (
                f"{error.filename or spec}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            )
            outcome = Outcome(as_named(spec), None, "failed", problem=as_named(problem), refused=refused)
            done(outcome)
            yield outcome


def not_fetched() -> list[Outcome]:
    """The nodes of which whoever fetched the sources got nothing."""
    of = fetched()
    failed = of.failed if of is not None else {}
    return [Outcome(node, node, "failed", problem=reason) for node, reason in failed.items()]


def label_of(spec: str) -> str:
    """A name for the node of a source that has none: its file's, without what says only what is in it."""
    path = PurePosixPath(*[part for part in Path(spec).parts if part not in ("/", "..", ".")])
    name = path.name
    while (at := name.rfind(".")) >= 0 and name[at:].lower() in _ENDINGS:
        name = name[:at]
    name = name or spec
    return name if word_of(path) else folder_of(path) or name


def _collect_source(lake: Lake, spec: str, wanted: Wanted, homes: dict[str | None, str]) -> Iterator[Outcome]:
    with shared(NODE_WORK), open_source(spec, wanted.options) as source:
        label = wanted.node or _own_name(source) or label_of(spec)
        if source.nodes() == [] and homes.setdefault(label, spec) != spec:
            text = f"{spec} and {homes[label]} would both be the node {label}: collect each by itself, with --node"
            raise UsageError(text)
        yield from _collect_nodes(lake, source, spec, wanted, label=label, digest=_content_of(spec, source))


def collect_source(lake: Lake, source: Source, spec: str) -> list[Outcome]:
    """Collect an open source into a lake of its own."""
    return list(_collect_nodes(lake, source, spec, Wanted(), label=_own_name(source) or label_of(spec), digest=""))


def _collect_nodes(
    lake: Lake, source: Source, spec: str, wanted: Wanted, *, label: str, digest: str
) -> Iterator[Outcome]:
    moment, evidence = _time_of(spec, source, wanted)
    told = _told(wanted)

    @functools.cache
    def whose(text: str) -> Set[str | None]:
        # Asked for each of thousands of nodes: the names of all others must not be looked through for each.
        return {name for name in source.nodes() if text.startswith(f"{name}: ")}

    nodes: list[str | None] = [*source.nodes()]
    if not nodes or any(table.node is None for table in source.tables):
        nodes.append(None)
    for node in nodes:
        name = node or label
        about = Collection(
            collection=hashlib.blake2b(repr((digest, wanted.cluster, name)).encode(), digest_size=16).hexdigest(),
            cluster=wanted.cluster,
            node=name,
            collected_at=moment,
            time_evidence=evidence,
            boot_id=source.boot_id,
            source=as_named(spec),
            complete=True,
            told=told,
        )
        before = lake.find(about.collection)
        if before is not None and told in ("", before.told):
            problem = as_named("; ".join(before.partial)) or None
            yield Outcome(about.source, name, "already there", 0, 0, about.collection, before.collected_at, problem)
            continue
        yield _collect_node(lake, source, node, about, before=before, whose=whose)


def _told(wanted: Wanted) -> str:
    """A number of what the user said of the sources, empty where that is nothing."""
    if wanted == Wanted(wanted.cluster, wanted.node):
        return ""
    names = [_content_of_files(Path(name)) for name in wanted.options.names]
    said = (wanted.collected_at, replace(wanted.options, names=()), names)
    return hashlib.blake2b(repr(said).encode(), digest_size=16).hexdigest()


def _collect_node(
    lake: Lake,
    source: Source,
    node: str | None,
    about: Collection,
    *,
    before: Collection | None,
    whose: Callable[[str], Set[str | None]],
) -> Outcome:
    """``whose``: the nodes that what is missing of a source is said of; none: of all."""
    tables = source.tables_without_node() if node is None else source.tables_of(node)
    listings = source.some(node, *LISTED)
    stamp = Stamp(
        about.cluster, about.node, about.collected_at, about.collection, about.boot_id, names_of(source, node)
    )
    parts: dict[str, Part] = {}
    if tables:
        parts["ct"] = _write_ct(lake, tables, about, stamp)
    shown = [kind for kind in LISTED if listings.count(kind) or kind not in listings.missing]
    for kind in shown:
        path = about.path(kind)
        with lake.file(path, TABLES[kind]) as file:
            for rows in listing_rows(kind, listings, stamp, source.time(node)):
                file.add(rows)
        parts[kind] = Part(path, file.rows, lake.size(path))
    problems = (*(text for text in source.partial if whose(text) <= {node}), *listings.problems)
    covers = tuple(sorted({f"{table.family_label}/{table.protocol}" for table in tables}))
    if not parts:
        return Outcome(about.source, about.node, "failed", problem="it shows no table that a lake has")
    lake.commit(replace(about, tables=parts, covers=covers, complete=not problems, partial=problems), before)
    rows, size = sum(part.rows for part in parts.values()), sum(part.bytes for part in parts.values())
    problem = as_named("; ".join(problems)) or None
    status = "partly" if problems else "collected"
    return Outcome(about.source, about.node, status, rows, size, about.collection, about.collected_at, problem)


def _write_ct(lake: Lake, tables: list[CtTable], about: Collection, stamp: Stamp) -> Part:
    path = about.path("ct")
    with lake.file(path, TABLES["ct"]) as file:
        for table in tables:
            for part in row_groups(table.columns()):
                file.add(arrow_rows(table, part, stamp))
    return Part(path, file.rows, lake.size(path))


def _own_name(source: Source) -> str | None:
    """What the node calls itself: by its files, or this machine if its tables are these."""
    fact = source.facts(None).node
    if fact is not None:
        return fact.value
    if source.directory is None:
        return None
    import os

    return os.uname().nodename


def _time_of(spec: str, source: Source, wanted: Wanted) -> tuple[datetime, str]:
    """When the tables were read, to the second, and by what."""
    if wanted.collected_at is not None:
        return wanted.collected_at, "--at"
    if source.collected_at is not None:
        return datetime.fromtimestamp(int(source.collected_at), UTC), "the source"
    dated = _DATED.findall(spec)
    if dated:
        try:
            moment = datetime.strptime("".join(dated[-1]), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            pass
        else:
            return moment, "its name"
    made = [fact.value for node in (None, *source.nodes()) if (fact := source.facts(node).made_unix) is not None]
    if made:
        return datetime.fromtimestamp(int(max(made)), UTC), "a name in it"
    path = Path(spec)
    if path.is_file():
        return datetime.fromtimestamp(int(path.stat().st_mtime), UTC), "the file's time"
    if path.is_dir():
        times = [member.stat().st_mtime for member in path.rglob("*") if member.is_file()]
        if times:
            return datetime.fromtimestamp(int(max(times)), UTC), "its newest file's time"
    return datetime.now(UTC).replace(microsecond=0), "read now"


def _content_of(spec: str, source: Source) -> str:
    """What tells the source from any other: a file's content; a live table is another at each look."""
    if source.directory is not None or spec in ("nf", "-"):
        return f"live {source.boot_id} {source.directory} {source.collected_at}"
    return _content_of_files(Path(spec))


def _content_of_files(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    members = [path] if path.is_file() else sorted(member for member in path.rglob("*") if member.is_file())
    for member in members:
        if path.is_dir():
            digest.update(f"\0{member.relative_to(path)}\0{member.stat().st_size}\0".encode())
        with member.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
