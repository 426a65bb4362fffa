"""The default engine: DuckDB in this process, with bounded memory. Nothing is written, nothing fetched."""

from __future__ import annotations

import importlib
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from ctctl.errors import CtctlError, MissingLibraryError, UsageError
from ctctl.fleet.lake import Collection, Lake
from ctctl.fleet.questions import Query, View, dollar_parameters, views
from ctctl.fleet.tables import TABLES, collection_rows, empty_rows, plain_schema

#: What the engine may take, within 2 GB for the process; more than that goes to a temporary folder.
MEMORY: Final = "1400MB"
#: The type of a cluster's name, which is a text in every row: compared and counted it is a number.
_CLUSTER: Final = "cluster_word"
#: What tells of a SELECT or a table, and of no row.
_TELLING: Final = re.compile(r"\s*(?:explain|describe|desc|show)\b", re.IGNORECASE)
_EXPLAIN: Final = re.compile(r"\s*explain\s+(?:analyze\s+)?", re.IGNORECASE)
#: What only asks, as DuckDB calls it; the second is a PIVOT, whose columns it asks for first.
_ASKING: Final = (["SELECT"], ["MULTI"])


class QueryError(CtctlError):
    """The engine could not answer."""


def duckdb() -> ModuleType:
    """The library. Raises UnsupportedError that says how to get it."""
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        raise MissingLibraryError("questions need DuckDB", "fleet") from None


def answer(lake: Lake, query: Query, memory: str = MEMORY) -> Any:
    """The answer as an Arrow table. Raises UsageError for SQL that is none, QueryError."""
    library = duckdb()
    collections = lake.collections()
    with _connection(memory) as connection:
        _collections(connection, collections)
        for view in views(query, collections):
            _view(connection, lake, view, collections)
        try:
            text = dollar_parameters(query.sql)
            _only_asks(connection, text)
            found = connection.sql(text, params=dict(query.values) or None)
            if found is None:
                raise UsageError("SQL: this is no SELECT: it has no rows to show")
            return found.to_arrow_table()
        except (library.ParserException, library.BinderException, library.CatalogException) as error:
            raise UsageError(f"SQL: {_line(error)}") from None
        except library.Error as error:
            raise QueryError(f"DuckDB: {_line(error)}") from None


def tables_named(query: Query) -> set[str]:
    """The tables of a lake that a SELECT reads, ``TABLE_latest`` by that name.

    As DuckDB understands the text; where it does not say, or is not there (Spark answers), each that is a word of it.
    """
    if _TELLING.match(query.sql):
        return set()
    lake_tables = {name for table in TABLES for name in (table, f"{table}_latest")}
    try:
        with duckdb().connect() as connection:
            named = connection.get_table_names(query.sql)
    except Exception:  # a text with parameters, a PIVOT, one of Spark's own
        named = re.findall(r"\w+", query.sql)
    return lake_tables & {name.lower() for name in named}


def _only_asks(connection: Any, text: str) -> None:
    """Raise UsageError for anything but one SELECT, or what explains one: COPY writes files, INSTALL fetches code."""
    kinds = [statement.type.name for statement in connection.extract_statements(text)]
    if kinds == ["EXPLAIN"] and (explained := _EXPLAIN.match(text)) is not None:
        kinds = [statement.type.name for statement in connection.extract_statements(text[explained.end() :])]
    if len(kinds) > 1:
        raise UsageError(f"SQL: {len(kinds)} statements: ask one SELECT at a time")
    if kinds not in _ASKING:
        raise UsageError("SQL: this is no SELECT: nothing else is done here")


@contextmanager
def _connection(memory: str) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="ctctl-fleet-") as spill:
        connection = duckdb().connect(
            config={
                "memory_limit": memory,
                "threads": len(os.sched_getaffinity(0)),
                "temp_directory": spill,
                "preserve_insertion_order": False,
                # A question reads a file up to four times: what its end says is most of what a small answer costs.
                "parquet_metadata_cache": True,
                "autoinstall_known_extensions": False,
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


def _collections(connection: Any, collections: Sequence[Collection]) -> None:
    """The table of that name, and the type for a cluster's name."""
    connection.register("collections_as_read", collection_rows(collections))
    words = ", ".join(_quoted(name) for name in sorted({one.cluster for one in collections}))
    connection.execute(f"CREATE TYPE {_CLUSTER} AS ENUM ({words})")
    connection.execute(f"CREATE VIEW collections AS {_selected('collections_as_read')}")


def _view(connection: Any, lake: Lake, view: View, collections: Sequence[Collection]) -> None:
    """A table over files of the lake: a folder's are read by the engine itself."""
    name, table, paths = view
    if not paths or not lake.local:
        rows = f"{name}_as_read"
        found = lake.dataset(paths, plain_schema(TABLES[table])) if paths else empty_rows(table)
        connection.register(rows, found)
        connection.execute(f"CREATE VIEW {name} AS {_selected(rows)}")
        return
    # What all rows of a file say alike is not read of them a hundred million times: a cluster's files are named by it.
    wanted = set(paths)
    by_cluster: defaultdict[str, list[str]] = defaultdict(list)
    for one in collections:
        if table in one.tables and one.tables[table].path in wanted:
            by_cluster[one.cluster].append(_quoted(lake.location(one.tables[table].path)))
    parts = [
        _selected(f"read_parquet([{', '.join(files)}], hive_partitioning = false)", _quoted(cluster))
        for cluster, files in by_cluster.items()
    ]
    connection.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(parts)}")


def _selected(rows: str, cluster: str = "cluster") -> str:
    return f"SELECT * REPLACE (CAST({cluster} AS {_CLUSTER}) AS cluster) FROM {rows}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())
