"""Several ``--from`` at once: files of nodes, parts of one node, live tables, snapshots: one source with nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonpath, normpath
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ctctl.errors import CtctlError, NotFoundError
from ctctl.model.suggest import unknown_name
from ctctl.out.fetched import is_fetched
from ctctl.tables.sources import archive, snapshot
from ctctl.tables.sources.base import Source, SourceOptions
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.facts import NodeFacts
from ctctl.tables.sources.files import build, read_archive, read_folder, read_text
from ctctl.tables.sources.listings import KINDS, Listings
from ctctl.tables.sources.members import Dumps, folder_of, node_of, word_of
from ctctl.tables.sources.open import in_bpffs, open_source
from ctctl.tables.sources.options import choose_map
from ctctl.tables.sources.stream import Prefixed

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatTable

_WORDS = ("auto", "nf", "-")
#: An archive that is called by when it was made, up to there.
_COLLECTED = re.compile(r"cilium-(?:bugtool|sysdump)-\d{1,8}(?:-\d{1,6})?")


@dataclass(slots=True)
class _Read:
    """One ``--from`` that is a file or folder, and what was read of it. ``label`` is its name should it be a node."""

    spec: str
    dumps: Dumps
    label: str = ""

    @property
    def has_tables(self) -> bool:
        return any(dump.tables for dump in self.dumps.values())


def open_several(specs: Sequence[str], options: SourceOptions) -> Source:
    """All of them; with one, that one. One that cannot be opened is partial data and hides no other.

    What of the files has conntrack tables is a node each; a file without any belongs to the only node.
    Raises what ``open_source`` raises where nothing could be opened, NotFoundError for an unknown node.
    """
    if len(specs) == 1 and not is_fetched(specs[0]):
        return open_source(specs[0], options)
    files: list[_Read] = []
    others: list[tuple[str, Source]] = []
    snapshots: list[str] = []
    failed: list[CtctlError] = []
    open_options = replace(options, node=None, map=None)
    for spec in dict.fromkeys(specs):
        try:
            if spec in _WORDS or not Path(spec).exists() or in_bpffs(Path(spec)):
                others.append((spec, open_source(spec, open_options)))
                continue
            found = _read(spec, open_options)
            if isinstance(found, _Read):
                files.append(found)
            else:
                others.append((spec, found))
                snapshots.append(spec)
        except CtctlError as error:
            failed.append(error)
    if not files and not others:
        raise failed[0]
    labels = _labels([*(one.spec for one in files), *snapshots])
    for one in files:
        one.label = labels[one.spec]
    sources = [(labels.get(spec, spec), source) for spec, source in others]
    if files:
        dumps = _by_node(files, alone=not others)
        sources.insert(0, ("files", build(", ".join(one.spec for one in files), dumps, open_options)))
    combined = _combined(sources, options)
    combined.partial += [str(error) for error in failed]
    return combined


def _read(spec: str, options: SourceOptions) -> _Read | Source:
    """What a file or a folder holds; of a snapshot the source, for it is a whole by itself."""
    path = Path(spec)
    if path.is_dir():
        name = path.resolve().name
        if is_fetched(spec):
            return _Read(spec, {name: _whole(read_folder(path))})
        return _Read(spec, read_folder(path))
    with path.open("rb") as stream:
        source = Prefixed(b"", stream)  # a pipe cannot be read a second time
        head = source.peek(512)
        if snapshot.is_snapshot(head):
            return open_source(spec, options) if path.is_file() else snapshot.open_snapshot(source, spec, options, None)
        if archive.is_archive(head):
            return _Read(spec, read_archive(source, spec))
        return _Read(spec, read_text(source, spec).by_host(None))


def _labels(specs: Sequence[str]) -> dict[str, str]:
    """A name for each of these files and folders: what its own says, else the first folder on its way that says
    whose it is and is not around all of them. Where two would be called alike, more of their ways.
    """
    ways = [PurePosixPath(normpath(Path(spec).absolute())) for spec in specs]
    around = PurePosixPath(commonpath([way.parent for way in ways])) if ways else PurePosixPath()
    below = [way.relative_to(around) for way in ways]
    own = [_own_word(way, Path(spec)) for way, spec in zip(below, specs, strict=True)]
    folders = [_folder(way, Path(spec)) for way, spec in zip(below, specs, strict=True)]
    parts = list(zip(own, folders, below, strict=True))
    labels: list[str] = []
    for labels in (
        [word or folder or way.stem for word, folder, way in parts],
        [folder or word or way.stem for word, folder, way in parts],
        [f"{folder}/{word or way.stem}" if folder else word or way.stem for word, folder, way in parts],
        [str(way) for way in below],
    ):
        if len({*labels}) == len(labels):
            break
    return dict(zip(specs, labels, strict=True))


def _own_word(way: PurePosixPath, path: Path) -> str:
    """What a file's or a folder's name says beside what is in it; a bugtool's the pod."""
    if not path.is_dir():
        collected = _COLLECTED.match(way.name)
        return collected[0] if collected is not None else word_of(way)
    return node_of(PurePosixPath(way.name)) or folder_of(PurePosixPath(way.name, "_")) or ""


def _folder(way: PurePosixPath, path: Path) -> str | None:
    """The folder on its way that says whose it is."""
    return folder_of(way / "_") if path.is_dir() else folder_of(way)


def _by_node(files: list[_Read], *, alone: bool) -> Dumps:
    """The dumps of all files by node. With one that has tables (and ``alone``), the others are parts of it.

    What was fetched is a node each, whatever it has.
    """
    if all(is_fetched(one.spec) for one in files):
        return {node: dump for one in files for node, dump in one.dumps.items()}
    holders = [one for one in files if one.has_tables]
    found: Dumps = {}
    if len(holders) == 1 and alone and len(holders[0].dumps) == 1:
        node, whole = next(iter(holders[0].dumps.items()))
        for one in files:
            for dump in one.dumps.values() if one is not holders[0] else ():
                whole.merge(dump)
        whole.join()
        return {node: whole}
    for one in files:
        for node, dump in one.dumps.items():
            name = node or one.label
            if name in found:
                found[name].merge(dump)
            else:
                found[name] = dump
    # Without a conntrack table files are listings of one node, but several folders are several nodes.
    folders = len(files) > 1 and all(Path(one.spec).is_dir() for one in files)
    if not folders and not any(dump.tables for dump in found.values()):
        whole = Dump()
        for dump in found.values():
            whole.merge(dump)
        found = {None: whole}
    for dump in found.values():
        dump.join()
    return found


def _whole(dumps: Dumps) -> Dump:
    """All of one node, whatever its files are called."""
    first, *others = dumps.values()
    for dump in others:
        first.merge(dump)
    first.join()
    return first


def _combined(sources: list[tuple[str, Source]], options: SourceOptions) -> Source:
    """One source of all. Tables without a node take the name of what they came from."""
    whole = Source(", ".join(source.description for _, source in sources), has_ct=False)
    homes: dict[str | None, tuple[Source, str | None]] = {}
    for spec, source in sources:
        label = "live" if spec == "auto" else spec
        names: list[str | None] = [*source.nodes()]
        if len(sources) > 1 and not _only_lacks(source) and (not names or any(t.node is None for t in source.tables)):
            for table in source.tables:
                table.node = table.node or label
            homes.setdefault(label, (source, None))
        for name in names:
            homes.setdefault(name, (source, name))
        whole.tables += source.tables
        whole.notes += [note for note in source.notes if note not in whole.notes]
        whole.details += source.details
        whole.partial += source.partial
        whole.foreign |= source.foreign
        whole.has_ct |= source.has_ct
        whole.resources.push(source.__exit__)
    if len(sources) == 1 or not homes:
        homes.setdefault(None, (sources[0][1], None))
    whole.node_names = sorted(name for name in homes if name is not None)
    _choose(whole, options)
    whole.homes = homes

    def listings(node: str | None) -> Listings:
        source, name = whole.home_of(node)
        return source.listings(name)

    def facts(node: str | None) -> NodeFacts:
        source, name = whole.home_of(node)
        return source.facts(name)

    def some(node: str | None, kinds: tuple[str, ...]) -> Listings:
        source, name = whole.home_of(node)
        return source.some(name, *kinds)

    def documents(node: str | None) -> list[bytes]:
        source, name = whole.home_of(node)
        return source.documents(name)

    def snat(node: str | None) -> list[NatTable]:
        source, name = whole.home_of(node)
        return source.snat(name) if source.snat is not None else []

    whole.listings, whole.facts, whole.partly, whole.documents = listings, facts, some, documents
    if all(source.snat is not None for _, source in sources):
        whole.snat = snat
    return whole


def _only_lacks(source: Source) -> bool:
    """Whether a source says what could not be read and nothing else: that is no node."""
    if source.tables or source.nodes() or not source.partial:
        return False
    found = source.listings(None)
    return not any(found.has(kind) for kind in KINDS)


def _choose(whole: Source, options: SourceOptions) -> None:
    """``--node`` and ``--map``. Raises NotFoundError."""
    if options.node is not None:
        if options.node not in whole.node_names:
            raise NotFoundError(unknown_name("node", options.node, whole.node_names))
        whole.tables = [table for table in whole.tables if table.node == options.node]
        whole.node_names = [options.node]
    choose_map(whole, options.map)
