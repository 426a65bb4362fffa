"""Predictions against what must hold for any workload, and against hand-made sums."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctctl.errors import ConfigError, UnsupportedError
from ctctl.gc.interval import next_interval
from ctctl.model.timeouts import Timeouts
from ctctl.model.units import format_duration
from ctctl.out import figure, plot
from ctctl.out.options import OutputOptions
from ctctl.predict import one_node
from ctctl.predict.course import COST_S, Course
from ctctl.predict.flows import cdf, table_flows
from ctctl.predict.fluid import loads, next_intervals, peak_of_size, plan_of, predict, run_fleet
from ctctl.predict.model import Duration, Kind, Pattern, Shape, Workload
from ctctl.predict.show import charts, write_predictions
from ctctl.predict.sizing import rounded
from ctctl.predict.workload import load_document, parse_workload, with_change
from tests.support.children import run_ctctl

ROOT = Path(__file__).resolve().parents[2]
TCP, ANY = "cilium_ct4_global", "cilium_ct_any4_global"
SHORT = Timeouts(regular_tcp=120, regular_tcp_syn=20, regular_tcp_fin=5, regular_any=20, service_any=20)


def constant(seconds: float) -> Duration:
    return Duration(Shape.CONSTANT, seconds)


def workload(*kinds: Kind, **more: object) -> Workload:
    return Workload(kinds, SHORT, interval_s=30, **more)


def of(prediction, name: str):
    return next(table for table in prediction.tables if table.name == name)


def last(prediction, name: str) -> float:
    return prediction.samples[-1].entries[name]


def test_what_gc_costs_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "tests/bench/results/gc.json").read_text())["cost_us"]
    figures = {engine: (cost["read"] * 1e-6, cost["deleted"] * 1e-6) for engine, cost in measured.items()}
    assert {engine: pytest.approx(cost) for engine, cost in figures.items()} == COST_S


def test_littles_law_without_gc() -> None:
    # Nobody collects: everything that ever came is there.
    never = replace(workload(Kind("a", "tcp", 10, constant(3))), interval_s=1e9)
    assert last(predict(never, 200, step_s=1), TCP) == pytest.approx(2000, rel=0.01)


def test_alive_is_rate_times_life() -> None:
    found = predict(workload(Kind("a", "tcp", 10, constant(30))), 600, step_s=1)
    sample = found.samples[-1]
    # 30 s open, 5 s after FIN, and half a second because lifetimes are whole seconds
    assert sample.entries[TCP] - sample.expired[TCP] == pytest.approx(355, rel=0.03)
    assert of(found, TCP).evicted == 0


def test_patterns_and_families() -> None:
    kind = Kind("a", "udp", 100, constant(0), Pattern.CLUSTERIP, ipv6=0.25)
    found = predict(workload(kind), 600, step_s=1)
    alive = {name: found.samples[-1].entries[name] - found.samples[-1].expired[name] for name in (ANY, "cilium_ct_any6_global")}  # fmt: skip  # noqa: E501
    assert alive[ANY] == pytest.approx(100 * 0.75 * 2 * 20.5, rel=0.03)
    assert alive["cilium_ct_any6_global"] == pytest.approx(100 * 0.25 * 2 * 20.5, rel=0.03)
    assert {table.name for table in found.tables} == set(alive)


def test_related_entries_are_bounded_by_pairs() -> None:
    busy = predict(workload(Kind("a", "tcp", 1000, constant(0), pairs=50)), 300, step_s=1)
    assert last(busy, ANY) == pytest.approx(50, rel=0.01)
    rare = predict(workload(Kind("a", "tcp", 1, constant(0), pairs=1000)), 600, step_s=1)
    sample = rare.samples[-1]
    assert sample.entries[ANY] - sample.expired[ANY] == pytest.approx(20, rel=0.05)


kinds = st.builds(
    Kind,
    name=st.just("k"),
    protocol=st.sampled_from(["tcp", "udp"]),
    rate=st.floats(0.1, 500),
    duration=st.one_of(
        st.builds(constant, st.floats(0, 60)),
        st.builds(Duration, st.just(Shape.EXPONENTIAL), st.floats(0.01, 60)),
        st.builds(Duration, st.just(Shape.LOGNORMAL), st.floats(0.01, 20), st.floats(0.1, 2)),
    ),
    pattern=st.sampled_from(list(Pattern)),
    lost=st.floats(0, 1),
    unanswered=st.floats(0, 1),
)


@settings(max_examples=15, deadline=None)
@given(kinds, st.integers(256, 20000), st.sampled_from([None, 15.0, 60.0]))
def test_nothing_is_lost_and_no_table_overflows(kind: Kind, size: int, interval_s: float | None) -> None:
    case = Workload((kind,), SHORT, tcp_max=size, any_max=size, interval_s=interval_s)
    found = predict(case, 240, step_s=1)
    for table in found.tables:
        assert 0 <= table.peak <= size + 1e-6
        assert 0 <= table.evicted_live <= table.evicted * (1 + 1e-9) + 1e-6
        assert 0 <= table.peak_expired <= size + 1e-6
        # What came in is there, was collected or was evicted; connections whose entry was evicted while they
        # were open end without leaving one.
        came = sum(float(idle.inflow[-1]) for flows in table_flows(case, 240, 1.0) for idle in flows.idle)
        came += sum(float(flows.active[-1]) for flows in table_flows(case, 240, 1.0))
        gone = last(found, table.name) + table.deleted + table.evicted
        assert gone >= came * (1 - 1e-6) - 1e-3
        if table.evicted == 0:
            assert gone == pytest.approx(came, rel=1e-6, abs=1e-3)


def test_a_table_that_is_too_small_evicts_what_is_over() -> None:
    small = workload(Kind("a", "tcp", 100, constant(1), lost=1.0), tcp_max=2048, any_max=2048)
    table = of(predict(small, 600, step_s=1, cpus=1), TCP)
    # 100 entries a second live 121 s: 12100 for room for 1984, nothing ever expires in time.
    assert table.evicted_live == pytest.approx(60000 - 1984, rel=0.01)
    assert table.deleted == 0


@given(st.lists(st.tuples(st.floats(10, 43200), st.floats(0, 1)), min_size=1, max_size=50))
def test_intervals_of_many_nodes_are_those_of_one(runs: list[tuple[float, float]]) -> None:
    intervals, ratios = np.array([a for a, _ in runs]), np.array([b for _, b in runs])
    expected = [next_interval(a, b) for a, b in runs]
    assert next_intervals(intervals, ratios).tolist() == pytest.approx(expected)


def test_interval_sequence_follows_the_rule() -> None:
    case = replace(workload(Kind("a", "udp", 2000, constant(0))), interval_s=None, any_max=262144)
    found = predict(case, 3600, step_s=1)
    sequence = [seconds for _, seconds in found.intervals]
    assert sequence[0] == 300
    assert sequence[1] < 300
    # It settles where the share deleted is between 5 and 25 %.
    settled = sequence[-1]
    assert 0.05 <= 2000 * settled / 262144 <= 0.26


def test_what_is_said_of_a_prediction_fits_80_columns_however_often_its_interval_changed() -> None:
    case = replace(workload(Kind("a", "udp", 2000, constant(0))), interval_s=None, any_max=262144)
    one = predict(case, 1200, step_s=1)
    assert len(one.intervals) > 20
    fleet = predict(replace(case, nodes=10_000, spread=0.8), 1200, step_s=1)
    out, notes = io.StringIO(), io.StringIO()
    write_predictions([one, fleet], OutputOptions(), out, notes, plot=False)
    of_one, of_fleet, of_its_node = notes.getvalue().splitlines()
    seconds = [seconds for _, seconds in one.intervals]
    assert of_one.endswith(f"; interval {format_duration(min(seconds))} to {format_duration(max(seconds))}")
    assert "10000 nodes" in of_fleet
    assert "a node: " in of_its_node
    assert max(map(len, notes.getvalue().splitlines())) <= 80


def test_a_fleet_is_its_quantiles() -> None:
    load = loads(10_000, 0.5)
    assert len(load) <= 256
    assert load.mean() == pytest.approx(1)
    assert np.log(load).std() == pytest.approx(0.5, rel=0.05)
    one = workload(Kind("a", "tcp", 50, constant(2), lost=0.1), tcp_max=4096)
    fleet = predict(replace(one, nodes=10_000, spread=0.8), 400, step_s=1)
    assert of(fleet, TCP).worst_peak > of(fleet, TCP).peak
    assert 0 < fleet.overflowing_nodes < 10_000
    assert predict(replace(one, nodes=10_000), 400, step_s=1).overflowing_nodes == 0


@pytest.mark.parametrize(
    ("duration", "mean"),
    [
        (Duration(Shape.EXPONENTIAL, 4), 4),
        (Duration(Shape.LOGNORMAL, 2, 0.5), 2 * math.exp(0.125)),
        (Duration(Shape.PARETO, 1, 3), 1.5),
        (Duration(Shape.EMPIRICAL, samples=(1.0, 2.0, 9.0)), 4),
        (Duration(Shape.CONSTANT, 4), 4),
    ],
)
def test_distributions(duration: Duration, mean: float) -> None:
    points = np.arange(0, 400, 0.01)
    cdf = np.array([duration.cdf(t) for t in points])
    assert (np.diff(cdf) >= 0).all()
    assert cdf[-1] == pytest.approx(1, abs=1e-4)
    assert float((1 - cdf).sum() * 0.01) == pytest.approx(mean, rel=0.02)


def numbers(course: Course) -> list[float]:
    """All that is told of it, in order."""
    found = [course.gc_runs, course.gc_cpu_s, course.overflowing]
    for part in (*course.tables, *course.samples):
        for name in part.__slots__:
            value = getattr(part, name)
            found += [value] if isinstance(value, int | float) else value.values() if isinstance(value, dict) else []
    return [*found, *(number for pair in course.intervals for number in pair)]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(kinds, min_size=1, max_size=3),
    st.sampled_from([1024, 4096, 1 << 20]),
    st.sampled_from([None, 10, 90]),
    st.sampled_from([None, 3.0, 200.0]),
    st.lists(st.tuples(st.floats(0.5, 300), st.floats(1, 3000)), max_size=3),
)
def test_one_node_is_a_fleet_of_one(
    some: list[Kind],
    size: int,
    interval_s: float | None,
    pairs: float | None,
    idle: list[tuple[float, float]],
) -> None:
    there = [replace(kind, pairs=pairs, open=50.0, idle=tuple(idle)) for kind in some]
    case = replace(workload(*there, tcp_max=size, any_max=size), interval_s=interval_s)
    plan = plan_of(case, 320, step_s=4.0)
    alone, column = one_node.run(plan), run_fleet(plan, loads(1, 0))
    assert numbers(alone) == pytest.approx(numbers(column), rel=1e-9, abs=1e-9)
    for flows, table in zip(plan.flows, column.tables, strict=True):
        only = run_fleet(replace(plan, flows=(flows,)), loads(1, 0)).tables[0].worst_peak
        assert one_node.peak(replace(plan, flows=(flows,)), math.inf) == pytest.approx(only, rel=1e-9)
        assert (peak_of_size(plan, loads(1, 0), flows, size, only / 2) > only / 2) == (only > 0)
        assert table.worst_peak == table.peak


def test_one_node_takes_a_fraction_of_a_column_of_a_fleet() -> None:
    """Also where its table evicts at every step, and one that is too small is given up where that shows."""
    idle = tuple((60.0 * number, 100.0) for number in range(1, 9))
    some = [Kind(f"k{number}", "tcp", 50, constant(number), idle=idle) for number in range(3)]
    for size, share in ((1 << 20, 4), (2048, 4)):
        plan = plan_of(workload(*some, tcp_max=size), 86400, step_s=432)

        def seconds(run: Callable[[], object]) -> float:
            began = time.process_time()
            run()
            return time.process_time() - began

        column = min(seconds(lambda plan=plan: run_fleet(plan, loads(1, 0))) for _ in range(2))
        alone = min(seconds(lambda plan=plan: one_node.run(plan)) for _ in range(2))
        assert alone * share < column
    assert seconds(lambda: one_node.peak(plan, 1000)) * 20 < column


def test_pairs_of_nobody_have_no_entries(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text("kinds: [{name: a, rate: 0, pairs: 5}]\n")
    found = run_ctctl("sizing", str(file), "-o", "json")
    assert (found.returncode, found.stderr) == (0, "")
    assert {size["peak"] for size in json.loads(found.stdout)["sizes"]} == {0}


#: Of what is above 0: a ratio of it and anything else may be 0, or more than there are numbers for.
SMALLEST = math.ulp(0.0)


@example(Duration(Shape.LOGNORMAL, 2, 1), [0, SMALLEST, 1e308])
@example(Duration(Shape.LOGNORMAL, SMALLEST, SMALLEST), [0, SMALLEST, 1e308])
@example(Duration(Shape.EXPONENTIAL, SMALLEST), [0, SMALLEST, 1e308])
@example(Duration(Shape.PARETO, SMALLEST, 0.01), [0, SMALLEST, 1e308])
@example(Duration(Shape.PARETO, 0, 100), [0, SMALLEST, 1e308])
@given(
    st.one_of(
        st.builds(constant, st.floats(0, 60)),
        st.builds(Duration, st.sampled_from([Shape.EXPONENTIAL, Shape.PARETO]), st.floats(0, 60), st.floats(0.1, 3)),
        st.builds(Duration, st.just(Shape.LOGNORMAL), st.floats(0, 60), st.floats(0, 2)),
        st.lists(st.floats(0, 60), min_size=1).map(lambda some: Duration(Shape.EMPIRICAL, samples=tuple(sorted(some)))),
    ),
    st.lists(st.floats(0, 100), max_size=20),
)
def test_a_distribution_of_many_times_is_that_of_each(duration: Duration, times: list[float]) -> None:
    assert cdf(duration, np.array(times)).tolist() == pytest.approx([duration.cdf(t) for t in times], abs=1e-12)


def test_sizes_are_powers_of_two() -> None:
    assert [rounded(n) for n in (0, 1024, 1025, 500_000)] == [1024, 1024, 2048, 524288]


# ---- workload files


def document() -> dict:
    return yaml.safe_load((ROOT / "examples/workload.yaml").read_text())


def test_the_example_is_a_workload() -> None:
    path = ROOT / "examples/workload.yaml"
    found = parse_workload(load_document(path), str(path))
    assert [kind.name for kind in found.kinds] == ["web", "ingress", "dns"]
    assert found.kinds[0].duration == Duration(Shape.LOGNORMAL, 0.8, 1.6)
    assert found.interval_s is None


def test_changes() -> None:
    changed = with_change(document(), "kinds.web.rate=7", "w")
    changed = with_change(changed, "gc.interval=30s", "w")
    found = parse_workload(changed, "w")
    assert (found.kinds[0].rate, found.interval_s) == (7, 30)
    for bad in ("kinds.nobody.rate=1", "no-value"):
        with pytest.raises(ConfigError):
            with_change(document(), bad, "w")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("kinds.web.rat=1", "did you mean 'rate'"),
        ("kinds.web.rate=lots", "no number"),
        ("kinds.web.lost=2", "between 0 and 1"),
        ("kinds.web.duration={exponentail: 3s}", "exponential"),
        ("kinds.web.protocol=tpc", "tcp"),
        ("ct.tcp-max=-1", "whole number"),
        ("gc.engine=bach", "batch"),
        ("timeouts.regular-tpc=3s", "regular-tcp"),
    ],
)
def test_mistakes_are_named(change: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_workload(with_change(document(), change, "file.yaml"), "file.yaml")
    assert word in str(caught.value)
    assert "file.yaml" in str(caught.value)


# ---- charts and the command


def chart() -> plot.Chart:
    return plot.Chart("t <&>", [plot.Line("a & b", [(0, 0), (10, 5), (20, 10)])], plot.count)


def steps() -> plot.Chart:
    """Flat at the bottom for half of the time, then at the top: nothing upside down or mirrored looks like it."""
    return plot.Chart("s", [plot.Line("x", [(0, 0), (50, 0), (50, 8), (100, 8)])], plot.count)


def lines_of(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The points of each line that is drawn, y growing downwards."""
    found = []
    for group in root.iter():
        if group.attrib.get("id") == "line":
            (path,) = (e for e in group.iter() if e.tag.endswith("path"))
            numbers = [float(word) for word in path.attrib["d"].split() if word not in "ML"]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def texts_of(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    return {
        e.text: (float(e.attrib["x"]), float(e.attrib["y"])) for e in root.iter() if e.tag.endswith("text") and e.text
    }


def test_svg_is_xml_with_a_line_each() -> None:
    root = ElementTree.fromstring(figure.svg([chart(), chart()]))
    assert len(lines_of(root)) == 2
    assert {"t <&>", "a & b"} <= set(texts_of(root))


def _brightness(color: str) -> float:
    """Relative luminance, as WCAG 2 says."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_of_a_chart_can_be_seen_on_a_dark_page() -> None:
    lines = tuple(plot.Line(f"line {number}", ((0, 1), (9, number))) for number in range(len(figure.COLORS)))
    text = figure.svg([plot.Chart("c", lines, plot.count)]).decode()
    drawn = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", text))
    assert drawn >= {*figure.COLORS, *figure.DARK}
    rules = text[text.index("@media(prefers-color-scheme:dark)") : text.index("</style>")]
    page = _brightness(figure.DARK["#ffffff"])
    for color in drawn - {"#ffffff", "#dddddd"}:
        shown = figure.DARK.get(color, color)
        assert (_brightness(shown) + 0.05) / (page + 0.05) >= 3, color
        assert (color in rules) == (shown != color)


def test_svg_runs_from_left_to_right_and_upwards_and_says_so() -> None:
    root = ElementTree.fromstring(figure.svg([steps()]))
    ((a, b, c, d),) = lines_of(root)
    assert (a[0], a[1], b[1], c[1]) == (min(a[0], d[0]), b[1], a[1], d[1])
    assert a[1] > d[1]
    assert b[0] == c[0] == pytest.approx((a[0] + d[0]) / 2)
    texts = texts_of(root)
    # Times stand below where they are, the values beside.
    assert texts["0s"][0] < texts["30s"][0] < texts["1m"][0] < texts["1m30s"][0] < d[0]
    assert texts["0"][1] == pytest.approx(a[1], abs=6)
    assert texts["8"][1] == pytest.approx(d[1], abs=6)


def test_no_name_lies_on_a_line() -> None:
    lines = [plot.Line(f"_{number} $x", [(0, number), (90000, 2 * number)]) for number in range(7)]
    root = ElementTree.fromstring(figure.svg([plot.Chart("c", lines, plot.count)]))
    right = max(x for line in lines_of(root) for x, _ in line)
    texts = texts_of(root)
    assert all(texts[line.name][0] > right for line in lines)


def test_no_chart_has_more_lines_than_colours() -> None:
    lines = [plot.Line(str(number), [(0, number), (10 + number, 2)]) for number in range(16)]
    found = figure.parts(plot.Chart("c", lines, plot.count))
    assert [line for part in found for line in part.lines] == lines
    assert max(len(part.lines) for part in found) <= len(figure.COLORS)
    assert {(part.x_max, part.y_max) for part in found} == {(25, 15)}
    root = ElementTree.fromstring(figure.svg(found[:1]))
    colors = [e.attrib["style"] for e in root.iter() if "stroke: #" in e.attrib.get("style", "")]
    assert sum(any(color in style for style in colors) for color in figure.COLORS) == len(found[0].lines)


def test_times_of_an_axis_are_those_of_clocks() -> None:
    for end in (0.5, 1, 59, 100, 3599, 86400, 90061, 40 * 86400, 10**9):
        times = figure.times(end)
        assert 1 <= len(times) <= 7
        assert times[0] == 0
        assert times[-1] <= end
        assert len(times) > 2 or end < 3


def test_png_shows_the_same() -> None:
    data = figure.png([steps()])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    color = np.frombuffer(bytes.fromhex(figure.COLORS[0][1:]), np.uint8)
    rows, columns = np.nonzero(np.abs(pixels - color).sum(axis=2) < 120)
    early = rows[(columns > width * 0.2) & (columns < width * 0.4)]
    late = rows[(columns > width * 0.6) & (columns < width * 0.8)]
    assert early.min() > height * 0.7
    assert late.max() < height * 0.3


def test_without_the_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'ctctl\[plot\]'"):
        figure.svg([chart()])


def test_charts_compare_a_table_under_each_workload() -> None:
    one = predict(workload(Kind("a", "tcp", 10, constant(3))), 600)
    other = replace(one, name="other")
    alone, both = charts([one]), charts([one, other])
    assert {line.name for line in alone[0].lines} == {table.name.removeprefix("cilium_") for table in one.tables}
    assert [chart.title for chart in both if chart.title.startswith("entries")] == ["entries, ct4_global"]
    assert all([line.name for line in chart.lines] == [one.name, "other"] for chart in both)


def braille(lines: list[str]) -> list[list[int]]:
    """The dots of each row from the top, as the columns (two a character) they are in."""
    dots = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    return [
        [2 * at + side for at, cell in enumerate(line) for side in (0, 1) if ord(cell) - 0x2800 & dots[row][side]]
        for line in lines
        for row in range(4)
    ]


def test_terminal_chart_runs_from_left_to_right_and_upwards() -> None:
    lines = plot.terminal(steps(), width=22, height=4)
    assert lines[0] == "s: x"
    assert [line.split()[0] for line in (lines[1], lines[4])] == ["8", "0"]
    rows = braille([line[2:] for line in lines[1:5]])
    assert (rows[0], rows[-1]) == (list(range(20, 40)), list(range(21)))
    # Between them only the step itself.
    assert all(row == [20] for row in rows[1:-1])
    assert lines[5].split() == ["0", "1m40s"]


def test_terminal_chart_names_its_lines_from_the_top() -> None:
    lines = [plot.Line(f"line {number}", [(0, 9 - number), (60, number)]) for number in range(9)]
    shown = plot.terminal(plot.Chart("c", lines, plot.count), width=60)
    assert max(map(len, shown)) <= 60
    words = " ".join(shown[1:3])
    assert words == "right end, from the top: " + ", ".join(f"line {number}" for number in reversed(range(9)))


def test_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ctctl", "gc", "simulate", str(ROOT / "examples/workload.yaml"), "--for", "2m"]
    files = ["--svg", str(tmp_path / "a.svg"), "--png", str(tmp_path / "a.png")]
    here, home = tmp_path / "here", tmp_path / "home"
    for directory in (here, home):
        directory.mkdir()
    # Nobody's settings are taken from where it is called, and nothing is left in a home.
    (here / "matplotlibrc").write_bytes(b"text.usetex: True\n\xff\xfe\n")
    done = subprocess.run(
        [*command, *files, "--compare", "ct.tcp-max=2048", "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    assert found["schema"] == "ctctl/prediction/v1"
    assert [w["name"] for w in found["workloads"]] == ["busy node", "ct.tcp-max=2048"]
    small = next(t for t in found["tables"] if t["workload"] != "busy node" and t["map"] == TCP)
    assert small["evicted"] > 0
    # A chart for each table, with a line for each of the two workloads.
    assert len(lines_of(ElementTree.parse(tmp_path / "a.svg").getroot())) >= 4
    assert PIL.Image.open(tmp_path / "a.png").height > 1000
    assert not list(home.iterdir())
    nothing = subprocess.run(command[:5], capture_output=True, text=True, check=False)
    assert (nothing.returncode, "which workload?" in nothing.stderr) == (2, True)


@pytest.mark.parametrize("command", [("sizing",), ("gc", "simulate", "--no-plot")])
def test_workload_of_one_node_of_several(command: tuple[str, ...]) -> None:
    (archive,) = (ROOT / "tests/data/samples/archives").glob("cilium-sysdump-*.zip")
    tables = {}
    for node in ("cilium-7xk2p", "cilium-wb4nt", "nosuch"):
        arguments = [*command, "--from", str(archive), "--now", "3027941", "--for", "10m", "-o", "csv", "--node", node]
        tables[node] = run_ctctl(*arguments)
    assert tables["nosuch"].returncode == 1
    assert "cilium-7xk2p" in tables["nosuch"].stderr
    assert tables["cilium-7xk2p"].returncode == 0, tables["cilium-7xk2p"].stderr
    assert tables["cilium-wb4nt"].stdout
    assert tables["cilium-7xk2p"].stdout != tables["cilium-wb4nt"].stdout
