"""Several ``--from`` at once: files of nodes, parts of one node, live tables, snapshots: one source with nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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

if TYPE_CHECKING:
    from ctctl.decode.nat_rows import NatTable

_WORDS = ("auto", "nf", "-")


@dataclass(slots=True)
class _Read:
    """One ``--from`` that is a file or folder: what was read of it, and a name for it should it be a node."""

    spec: str
    label: str
    dumps: Dumps

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
    failed: list[CtctlError] = []
    open_options = replace(options, node=None, map=None)
    for spec in dict.fromkeys(specs):
        try:
            if spec in _WORDS or not Path(spec).exists() or in_bpffs(Path(spec)) or _is_snapshot(Path(spec)):
                others.append((spec, open_source(spec, open_options)))
            else:
                files.append(_read(spec))
        except CtctlError as error:
            failed.append(error)
    if not files and not others:
        raise failed[0]
    sources = [(spec, source) for spec, source in others]
    if files:
        dumps = _by_node(files, alone=not others)
        sources.insert(0, ("files", build(", ".join(one.spec for one in files), dumps, open_options)))
    combined = _combined(sources, options)
    combined.partial += [str(error) for error in failed]
    return combined


def _is_snapshot(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return snapshot.is_snapshot(stream.read(16))


def _read(spec: str) -> _Read:
    path = Path(spec)
    if path.is_dir():
        name = path.resolve().name
        if is_fetched(spec):
            return _Read(spec, name, {name: _whole(read_folder(path))})
        return _Read(spec, node_of(PurePosixPath(name)) or name or spec, read_folder(path))
    pure = PurePosixPath(*[part for part in path.parts if part not in ("/", "..", ".")])
    label = word_of(pure) or folder_of(pure) or path.stem
    with path.open("rb") as stream:
        head = stream.read(512)
        stream.seek(0)
        if archive.is_archive(head):
            return _Read(spec, label, read_archive(stream, spec))
        return _Read(spec, label, read_text(stream, spec).by_host(None))


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
    labels = [one.label for one in files]
    for one in files:
        for node, dump in one.dumps.items():
            name = node or (one.label if labels.count(one.label) == 1 or not one.has_tables else one.spec)
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
