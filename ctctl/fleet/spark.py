"""Spark as the engine: the same text, on a cluster of any size. The extra ``ctctl[spark]``; it needs Java."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ctctl.errors import MissingLibraryError, UnsupportedError, UsageError, first_line
from ctctl.fleet.duck import QueryError
from ctctl.fleet.lake import Lake
from ctctl.fleet.questions import Query, views
from ctctl.fleet.tables import TABLES, collection_rows, plain_schema


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
        raise MissingLibraryError("--engine spark needs PySpark", "spark") from None
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        raise UnsupportedError("--engine spark needs Java 17 or newer: apt install default-jre-headless")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.master(master).appName("ctctl")
    for name, value in _SETTINGS.items():
        builder = builder.config(name, value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        raise QueryError(f"Spark at {master}: {first_line(error)}") from None
    try:
        spark.sparkContext.setLogLevel("ERROR")
        yield spark
    finally:
        _end(spark)


def _end(spark: Any) -> None:
    """Stop the session and the Java process behind it, which else lives as long as this one."""
    context = spark.sparkContext
    gateway = context._gateway
    spark.stop()
    gateway.shutdown()
    process = getattr(gateway, "proc", None)
    if process is not None:
        process.stdin.close()  # what tells it to end
        process.wait()
        type(context)._gateway = type(context)._jvm = None


_NO_STORE = (
    "it reads s3:// with Hadoop's hadoop-aws of its own version: name it in spark-defaults.conf (spark.jars.packages), "
    "or leave out --engine"
)
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
    errors, java = importlib.import_module("pyspark.errors"), importlib.import_module("py4j.protocol")
    collections = lake.collections()
    rows = collection_rows(collections)
    spark.createDataFrame(rows.to_pylist(), _ddl(rows.schema)).createOrReplaceTempView("collections")
    try:
        for view in views(query, collections):
            _view(spark, lake, *view)
        return spark.sql(query.sql, args=dict(query.values)).toArrow()
    except (errors.ParseException, errors.AnalysisException) as error:
        raise UsageError(f"SQL: {first_line(error)}") from None
    except errors.PySparkException as error:
        raise QueryError(f"Spark: {first_line(error)}") from None
    except java.Py4JJavaError as error:
        # Said by Java, which must still run to say it.
        said = str(error.java_exception.toString()).splitlines()[0]
        if "S3AFileSystem not found" in said:
            raise UnsupportedError(f"Spark: {_NO_STORE}") from None
        raise QueryError(f"Spark: {said}") from None


def _view(spark: Any, lake: Lake, name: str, table: str, paths: list[str]) -> None:
    schema = _ddl(plain_schema(TABLES[table]))
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
