"""Which node a file of a folder or an archive is of, by its path; several files of one node are one dump."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeAlias, TypeVar

from ctctl.errors import DecodeError
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.facts import NodeFacts

Dumps = dict[str | None, Dump]
Name = TypeVar("Name", str, str | None)
Way: TypeAlias = tuple[str, ...]

_POD = re.compile(r"cilium-bugtool-(?P<pod>[0-9.-]*+[a-z][a-z0-9.-]*?)-\d{8}-\d{6}")
_NAMED = re.compile(r"cilium-bugtool-(?P<pod>[a-z][a-z0-9.-]{0,60})$")
#: Folders that say what is in them, not whose it is.
_STRUCTURE = re.compile(
    r"(?:\.*|cmd|cli|conf|state|logs?|tmp|files?|dumps?|data|out|cilium-(?:sysdump|bugtool)\b.*|.*\.(?:tar|gz|tgz|zip|bz2|xz))$",
    re.I,
)
#: Of those what is a whole by itself: where nothing else says whose it is, its own name does.
_WHOLE = re.compile(r"cilium-(?:sysdump|bugtool)\b.*|.*\.(?:tar|gz|tgz|zip|bz2|xz)$", re.I)
_WORDS = re.compile(r"[-_.+\s]+")
#: An address as a file is called by it, also as machines of a cloud are.
_ADDRESS = re.compile(r"(?<![\d.])(?:\d{1,3}(?:\.\d{1,3}){3}|\bip-\d{1,3}(?:-\d{1,3}){3})(?![\d.-]*\d)")
#: Words of which a folder's name is made where it says which table is in it, and not whose it is.
_TABLE = re.compile(
    r"(?:bpf|bpftool|maps?|dump|pinned|sys|fs|tc|globals|ct|ct4|ct6|ctmap|conntrack|any|any4|any6|nat|snat|v4|v6|ipv4|ipv6"
    r"|lb4|lb6|list|tcp|all|ipcache|json|yaml|txt|raw|entries|tables?)$",
    re.I,
)
#: A day, with or without a time, and a number as long as a time: when a file was made, not whose it is.
_WHEN = re.compile(
    r"(?<!\d)(?:20\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"
    r"(?:[-_.T ]{0,2}[0-2]\d[-_.:h]?[0-5]\d(?:[-_.:m]?[0-5]\d)?)?Z?|\d{6,})(?![\da-zA-Z])"
)
#: Words of a file's name that say which listing it is.
_LISTING = re.compile(
    r"(?:cilium|dbg|bpf|bpftool|map|dump|pinned|sys|fs|tc|globals|ct|ct4|ct6|ctmap|conntrack|any|any4|any6|nat|snat|v4|v6|lb"
    r"|lb4|lb6|list|global|tcp|all|time|diff|timediff|external|backends?|frontends?|revnat|reverse|source|ranges?|services?"
    r"|svc|maglev|ipcache|endpoints?|lxc|ip|ep|id|identity|policy|tunnel|metrics?|status|verbose|config|agent|runtime"
    r"|configmap|json|jsonl|yaml|yml|csv|html?|txt|md|out|log|snap|ctsnap|tar|tgz|zip|gz|bz2|xz|raw|live|entries|tables?|\d+)$",
    re.I,
)


def node_of(path: PurePosixPath) -> str | None:
    """The node a member is of: the pod in the name of its bugtool folder or archive, None if there is none."""
    for part in path.parts:
        match = _POD.match(part) or _NAMED.match(part)
        if match is not None:
            return match["pod"]
    return None


def folder_of(path: PurePosixPath) -> str | None:
    """The first folder on a member's way that says whose it is, else the archive that it is in."""
    parts = path.parts[:-1]
    named = next((part for part in parts if not _STRUCTURE.match(part)), None)
    return named or next((part for part in parts if _WHOLE.match(part)), None)


def _way_of(path: PurePosixPath) -> Way:
    """The folders and archives on a member's way, but for those that say only what is in them."""
    return tuple(part for part in path.parts[:-1] if _WHOLE.match(part) or not _is_structure(part))


def _is_structure(folder: str) -> bool:
    words = [word for word in _WORDS.split(folder) if word]
    return all(map(_TABLE.match, words)) or _STRUCTURE.match(folder) is not None


def _names_of(ways: Iterable[Way], holders: Collection[Way]) -> dict[Way, str | None]:
    """What each way says whose its files are: where those that hold tables part, what they go on with.

    A folder around all of them, and an archive that they are in, is of none.
    """
    first, last = (min(holders), max(holders)) if len(holders) > 1 else ((), ())
    shared, least = 0, min(map(len, holders), default=0)
    while shared < min(least, len(first)) - 1 and first[shared] == last[shared]:  # so of all that lie between them
        shared += 1
    ends = {way[shared:] for way in holders if way}
    told = {name for end in ends if (name := _first_folder(end)) is not None}
    # An archive's own name only where nothing in it says more, or says the same of another.
    by_folder = len(told) >= len({end[0] for end in ends})
    found: dict[Way, str | None] = {}
    for way in ways:
        end = way[shared:] if way[:shared] == first[:shared] else ()
        found[way] = (_first_folder(end) if by_folder else None) or (end[0] if end else None)
    return found


def _first_folder(way: Way) -> str | None:
    return next((part for part in way if not _WHOLE.match(part)), None)


def word_of(path: PurePosixPath) -> str:
    """What a file's name says beside which listing it is: ``node1`` of ``node1-ct-list.txt``, an address."""
    return word_in(path.name)


def word_in(name: str) -> str:
    """The same of a name.

    A number belongs to the word before it, but for those of days and times; the number of a listing says nothing.
    """
    found, named = [], False
    if (address := _ADDRESS.search(name)) is not None:
        return address[0]
    for word in _WORDS.split(_WHEN.sub(" ", name)):
        named = bool(word) and (named if word.isdecimal() else _LISTING.match(word) is None)
        if named:
            found.append(word)
    return "-".join(found)[:60]


@dataclass(slots=True)
class _Place:
    """What was found in one folder (or of one bugtool), by the word in the files' names."""

    words: dict[str, Dump] = field(default_factory=dict)


@dataclass(slots=True)
class Members:
    """Dumps by node, found out once all members are known."""

    pods: dict[str, Dump] = field(default_factory=dict)
    folders: dict[Way, _Place] = field(default_factory=dict)
    #: what could not be read of files of which nothing else is known
    loose: list[str] = field(default_factory=list)
    #: how many dumps there are, each perhaps a node's, and how many of these have what only a node's has
    count: int = 0
    nodes: int = 0

    def add(self, path: PurePosixPath, part: Dump, host: str | None = None) -> None:
        """What one file holds; ``host``: of the machine that the file itself names."""
        pod = node_of(path)
        if pod is not None:
            new = _add_to(self.pods, pod, part)
            self.count, self.nodes = self.count + new, self.nodes + new
            return
        if not part.kinds and not part.documents:
            self.loose += part.partial
            return
        place = self.folders.setdefault(_way_of(path), _Place())
        word = word_of(path) if host is None else host
        known = word in place.words and bool(place.words[word].tables)
        self.count += _add_to(place.words, word, part)
        self.nodes += bool(place.words[word].tables) and not known

    def unread(self, path: PurePosixPath | None, text: str) -> None:
        """What of a file could not be read: of the node that it is of, where that is known and has others."""
        pod = node_of(path) if path is not None else None
        if pod is not None and pod in self.pods:
            self.pods[pod].partial.append(text)
        else:
            self.loose.append(text)

    def by_node(self) -> Dumps:
        """The nodes' dumps. What is of no node (a config map beside the nodes' folders) is of all of them.

        Raises DecodeError where nothing was found but things that could not be read.
        """
        found: Dumps = {}
        found.update(self.pods)
        shared: list[Dump] = []
        holders = [way for way, place in self.folders.items() if _has_tables(place)]
        names = _names_of(self.folders, holders)
        nodes = {name for way in holders if (name := names[way]) is not None}
        nodes |= {name for name, dump in self.pods.items() if dump.tables}
        for way, place in self.folders.items():
            name = names[way]
            split = [word for word, dump in place.words.items() if word and dump.tables]
            many = len(split) > 1
            for word, dump in place.words.items():
                if many and word in split:
                    node: str | None = f"{name}/{word}" if name and len(nodes) > 1 else word
                else:
                    node = name if len(nodes) > 1 and name in nodes else None
                if node is None:
                    shared.append(dump)
                else:
                    _add_to(found, node, dump)
        said = Dump()
        said.partial = self.loose
        return _with_shared(found, [*shared, said])


def _add_to(dumps: dict[Name, Dump], name: Name, part: Dump) -> bool:
    """A file's part to what is there of that name; the first (True) is taken as it is: most nodes have few files."""
    whole = dumps.setdefault(name, part)
    if whole is not part:
        whole.merge(part)
    return whole is part


def _has_tables(place: _Place) -> bool:
    return any(dump.tables for dump in place.words.values())


def _with_shared(found: Dumps, shared: list[Dump]) -> Dumps:
    """Files of no node: the only node's, or a node without a name, but for what they say of all of them."""
    found = {node: dump for node, dump in found.items() if dump.kinds or dump.partial}
    rest, of_all = Dump(), NodeFacts()
    for dump in shared:
        rest.merge(dump)
        # What stands beside a node's own tables is of that node.
        of_all.merge(NodeFacts() if dump.tables else dump.facts)
    real = {node: dump for node, dump in found.items() if dump.kinds}
    if not real:
        for dump in found.values():
            rest.merge(dump)
        if rest.kinds:
            real = {None: rest}
        elif rest.partial:
            raise DecodeError("; ".join(rest.partial))
    elif rest.tables and len(real) == 1 and not next(iter(real.values())).tables:
        next(iter(real.values())).merge(rest)
    else:
        for dump in real.values():
            dump.facts.merge(of_all)
            dump.documents += rest.documents
        first = next(iter(real.values()))
        first.partial += rest.partial
        if rest.tables:
            real[None] = rest
            rest.partial = []
        first.partial += [f"{node}: {text}" for node, dump in found.items() if not dump.kinds for text in dump.partial]
    for dump in real.values():
        dump.join()
    return real
