"""``ctctl ct list`` and ``ct get`` where little is asked of them, without the time that importing typer takes:
half of a short list's.

What is more than a source, a form of output and a filter's expression, or a flow, is typer's to read, and so is
whatever is wrong. A test holds the two to the same listing, whatever is typed.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from ctctl.cli.commands import PLAIN
from ctctl.out.options import Format, OutputOptions

if TYPE_CHECKING:
    from ctctl.cli.report import Opens
    from ctctl.tables.query.filter import Filter
    from ctctl.tables.sources.base import Source

#: What has a say beside the words, and is heard by typer's side only.
_ENVIRONMENT = ("_CTCTL_COMPLETE", "CTCTL_NODE")
_FORMS = {str(form.value): form for form in Format}


class PlainSource(NamedTuple):
    """As ``SourceArgs`` with nothing but ``--from``."""

    source: list[str] | None
    verbose: bool = False

    def open(self) -> Source:
        """The source. Raises CtctlError."""
        from ctctl.tables.open import open_source
        from ctctl.tables.sources.base import SourceOptions

        return open_source(self.source or "auto", SourceOptions())


class Plain(NamedTuple):
    """What was typed behind ``ct list``, a filter's words, or behind ``ct get``, a flow."""

    command: str
    words: list[str]
    source: list[str] | None
    output: Format

    def run(self) -> None:
        """Show it. Raises CtctlError."""
        where, options = PlainSource(self.source), OutputOptions(self.output)
        if self.command == "get":
            show_connections(where, self.words[0], options)
        else:
            show(where, filter_of(self.words), options)


def asked() -> Plain | None:
    """What is asked for, where it is plain and on streams that are open; None: something else is."""
    if any(name in os.environ for name in _ENVIRONMENT) or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    return read(sys.argv[1:])


def read(words: list[str]) -> Plain | None:
    """The words of a command line, where they are plain; None: they are something else, or wrong."""
    if words[:2] not in PLAIN or "" in words:
        return None
    expression: list[str] = []
    source: list[str] | None = None
    output: Format | None = None
    rest = iter(words[2:])
    for word in rest:
        if not word.startswith("-"):
            expression.append(word)
            continue
        value = next(rest, "--")
        if word == "--from" and source is None and (value == "-" or not value.startswith("-")):
            source = [value]
        elif word in ("-o", "--output") and output is None and value in _FORMS:
            output = _FORMS[value]
        else:
            return None
    if words[1] == "get" and len(expression) != 1:
        return None
    return Plain(words[1], expression, source, output or Format.table)


def filter_of(expression: list[str]) -> Filter:
    """The filter of an expression alone. Raises UsageError."""
    if not expression:
        from ctctl.tables.query.filter import EVERYTHING

        return EVERYTHING
    from ctctl.tables.query.flags import FilterFlags

    return FilterFlags().filter(" ".join(expression))


def show(where: Opens, wanted: Filter, options: OutputOptions, *, raw: bool = False, time_diff: bool = False) -> None:
    """Write the entries of a source that a filter lets through to stdout. Raises CtctlError."""
    from ctctl.cli.report import opened, require_tables
    from ctctl.ct.listing import Listing
    from ctctl.ct.show_list import needs_names, write_listing
    from ctctl.tables.names import NodeNames, no_names
    from ctctl.tables.rows import matching

    with opened(where, pages=True) as source:
        require_tables(source, wanted)
        names = NodeNames(source) if needs_names(options) else no_names
        listing = Listing(options, names, raw, time_diff)
        write_listing(source, lambda table: matching(table, wanted), listing, sys.stdout)


def show_connections(
    where: Opens, flow: str, options: OutputOptions, node: str | None = None, *, raw: bool = False
) -> None:
    """Write everything about the connections of a flow to stdout; names in it are ``node``'s. Raises CtctlError."""
    from ctctl.cli.report import addressed, opened
    from ctctl.ct.get import get
    from ctctl.ct.show import write_connections

    with opened(where) as source:
        write_connections(get(source, addressed(source, node, flow)), options, sys.stdout, raw=raw)
