"""Predictions and sizes as tables, JSON and charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from ctctl.model.units import format_duration
from ctctl.out.options import Format, OutputOptions
from ctctl.out.output import write_rows
from ctctl.out.plot import Chart, Line, count, terminal
from ctctl.out.text import safe
from ctctl.out.view import Column, View
from ctctl.predict.model import Prediction, Size, TablePrediction

SCHEMA = "ctctl/prediction/v1"
SIZES_SCHEMA = "ctctl/sizing/v1"

Row = tuple[Prediction, TablePrediction]


def _share(entries: float, row: Row) -> str:
    return f"{count(entries)} ({entries / row[1].max_entries:.0%})"


TABLES: View[Row] = View(
    schema=SCHEMA,
    plural="tables",
    columns=(
        Column("workload", "WORKLOAD", lambda row: row[0].name),
        Column("map", "MAP", lambda row: row[1].name),
        Column("max_entries", "MAX_ENTRIES", lambda row: row[1].max_entries, right=True),
        Column("mean", "MEAN", lambda row: round(row[1].mean), text=lambda row: _share(row[1].mean, row), right=True),
        Column("peak", "PEAK", lambda row: round(row[1].peak), text=lambda row: _share(row[1].peak, row), right=True),
        Column("worst_peak", "WORST_PEAK", lambda row: round(row[1].worst_peak), right=True, wide=True),
        Column(
            "peak_expired",
            "PEAK_EXPIRED",
            lambda row: round(row[1].peak_expired),
            text=lambda row: count(row[1].peak_expired),
            right=True,
        ),
        Column(
            "evicted", "EVICTED", lambda row: round(row[1].evicted), text=lambda row: count(row[1].evicted), right=True
        ),
        Column(
            "evicted_live",
            "EVICTED_LIVE",
            lambda row: round(row[1].evicted_live),
            text=lambda row: count(row[1].evicted_live),
            right=True,
        ),
        Column(
            "deleted",
            "DELETED",
            lambda row: round(row[1].deleted),
            text=lambda row: count(row[1].deleted),
            right=True,
            wide=True,
        ),
    ),
    name=lambda row: f"{row[0].name}/{row[1].name}",
)

SIZES: View[Size] = View(
    schema=SIZES_SCHEMA,
    plural="sizes",
    columns=(
        Column("map", "MAP", lambda size: size.name),
        Column("alive", "ALIVE", lambda size: size.alive, right=True, priority=2),
        Column("peak", "PEAK", lambda size: round(size.peak), right=True),
        Column("recommended", "RECOMMENDED", lambda size: size.recommended, right=True),
        Column(
            "memory_bytes",
            "MEMORY_BYTES",
            lambda size: size.memory_bytes,
            lambda size: _mib(size.memory_bytes),
            right=True,
            priority=1,
        ),
        Column("configured", "CONFIGURED", lambda size: size.configured, right=True),
        Column(
            "configured_bytes",
            "CONFIGURED_BYTES",
            lambda size: size.configured_bytes,
            lambda size: "-" if size.configured_bytes is None else _mib(size.configured_bytes),
            right=True,
            priority=3,
        ),
    ),
    name=lambda size: size.name,
)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def charts(predictions: Sequence[Prediction]) -> list[Chart]:
    """Fill, live evictions and backlog over time, and the GC interval.

    A chart shows the tables of one workload, or one table under each workload: what is compared, and no more lines
    than can be told apart. A table that stays empty has none of its own.
    """
    of_interval = [(p.name, [(s.time_s, s.interval_s) for s in p.samples]) for p in predictions]
    if len(predictions) == 1:
        of_interval = [("interval", of_interval[0][1])]
    return [
        *(chart for title, of in _COURSES for chart in _courses(title, of, predictions)),
        Chart("GC interval", [Line(*one) for one in of_interval], lambda s: format_duration(round(s)), y_is_time=True),
    ]


_COURSES = (
    ("entries", "entries"),
    ("expired, not yet collected", "expired"),
    ("evicted alive, in all", "evicted_live"),
)


def _courses(title: str, of: str, predictions: Sequence[Prediction]) -> Iterator[Chart]:
    """One figure of the samples over time."""

    def points(prediction: Prediction, name: str) -> list[tuple[float, float]]:
        return [(sample.time_s, getattr(sample, of)[name]) for sample in prediction.samples]

    if len(predictions) == 1:
        (only,) = predictions
        lines = [Line(table.name.removeprefix("cilium_"), points(only, table.name)) for table in only.tables]
        yield Chart(title, lines, count)
        return
    for name in dict.fromkeys(table.name for p in predictions for table in p.tables):
        having = [p for p in predictions if any(table.name == name for table in p.tables)]
        lines = [Line(p.name, points(p, name)) for p in having]
        if any(value for line in lines for _, value in line.points):
            yield Chart(f"{title}, {name.removeprefix('cilium_')}", lines, count)


def write_predictions(
    predictions: Sequence[Prediction], options: OutputOptions, stream: TextIO, notes: TextIO, *, plot: bool
) -> None:
    """Tables of all workloads, with their whole course in JSON and YAML; charts with ``plot`` in a table."""
    rows = [(prediction, table) for prediction in predictions for table in prediction.tables]
    meta = {"workloads": [_document(prediction) for prediction in predictions]}
    write_rows(TABLES, rows, options, stream, meta=meta)
    if options.format in (Format.table, Format.wide):
        for prediction in predictions:
            for line in _summary(prediction):
                print(safe(line), file=notes)
        if plot:
            for chart in charts(predictions):
                stream.write("\n" + "\n".join(map(safe, terminal(chart))) + "\n")


def _summary(prediction: Prediction) -> Iterator[str]:
    """Lines that fit a narrow screen however often the interval changes: its course is in the documents and charts."""
    seconds = [seconds for _, seconds in prediction.intervals]
    ends = [format_duration(end) for end in dict.fromkeys((min(seconds), max(seconds)))] if seconds else []
    node = prediction.name
    if prediction.nodes > 1:
        yield f"{node}: {prediction.nodes} nodes, {prediction.overflowing_nodes} of them evict"
        node = f"{node}, a node"
    yield (
        f"{node}: {prediction.gc_runs:.0f} GC runs in {format_duration(prediction.duration_s)}, "
        f"{prediction.gc_cpu_s:.1f} CPU seconds" + (f"; interval {' to '.join(ends)}" if ends else "")
    )


def _document(prediction: Prediction) -> dict[str, object]:
    return {
        "name": prediction.name,
        "duration_s": prediction.duration_s,
        "step_s": prediction.step_s,
        "nodes": prediction.nodes,
        "overflowing_nodes": prediction.overflowing_nodes,
        "gc_runs": round(prediction.gc_runs, 2),
        "gc_cpu_s": round(prediction.gc_cpu_s, 3),
        "intervals": [{"time_s": at, "interval_s": seconds} for at, seconds in prediction.intervals],
        "samples": [
            {
                "time_s": sample.time_s,
                "interval_s": sample.interval_s,
                "gc_cpu_s": round(sample.gc_cpu_s, 3),
                "entries": {name: round(value) for name, value in sample.entries.items()},
                "expired": {name: round(value) for name, value in sample.expired.items()},
                "evicted_live": {name: round(value) for name, value in sample.evicted_live.items()},
            }
            for sample in prediction.samples
        ],
    }


def write_sizes(sizes: list[Size], options: OutputOptions, stream: TextIO) -> None:
    """Recommended sizes and what they cost."""
    write_rows(SIZES, sizes, options, stream)
