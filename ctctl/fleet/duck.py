"""The default engine: DuckDB in this process, with bounded memory. Nothing is written, nothing fetched."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from ctctl.errors import CtctlError, MissingLibraryError, UsageError
from ctctl.fleet.lake import Collection, Lake
from ctctl.fleet.questions import Query, dollar_parameters, views
from ctctl.fleet.tables import TABLES, collection_rows, empty_rows, plain_schema

#: What the engine may take, within 2 GB for the process; more than that goes to a temporary folder.
MEMORY: Final = "1400MB"
#: Columns that say whose a row is. Texts in millions of rows, they are compared and counted as numbers.
_WHOSE: Final = ("cluster",)
_AS_WORDS: Final = f"REPLACE ({', '.join(f'CAST({name} AS {name}_word) AS {name}' for name in _WHOSE)})"


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
            _view(connection, lake, *view)
        try:
            found = connection.sql(dollar_parameters(query.sql), params=dict(query.values) or None)
            if found is None:
                raise UsageError("SQL: this is no SELECT: it has no rows to show")
            return found.to_arrow_table()
        except (library.ParserException, library.BinderException, library.CatalogException) as error:
            raise UsageError(f"SQL: {_line(error)}") from None
        except library.Error as error:
            raise QueryError(f"DuckDB: {_line(error)}") from None


@contextmanager
def _connection(memory: str) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="ctctl-fleet-") as spill:
        connection = duckdb().connect(
            config={
                "memory_limit": memory,
                "threads": len(os.sched_getaffinity(0)),
                "temp_directory": spill,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


def _collections(connection: Any, collections: Sequence[Collection]) -> None:
    """The table of that name, and a type for each column that says whose a row is: a number for the engine."""
    connection.register("collections_as_read", collection_rows(collections))
    for name in _WHOSE:
        words = sorted({getattr(one, name) for one in collections})
        connection.execute(f"CREATE TYPE {name}_word AS ENUM ({', '.join(map(_quoted, words))})")
    connection.execute(f"CREATE VIEW collections AS SELECT * {_AS_WORDS} FROM collections_as_read")


def _view(connection: Any, lake: Lake, name: str, table: str, paths: list[str]) -> None:
    """A table over files of the lake: a folder's are read by the engine itself."""
    rows = f"{name}_as_read"
    if not paths:
        connection.register(rows, empty_rows(table))
    elif not lake.local:
        connection.register(rows, lake.dataset(paths, plain_schema(TABLES[table])))
    else:
        files = ", ".join(_quoted(lake.location(path)) for path in paths)
        rows = f"read_parquet([{files}], hive_partitioning = false)"
    connection.execute(f"CREATE VIEW {name} AS SELECT * {_AS_WORDS} FROM {rows}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _line(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())
