"""What of ``ctctl cluster ct …`` is done on the nodes: filters; and sums, of which nothing else travels.

A pod of ctctl's DaemonSet counts in its node's kernel and answers with a few kilobytes of JSON; what an agent listed is
counted here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ctctl.cli.ct import by_of
from ctctl.cli.groups import FilterArgs, OutputArgs
from ctctl.cli.options import TOP_ROWS
from ctctl.cli.report import say
from ctctl.errors import CtctlError
from ctctl.out.fetched import as_named
from ctctl.tables.query.ast import has_names

if TYPE_CHECKING:
    from ctctl.cluster.fetch import Answer
    from ctctl.ct.report import TableStats, Talker
    from ctctl.ct.top import By
    from ctctl.tables.query.filter import Filter

#: More groups than a table has entries.
_ALL_GROUPS = 2**31 - 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What pods of ours are told: a filter's ``words`` for ``ct export``, or a command whose answer is ``sums``."""

    words: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()


def pushed_down(words: Sequence[str], params: Mapping[str, Any]) -> Pushed:
    """What of a command is done on the nodes. Raises UsageError for a filter that is none.

    A filter that asks for names is not: a node knows its own, the API those of all. Nor are sums with ``--watch``.
    """
    if words[0] != "ct" or words[1:2] not in (["list"], ["stats"], ["top"]):
        return Pushed()
    wanted, expression = _group(FilterArgs, params), params.get("expression")
    if has_names(wanted.filter(expression).node):
        return Pushed()
    given = wanted.words(expression)
    if words[1] == "list" or params.get("watch") is not None:
        return Pushed(given)
    more = ("--by", by_of(params["by"]), "--limit", str(_ALL_GROUPS)) if words[1] == "top" else ()
    return Pushed(given, ("ctctl", "ct", words[1], *given, *more, "-o", "json"))


def write_sums(words: Sequence[str], params: Mapping[str, Any], answers: Sequence[Answer], names: Path) -> list[Answer]:
    """The sums of all nodes, as ``ct stats`` and ``ct top`` show them; the answers, with reasons for those unread."""
    from ctctl.out.options import ColorMode, Format
    from ctctl.tables.namebook import NameBook
    from ctctl.tables.names_files import add_file

    # Of words that are one of a list, a context has the text: typer turns it into the value when it calls.
    given = {**params, "output": Format(params["output"]), "color": ColorMode(params["color"])}
    options = _group(OutputArgs, given).options()
    wanted = _group(FilterArgs, params).filter(params.get("expression"))
    if words[1] == "stats":
        from ctctl.ct.show import write_stats

        tables, told = _each(answers, lambda answer: _stats(answer, wanted))
        write_stats([one for found in tables for one in found], options, sys.stdout)
        return told
    from ctctl.ct.show import top_view
    from ctctl.ct.sums import joined
    from ctctl.out.output import write_rows

    by, book = by_of(params["by"]), NameBook()
    add_file(book, names)
    limit = options.limit if options.limit is not None else TOP_ROWS
    groups, told = _each(answers, lambda answer: (answer.node, _talkers(answer, wanted, by)))
    talkers = joined(groups, by, book.shown())
    view = top_view(by, talkers)
    write_rows(view, talkers if options.sort else talkers[:limit], replace(options, limit=limit), sys.stdout)
    return told


def _each(answers: Sequence[Answer], read: Callable[[Answer], T]) -> tuple[list[T], list[Answer]]:
    """What was read of each answer; one that cannot be read has its reason instead."""
    found, told = [], []
    for answer in answers:
        told.append(answer)
        try:
            if answer.reason is None:
                found.append(read(answer))
        except CtctlError as error:
            reason = as_named(str(error))
            say(f"{answer.node}: what it answered cannot be read: {reason}")
            told[-1] = replace(answer, reason=reason)
    return found, told


def _group(kind: Callable[..., T], params: Mapping[str, Any]) -> T:
    """The values of an option group's fields; of options that may be repeated a context has tuples."""
    given = {field.name: params[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: (list(value) or None) if isinstance(value, tuple) else value for name, value in given.items()})


def _stats(answer: Answer, wanted: Filter) -> list[TableStats]:
    from ctctl.ct.stats import stats
    from ctctl.ct.sums import stats_of_document
    from ctctl.tables.open import open_source

    if answer.document is not None:
        found = stats_of_document(answer.document)
    else:
        with open_source(str(answer.folder)) as source:
            found = list(stats(source, wanted))
    return [replace(one, node=answer.node) for one in found]


def _talkers(answer: Answer, wanted: Filter, by: By) -> list[Talker]:
    from ctctl.ct.sums import talkers_of_document
    from ctctl.ct.top import top
    from ctctl.tables.names import NodeNames
    from ctctl.tables.open import open_source

    if answer.document is not None:
        return talkers_of_document(answer.document)
    with open_source(str(answer.folder)) as source:
        return top(source, by, wanted, limit=None, names=NodeNames(source))
