"""``ctctl fleet``: tables of many nodes collected into a lake, and questions to it."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctctl.cli import complete
from ctctl.cli.groups import OutputArgs, SourceArgs, grouped
from ctctl.cli.options import ClockOpt, LayoutOpt, NamesOpt, NowOpt
from ctctl.errors import DecodeError, NotFoundError, PartialDataError, PermissionDenied, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ctctl.fleet.lake import Lake
    from ctctl.fleet.questions import Query, Value
    from ctctl.tables.sources.base import Source

app = typer.Typer(
    help="Tables of many nodes as Parquet files, and questions to them in SQL.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
#: Rows of an answer to a named question, unless --limit says otherwise.
ROWS = 1000
#: As many as an engine's LIMIT takes.
_ALL_ROWS = 2**31 - 1
_ENGINES = ("duckdb", "spark")
#: Options that a question is told by, and a parameter of its SQL that each sets.
_TELLS = {"--flow": "src_port", "--node": "node", "--first-port": "first_port"}


def _questions(_ctx: typer.Context) -> list[str]:
    from ctctl.fleet.questions import QUESTIONS

    return list(QUESTIONS)


def _lake_nodes(ctx: typer.Context) -> list[str]:
    from ctctl.fleet.lake import Lake

    return sorted({one.node for one in Lake(str(ctx.params["lake"])).collections()})


LakeOpt = Annotated[
    str, typer.Option("--lake", metavar="LAKE", help="A folder, or a URL: file://, s3://, gs://, hdfs://.")
]
EngineOpt = Annotated[
    str,
    typer.Option("--engine", metavar="duckdb|spark", help="Who answers.", autocompletion=complete.words(*_ENGINES)),
]
MasterOpt = Annotated[str, typer.Option("--master", metavar="URL", help="With --engine spark: the cluster.")]


@app.command()
@grouped
def collect(
    lake: Annotated[str, typer.Argument(metavar="LAKE", help="A folder, or a URL: file://, s3://, gs://, hdfs://.")],
    source: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="SRC", help="What --from takes elsewhere, each by itself; several times."),
    ] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="NAME", help="The cluster the nodes are of.")
    ] = "default",
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="The node, of one source that does not name it.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="When the source was made (ISO 8601); else by its own evidence."),
    ] = None,
    now: NowOpt = None,
    clock: ClockOpt = None,
    layout: LayoutOpt = None,
    names: NamesOpt = None,
    *,
    out: OutputArgs,
) -> None:
    """Collect sources into a lake of Parquet files: each node once, whole or not at all; again = what is missing.

    \b
    ctctl fleet collect lake/ --from cilium-sysdump.zip
    ctctl fleet collect lake/ --from a.ctsnap --from b.ctsnap --cluster prod
    ctctl fleet collect s3://bucket/lake --from auto
    """
    from ctctl.cli.report import say
    from ctctl.fleet.collect import Wanted, not_fetched
    from ctctl.fleet.collect import collect as run
    from ctctl.fleet.lake import Lake
    from ctctl.fleet.show import outcome_view
    from ctctl.out.output import write_rows

    specs = source or ["auto"]
    if node is not None and len(specs) > 1:
        raise UsageError("--node names the node of one source; give one --from")
    options = SourceArgs(now=now, clock=clock, layout=layout, names=names).options()
    wanted = Wanted(cluster, node, _time(at), options)
    outcomes = list(run(Lake(lake), specs, wanted, lambda one: say(one.problem) if one.problem else None))
    outcomes += not_fetched()
    write_rows(outcome_view(), outcomes, out.options(), sys.stdout)
    failed = [one for one in outcomes if one.problem]
    if failed and len(failed) == len(outcomes) and all(one.status == "failed" for one in failed):
        raise (PermissionDenied if all(one.refused for one in failed) else NotFoundError)("nothing was collected")
    if failed:
        raise PartialDataError(f"partial data: {', '.join(one.node or one.source for one in failed)}")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text!r}: write a time as 2026-01-15T10:15:30Z") from None
    return found.astimezone()


@app.command()
@grouped
def ask(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A question; without one: the list.", autocompletion=_questions),
    ] = None,
    lake: LakeOpt = "",
    flow: Annotated[
        str | None, typer.Option("--flow", metavar="FLOW", help="Of flow: 'tcp SRC:PORT > DST:PORT'.")
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", metavar="NAME", help="Of node-loss: the node.", autocompletion=_lake_nodes)
    ] = None,
    first_port: Annotated[
        int | None,
        typer.Option(
            "--first-port",
            metavar="N",
            min=1,
            max=65535,
            help="Of snat-ports: first port that SNAT gives out; else 32768.",
        ),
    ] = None,
    show_sql: Annotated[bool, typer.Option("--show-sql", help="Print the question's SQL and ask nothing.")] = False,
    engine: EngineOpt = "duckdb",
    master: MasterOpt = "local[*]",
    *,
    out: OutputArgs,
) -> None:
    """Ask a lake a named question, of each node's newest collection.

    \b
    ctctl fleet ask                                    the questions
    ctctl fleet ask out-without-in --lake lake/
    ctctl fleet ask flow --lake lake/ --flow 'tcp 10.64.0.36:1 > 10.64.0.64:80'
    ctctl fleet ask node-loss --lake lake/ --node node-a -o json
    """
    from ctctl.cli.report import say
    from ctctl.fleet import questions
    from ctctl.fleet.show import answer_view, question_view, rows_of
    from ctctl.fleet.tables import latest_of
    from ctctl.out.output import write_rows
    from ctctl.tables.snat_ports import FIRST_PORT

    options = out.options()
    if name is None:
        write_rows(question_view(), questions.QUESTIONS.values(), options, sys.stdout)
        return
    asked = questions.question(name)
    _check_heeded(name, {"--flow": flow, "--node": node, "--first-port": first_port})
    if show_sql:
        sys.stdout.write(questions.sql_of(name))
        return
    if asked.about is not None and {"flow": flow, "node": node}[asked.about] is None:
        raise UsageError(f"{name} is asked of one {asked.about}: give --{asked.about}")
    limit = options.limit if options.limit is not None else ROWS
    # Sorted otherwise, the first rows may be anywhere in the answer.
    asked_for = min(limit + 1, _ALL_ROWS) if options.sort is None else _ALL_ROWS
    values: dict[str, Value] = {"row_limit": asked_for, "first_port": first_port or FIRST_PORT}
    if node is not None:
        values["node"] = node
    if flow is not None:
        values |= _flow_values(flow)
    opened = _lake(lake)
    collections = opened.collections()
    if node is not None and node not in {one.node for one in collections}:
        from ctctl.model.suggest import unknown_name

        raise NotFoundError(unknown_name("node", node, {one.node: None for one in collections}))
    answer = _answer(opened, questions.query(name, values), engine, master)
    rows = rows_of(answer)
    if len(rows) > limit and options.limit is None:
        say(f"the first {limit} rows; more with --limit")
    write_rows(answer_view(answer), rows, replace(options, limit=limit), sys.stdout)
    sys.stdout.flush()
    unknown = questions.lacking(asked.needs, latest_of(collections))
    if unknown:
        raise PartialDataError("unknown for: " + "; ".join(unknown))


def _check_heeded(name: str, given: Mapping[str, object]) -> None:
    """Refuse what the question is not told: its answer would be taken for that of one node. Raises UsageError."""
    from ctctl.fleet.questions import QUESTIONS, parameters_of

    for option, parameter in _TELLS.items():
        if given[option] is not None and parameter not in parameters_of(name):
            takers = [known for known in QUESTIONS if parameter in parameters_of(known)]
            raise UsageError(f"{option} goes with {' or '.join(takers)}, not with {name}")


def _flow_values(flow: str) -> dict[str, Value]:
    from ctctl.fleet.tables import halves
    from ctctl.tables.flow_text import connection_of
    from ctctl.tables.namebook import NameBook

    found = connection_of(flow, NameBook())
    (src_hi, src_lo), (dst_hi, dst_lo) = halves(found.src), halves(found.dst)
    return {
        "family": found.src.version,
        "proto": found.proto,
        "src_hi": src_hi,
        "src_lo": src_lo,
        "src_port": found.src_port,
        "dst_hi": dst_hi,
        "dst_lo": dst_lo,
        "dst_port": found.dst_port,
    }


@app.command()
@grouped
def sql(
    text: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT.")],
    lake: LakeOpt = "",
    engine: EngineOpt = "duckdb",
    master: MasterOpt = "local[*]",
    *,
    out: OutputArgs,
) -> None:
    """Ask a lake in SQL: tables ct, nat, services, backends, ipcache, endpoints and collections.

    Of each also TABLE_latest, with the newest collection of each node.

    \b
    ctctl fleet sql 'SELECT count(*) FROM ct' --lake lake/
    ctctl fleet sql 'SELECT node, count(*) FROM ct GROUP BY node' --lake lake/
    """
    from ctctl.fleet.duck import tables_named
    from ctctl.fleet.questions import Query, lacking
    from ctctl.fleet.tables import TABLES, latest_of

    opened, query = _lake(lake), Query(text, {})
    show_answer(opened, query, engine, master, out)
    sys.stdout.flush()
    named, collections = tables_named(query), opened.collections()
    needs = [table for table in TABLES if named & {table, f"{table}_latest"}]
    asked = collections if named & set(TABLES) else latest_of(collections)
    if needs and (unknown := lacking(needs, asked)):
        raise PartialDataError("unknown for: " + "; ".join(unknown))


@app.command("list")
@grouped
def list_collections(lake: LakeOpt = "", *, out: OutputArgs) -> None:
    """What a lake holds: its collections, the oldest first.

    \b
    ctctl fleet list --lake lake/
    """
    from ctctl.fleet.show import collection_view
    from ctctl.out.output import write_rows

    write_rows(collection_view(), _lake(lake).collections(), out.options(), sys.stdout)


def _lake(where: str) -> Lake:
    from ctctl.fleet.lake import Lake

    if not where:
        raise UsageError("give the lake with --lake: a folder or a URL")
    return Lake(where)


def _answer(lake: Lake, query: Query, engine: str, master: str) -> object:
    from ctctl.fleet import duck, spark
    from ctctl.fleet.show import own_names
    from ctctl.model.suggest import unknown_name

    if engine not in _ENGINES:
        raise UsageError("--engine: " + unknown_name("engine", engine, _ENGINES))
    return own_names(spark.answer(lake, query, master) if engine == "spark" else duck.answer(lake, query))


def show_answer(lake: Lake, query: Query, engine: str, master: str, out: OutputArgs) -> None:
    """Ask and write the rows."""
    from ctctl.fleet.show import answer_view, rows_of
    from ctctl.out.output import write_rows

    answer = _answer(lake, query, engine, master)
    write_rows(answer_view(answer), rows_of(answer), out.options(), sys.stdout)


@grouped
def sql_of_source(
    text: Annotated[str, typer.Argument(metavar="SQL", help="A SELECT.")],
    *,
    out: OutputArgs,
    where: SourceArgs,
) -> None:
    """Ask one source in SQL: tables ct, nat, services, backends, ipcache, endpoints, as ctctl fleet sql has them.

    \b
    ctctl ct sql 'SELECT state, count(*) AS n FROM ct GROUP BY state'
    ctctl ct sql 'SELECT src, dst FROM ct WHERE expired' --from sysdump.zip -o csv
    """
    import tempfile

    from ctctl.cli.report import opened
    from ctctl.config.allowance import shared
    from ctctl.fleet.collect import ASKED_NODE_WORK, collect_source
    from ctctl.fleet.duck import duckdb, tables_named
    from ctctl.fleet.lake import Lake
    from ctctl.fleet.questions import Query
    from ctctl.fleet.tables import TABLES
    from ctctl.tables.show.arrow import pyarrow

    for library in (duckdb, pyarrow):
        library()  # what is missing is said before a large source is read
    with tempfile.TemporaryDirectory(prefix="ctctl-sql-") as folder, shared(ASKED_NODE_WORK), opened(where) as source:
        lake = Lake(str(Path(folder)))
        spec = where.source[-1] if where.source else "auto"
        try:
            outcomes = collect_source(lake, source, spec)
        except OSError as error:  # of the source: what the lake says has its own error
            raise DecodeError(f"{error.filename or spec}: {error.strerror or error}") from None
        if all(one.status == "failed" for one in outcomes):
            raise NotFoundError(f"{spec} shows no table that SQL is asked of: {', '.join(TABLES)}")
        query = Query(text, {})
        show_answer(lake, query, "duckdb", "", out)
        _check_shown(source, lake, {name.removesuffix("_latest") for name in tables_named(query)})


def _check_shown(source: Source, lake: Lake, named: set[str]) -> None:
    """Say what a source does not show of the tables that were asked: missing data, but where it is live."""
    from ctctl.cli.listed import is_live, title
    from ctctl.cli.report import say

    collections = lake.collections()
    for one in collections:
        whose = f"{one.node}: " if len(collections) > 1 else ""
        for table in sorted(named - set(one.tables)):
            if is_live(source, one.node if one.node in source.nodes() else None):
                say(f"{whose}not pinned here: {title(table)}")
            else:
                source.partial.append(f"{whose}the source does not show {title(table)}: unknown")
