"""What commands that read a source have in common: notes on stderr, and the exit code of partial data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from ctctl.cli.progress import Progress
from ctctl.errors import CtctlError, DecodeError, NotFoundError, PartialDataError
from ctctl.out.fetched import as_named, fetched
from ctctl.out.fit import CommandLine, told
from ctctl.out.pager import paged
from ctctl.out.text import safe, shell_word

if TYPE_CHECKING:
    from ctctl.cli.groups import SourceArgs
    from ctctl.doctor.finding import Where
    from ctctl.tables.namebook import LazyBook, NameBook
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.base import Source


class Opens(Protocol):
    """What opens a source: option groups, or what stands for them."""

    @property
    def verbose(self) -> bool:
        """Whether its details are told."""
        ...

    def open(self) -> Source:
        """The source. Raises CtctlError."""
        ...


@contextmanager
def opened(where: Opens, *, pages: bool = False) -> Iterator[Source]:
    """The source, its notes said on stderr; raises PartialDataError at the end if something was missing.

    ``pages``: what is printed inside goes through the pager, on a terminal.
    """
    from ctctl.config.allowance import shared

    # Names are read inside, and so is what a source is compared with.
    with shared(), where.open() as source, shown(source, verbose=where.verbose), paged() if pages else nullcontext():
        yield source


@contextmanager
def shown(source: Source, *, verbose: bool = False) -> Iterator[None]:
    """What ``opened`` does around the work on an open source."""
    for note in [*(source.details if verbose or is_verbose() else []), *source.notes]:
        say(note)
    said = len(source.notes)
    # Not over the output itself, where that is a terminal too.
    progress = Progress(source, sys.stderr) if sys.stderr.isatty() and not sys.stdout.isatty() else None
    try:
        yield
    finally:
        if progress is not None:
            progress.close()
    for note in source.notes[said:]:
        say(note)
    sys.stdout.flush()
    if source.partial:
        raise PartialDataError("partial data: " + safe("; ".join(source.partial)))


def is_verbose() -> bool:
    """Whether ``ctctl -v`` was asked for."""
    return os.environ.get("CTCTL_VERBOSE") == "1"


def say(line: str | CommandLine) -> None:
    """One line on stderr, behind what stdout has said so far: the two are often one file."""
    sys.stdout.flush()
    _write_line(line)


def _write_line(line: str | CommandLine) -> None:
    if isinstance(line, str):
        line = as_named(line)
    sys.stderr.write(told(line, sys.stderr, "ctctl: ", rest="    "))


@contextmanager
def said_anyway(lines: Iterable[str | CommandLine]) -> Iterator[None]:
    """Where stdout does not take the report of a change, ``lines`` say on stderr what was changed."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        for line in lines:
            _write_line(line)
        raise


def require_tables(source: Source, wanted: Filter | None = None) -> None:
    """Raise DecodeError if the source is of something else than conntrack tables.

    Says which fields of a filter none of them has: nothing matches by those.
    """
    if not source.has_ct:
        what = f"{source.description} has" if source.only is None else f"--map {source.only} is"
        raise DecodeError(f"{what} no conntrack table; try ctctl nat, lb, ipcache, endpoint, policy or socknat list")
    if wanted is not None and wanted.node is not None and source.tables:
        from ctctl.tables.query.ast import fields_of

        tables = [table.context() for table in source.tables]
        for field in sorted(fields_of(wanted.node)):
            if all(table.lacks(field) for table in tables):
                split = field in _TOGETHER and all(table.layout.split_counters for table in tables)
                other = f"; it counts each direction: rx_{field}, tx_{field}" if split else ""
                say(f"filter: this source does not show {field}, so nothing matches by it{other}")


#: Counters of both directions, which Cilium has from 1.16 on.
_TOGETHER = ("packets", "bytes")


def addressed(source: Source, node: str | None, text: str, *, one_packet: bool = False) -> str:
    """Packet or flow text with the names of pods, services and nodes in it as addresses (``with_addresses``)."""
    from ctctl.tables.flow_text import has_names, with_addresses
    from ctctl.tables.names import book_of

    return with_addresses(text, book_of(source, node), one_packet=one_packet) if has_names(text) else text


def names_here(node: str | None, files: Sequence[str] = (), directory: str = "auto") -> LazyBook:
    """The names that a node of this machine knows, and those of ``files``; its tables are opened only for a name.

    ``directory``: of its tables, where it was said.
    """
    from ctctl.tables.namebook import LazyBook

    def read() -> NameBook:
        from ctctl.tables.names import book_of
        from ctctl.tables.open import open_source
        from ctctl.tables.sources.base import Source, SourceOptions

        try:
            source = open_source(directory, SourceOptions(node=node, names=tuple(files)))
        except CtctlError as error:
            if node is not None:
                raise
            if not files:
                raise NotFoundError(f"no names are known here: give addresses, or --names FILE ({error})") from error
            source = Source("names", name_files=tuple(files))
        with source:
            book = book_of(source, node)
            for text in source.partial:
                if text.startswith("--names "):  # what the node's own tables lack is of no concern here
                    say(text)
            return book

    return LazyBook(read)


def addressed_by(book: LazyBook, text: str, *, one_packet: bool = False) -> str:
    """As ``addressed``, by a book that is made only for a name."""
    from ctctl.tables.flow_text import has_names, with_addresses

    return with_addresses(text, book.book, one_packet=one_packet) if has_names(text) else text


def source_words(where: SourceArgs) -> Where:
    """The options that name the source, as they were typed."""
    from ctctl.doctor.finding import Where

    timed = _typed(("--clock", where.clock), ("--now", where.now))
    of = fetched()
    if of is not None:
        return Where(_typed(("--layout", where.layout)), timed, of.command)
    given = (
        *(("--from", source) for source in where.source or () if source != "auto"),
        *(("--node", name) for name in where.named),
    )
    every = " -A" if where.every_node else ""
    target = _typed(*given) if len(given) == 1 else ""
    return Where(every + _typed(*given, ("--layout", where.layout)), timed, target=target)


def _typed(*options: tuple[str, str | int | None]) -> str:
    return "".join(f" {name} {shell_word(str(value))}" for name, value in options if value is not None)
