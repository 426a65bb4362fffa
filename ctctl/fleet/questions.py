"""The named questions: a text of standard SQL each (``sql/NAME.sql``), the same for every engine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cache
from importlib import resources
from typing import Final

from ctctl.errors import UsageError
from ctctl.fleet.lake import Collection
from ctctl.fleet.tables import TABLES, files_of, latest_of
from ctctl.model.suggest import unknown_name

_COMMENT: Final = re.compile(r"^[ \t]*+--.*$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_]+)\b")

Value = int | str
#: A view's name, the table that it shows, and its files' paths in the lake.
View = tuple[str, str, list[str]]


@dataclass(frozen=True, slots=True)
class Question:
    """``needs``: tables without which a node's answer is unknown. ``about``: what it must be told, as an option."""

    name: str
    text: str
    needs: tuple[str, ...]
    about: str | None = None


#: The questions in the order of the list. ``about`` is "flow" or "node".
QUESTIONS: Final = {
    question.name: question
    for question in (
        Question("out-without-in", "Seen OUT here and IN nowhere.", ("ct", "endpoints")),
        Question("gone-backends", "Service entries whose backend is gone.", ("ct", "backends")),
        Question("snat-ports", "SNAT ports per egress address and remote end.", ("nat",)),
        Question("top-talkers", "Who opened the most connections, over all nodes.", ("ct",)),
        Question("skew", "How unevenly the tables are filled.", ("ct",)),
        Question("expired", "Expired entries that were not collected.", ("ct",)),
        Question("flow", "One connection on every node.", ("ct",), "flow"),
        Question("growth", "How tables grew between two collections.", ("ct",)),
        Question("node-loss", "Who would be hurt if a node went.", ("ct", "endpoints"), "node"),
    )
}


@dataclass(frozen=True, slots=True)
class Query:
    """SQL with named parameters, ``:name``, and their values."""

    sql: str
    values: Mapping[str, Value]

    @property
    def tables(self) -> set[str]:
        """The tables of the lake that it names, also by ``TABLE_latest``."""
        return {table for table in TABLES if re.search(rf"\b{table}(_latest)?\b", self.sql, re.IGNORECASE)}


def question(name: str) -> Question:
    """Raises UsageError that names the nearest right one."""
    if name not in QUESTIONS:
        raise UsageError(unknown_name("question", name, QUESTIONS))
    return QUESTIONS[name]


@cache
def sql_of(name: str) -> str:
    """A question's text as it stands in its file."""
    return resources.files("ctctl.fleet").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def parameters_of(name: str) -> tuple[str, ...]:
    """What a question must be told: the names that stand behind a colon in its text."""
    return tuple(dict.fromkeys(_PARAMETER.findall(_COMMENT.sub("", sql_of(name)))))


def query(name: str, values: Mapping[str, Value]) -> Query:
    """A question with those of ``values`` that its text has. Raises UsageError for one that is not given."""
    sql, wanted = _COMMENT.sub("", sql_of(name)).strip(), parameters_of(name)
    missing = [word for word in wanted if word not in values]
    if missing:
        raise UsageError(f"{name} must be told {' and '.join(missing)}")
    return Query(sql, {word: values[word] for word in wanted})


def views(query: Query, collections: Sequence[Collection]) -> Iterator[View]:
    """What a query may name of the lake's tables."""
    for table in TABLES:
        if table in query.tables:
            yield table, table, files_of(table, collections)
            yield f"{table}_latest", table, files_of(table, latest_of(collections))


def dollar_parameters(sql: str) -> str:
    """The text with ``$name`` for ``:name``, as DuckDB has parameters."""
    return _PARAMETER.sub(r"$\1", sql)


def lacking(needs: Iterable[str], asked: Sequence[Collection]) -> list[str]:
    """What an answer of these collections, by these tables, does not know: a collection a line."""
    found, needs = [], list(needs)
    many = Counter((one.cluster, one.node) for one in asked)
    for one in asked:
        node = f"{one.cluster}/{one.node}"
        if many[one.cluster, one.node] > 1:
            node += f" at {one.collected_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        absent = [table for table in needs if table not in one.tables]
        if absent:
            found.append(f"{node}: no {' and no '.join(absent)} table was collected")
        elif not one.complete:
            found.append(f"{node}: the collection is not complete: {one.partial[0]}")
    return found
