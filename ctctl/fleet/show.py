"""Answers and outcomes as rows."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from ctctl.fleet.collect import Outcome
from ctctl.fleet.lake import Collection
from ctctl.fleet.questions import Question
from ctctl.fleet.schema import ANSWER, COLLECTION, OUTCOME, QUESTION
from ctctl.out.view import Column, View


def moment(value: datetime | None) -> str | None:
    """A time as people and JSON have it, in UTC."""
    return None if value is None else value.strftime("%Y-%m-%dT%H:%M:%SZ")


def answer_view(answer: Any) -> View[dict[str, Any]]:
    """The columns of an answer, whatever they are."""

    def column(name: str, right: bool, priority: int) -> Column[dict[str, Any]]:
        def value(row: dict[str, Any]) -> object:
            found = row[name]
            if isinstance(found, datetime):
                return moment(found)
            return found if isinstance(found, int | float | str | bool | None) else str(found)

        def text(row: dict[str, Any]) -> str:
            found = value(row)
            return "-" if found is None else f"{found:.3g}" if isinstance(found, float) else _word(found)

        return Column(name, name.upper(), value, text, right=right, priority=priority)

    numbers = ("int", "uint", "double", "float", "decimal", "hugeint")
    columns = [
        column(field.name, str(field.type).startswith(numbers), _priority(answer.column(at)))
        for at, field in enumerate(answer.schema)
    ]
    return View(ANSWER, "rows", columns, lambda row: " ".join(_word(value) for value in row.values()))


def _priority(column: Any) -> int:
    """What is empty in every row goes first where a terminal is narrow, then what is the same in all of them."""
    if column.null_count == len(column):
        return 2
    try:
        return 1 if len(column) > 1 and len(column.unique()) == 1 else 0
    except NotImplementedError:  # Arrow does not compare lists and their like
        return 0


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def own_names(answer: Any) -> Any:
    """The answer with a name for each of its columns: of those that SQL calls alike the second is ``NAME_2``."""
    given = frozenset(answer.column_names)
    names: dict[str, None] = {}
    for name in answer.column_names:
        number, own = 1, name
        while own in names or (number > 1 and own in given):  # who was called so keeps the name
            number += 1
            own = f"{name}_{number}"
        names[own] = None
    return answer.rename_columns([*names])


def rows_of(answer: Any) -> list[dict[str, Any]]:
    """The rows of an answer by column name, its numbers as Python's own whatever width the engine gave them."""
    return [{name: _plain(value) for name, value in row.items()} for row in answer.to_pylist()]


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def outcome_view() -> View[Outcome]:
    """What became of each node."""
    return View(
        OUTCOME,
        "outcomes",
        [
            Column("source", "SOURCE", lambda one: one.source),
            Column("node", "NODE", lambda one: one.node),
            Column("status", "STATUS", lambda one: one.status),
            Column("rows", "ROWS", lambda one: one.rows, right=True),
            Column("bytes", "BYTES", lambda one: one.bytes, right=True, priority=1),
            Column("collected_at", "COLLECTED_AT", lambda one: moment(one.collected_at)),
            Column("collection", "COLLECTION", lambda one: one.collection, wide=True),
            Column("problem", "PROBLEM", lambda one: one.problem, prose=True),
        ],
        lambda one: f"{one.source} {one.node or '-'}",
    )


def collection_view() -> View[Collection]:
    """What a lake holds."""
    return View(
        COLLECTION,
        "collections",
        [
            Column("cluster", "CLUSTER", lambda one: one.cluster),
            Column("node", "NODE", lambda one: one.node),
            Column("collected_at", "COLLECTED_AT", lambda one: moment(one.collected_at)),
            Column("time_evidence", "TIME_EVIDENCE", lambda one: one.time_evidence, wide=True),
            Column(
                "tables",
                "TABLES",
                lambda one: {name: part.rows for name, part in one.tables.items()},
                lambda one: " ".join(f"{name} {part.rows}" for name, part in one.tables.items()),
                prose=True,
            ),
            Column("source", "SOURCE", lambda one: one.source, priority=1),
            Column("problem", "PROBLEM", lambda one: "; ".join(one.partial) or None, prose=True),
            Column("collection", "COLLECTION", lambda one: one.collection, wide=True),
        ],
        lambda one: one.collection,
    )


def question_view() -> View[Question]:
    """The named questions."""
    return View(
        QUESTION,
        "questions",
        [
            Column("name", "NAME", lambda one: one.name),
            Column("question", "QUESTION", lambda one: one.text),
            Column("needs", "NEEDS", lambda one: list(one.needs)),
            Column("about", "ABOUT", lambda one: one.about),
        ],
        lambda one: one.name,
    )
