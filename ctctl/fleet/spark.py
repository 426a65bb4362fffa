"""Spark as the engine: the same text, on a cluster of any size. The extra ``ctctl[spark]``; it needs Java."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ctctl.errors import UnsupportedError, UsageError
from ctctl.fleet.duck import QueryError
from ctctl.fleet.lake import Collection, Lake
from ctctl.fleet.questions import Query
from ctctl.fleet.tables import TABLES, collection_rows, latest_of
from ctctl.tables.show.arrow import schema_of


def answer(lake: Lake, query: Query, master: str = "local[*]") -> Any:
    """The answer as an Arrow table. Raises UnsupportedError, UsageError for SQL that is none, QueryError."""
    with session(master) as spark:
        return ask(spark, lake, query)


@contextmanager
def session(master: str) -> Iterator[Any]:
    """A Spark session, ended with the block. Raises UnsupportedError without PySpark or Java."""
    try:
        sql = importlib.import_module("pyspark.sql")
    except ImportError:
        raise UnsupportedError("--engine spark needs PySpark: pip install 'ctctl[spark]'") from None
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise UnsupportedError("--engine spark needs Java 17 or newer: apt install default-jre-headless")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.master(master).appName("ctctl")
    for name, value in _SETTINGS.items():
        builder = builder.config(name, value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise QueryError(f"Spark at {master}: {_line(error)}") from None
    try:
        spark.sparkContext.setLogLevel("ERROR")
        yield spark
    finally:
        spark.stop()


_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.shuffle.partitions": "16",
}


def ask(spark: Any, lake: Lake, query: Query) -> Any:
    """The answer of a session as an Arrow table. Raises UsageError for SQL that is none, QueryError."""
    errors = importlib.import_module("pyspark.errors")
    collections = lake.collections()
    rows = collection_rows(collections)
    spark.createDataFrame(rows.to_pylist(), _ddl(rows.schema)).createOrReplaceTempView("collections")
    for table in TABLES:
        if table in query.tables:
            _view(spark, lake, table, table, collections)
            _view(spark, lake, f"{table}_latest", table, latest_of(collections))
    try:
        return spark.sql(query.sql, args=dict(query.values)).toArrow()
    except (errors.ParseException, errors.AnalysisException) as error:
        raise UsageError(f"SQL: {_line(error)}") from None
    except errors.PySparkException as error:
        raise QueryError(f"Spark: {_line(error)}") from None


def _view(spark: Any, lake: Lake, name: str, table: str, collections: Sequence[Collection]) -> None:
    paths = [one.tables[table].path for one in collections if table in one.tables and one.tables[table].rows]
    schema = _ddl(schema_of({column: "text" if kind == "word" else kind for column, kind in TABLES[table].items()}))
    if paths:
        # Hadoop calls the newer of its two clients for S3 s3a.
        files = [lake.location(path).replace("s3://", "s3a://", 1) for path in paths]
        frame = spark.read.schema(schema).option("recursiveFileLookup", "true").parquet(*files)
    else:
        frame = spark.createDataFrame([], schema)
    frame.createOrReplaceTempView(name)


def _ddl(schema: Any) -> str:
    words = {"string": "STRING", "bool": "BOOLEAN", "int32": "INT", "int64": "BIGINT", "uint64": "DECIMAL(20, 0)"}
    return ", ".join(f"`{field.name}` {words.get(str(field.type), 'TIMESTAMP')}" for field in schema)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
