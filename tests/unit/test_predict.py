"""Predictions against what must hold for any workload, and against hand-made sums."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.errors import ConfigError
from ctctl.gc.interval import next_interval
from ctctl.model.timeouts import Timeouts
from ctctl.out import plot
from ctctl.predict.flows import table_flows
from ctctl.predict.fluid import COST_S, loads, next_intervals, predict
from ctctl.predict.model import Duration, Kind, Pattern, Shape, Workload
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


@settings(max_examples=30, deadline=None)
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


def test_svg_is_xml_with_a_line_each() -> None:
    root = ElementTree.fromstring(plot.svg([chart(), chart()]))
    assert len([e for e in root.iter() if e.tag.endswith("polyline")]) == 2


def test_svg_runs_from_left_to_right_and_upwards() -> None:
    root = ElementTree.fromstring(plot.svg([steps()]))
    (line,) = (e for e in root.iter() if e.tag.endswith("polyline"))
    points = [tuple(float(number) for number in point.split(",")) for point in line.attrib["points"].split()]
    left, right, top, bottom = plot.LEFT, plot.WIDTH - plot.RIGHT, plot.TOP, plot.HEIGHT - plot.BOTTOM
    middle = (left + right) / 2
    # In SVG y grows downwards.
    assert points == [(left, bottom), (middle, bottom), (middle, top), (right, top)]
    labels = {e.text: float(e.attrib["y"]) for e in root.iter() if e.attrib.get("text-anchor") == "end"}
    assert labels["0"] == bottom + 4
    assert labels["8"] == top + 4
    times = {e.text: float(e.attrib["x"]) for e in root.iter() if e.attrib.get("text-anchor") == "middle"}
    assert (times["0s"], times["50s"], times["1m40s"]) == (left, middle, right)


def pixels(data: bytes) -> list[list[bytes]]:
    """The rows of an 8-bit RGB PNG whose rows are not filtered."""
    width, height = struct.unpack(">II", data[16:24])
    at = data.index(b"IDAT")
    raw = zlib.decompress(data[at + 4 : at + 4 + int.from_bytes(data[at - 4 : at], "big")])
    rows = [raw[row * (3 * width + 1) :][: 3 * width + 1] for row in range(height)]
    assert {row[0] for row in rows} == {0}
    return [[row[at : at + 3] for at in range(1, len(row), 3)] for row in rows]


def test_png_is_one_and_runs_from_left_to_right_and_upwards() -> None:
    data = plot.png([steps()])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    rows = pixels(data)
    assert (len(rows), len(rows[0])) == (plot.HEIGHT, plot.WIDTH)
    color = bytes.fromhex(plot.COLORS[0][1:])
    inner = range(plot.TOP - 1, plot.HEIGHT - plot.BOTTOM + 1)
    drawn = {x: [y for y in inner if rows[y][x] == color] for x in (plot.LEFT + 50, plot.WIDTH - plot.RIGHT - 50)}
    early, late = drawn.values()
    assert early
    assert late
    assert min(early) >= plot.HEIGHT - plot.BOTTOM - 3
    assert max(late) <= plot.TOP + 2


def braille(lines: list[str]) -> list[list[int]]:
    """The dots of each row from the top, as the columns (two a character) they are in."""
    dots = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    return [
        [2 * at + side for at, cell in enumerate(line) for side in (0, 1) if ord(cell) - 0x2800 & dots[row][side]]
        for line in lines
        for row in range(4)
    ]


def test_terminal_chart_runs_from_left_to_right_and_upwards() -> None:
    lines = plot.terminal(steps(), width=20, height=4)
    assert [line.split()[0] for line in (lines[1], lines[4])] == ["8", "0"]
    rows = braille([line[2:] for line in lines[1:5]])
    assert (rows[0], rows[-1]) == (list(range(20, 40)), list(range(21)))
    # Between them only the step itself.
    assert all(row == [20] for row in rows[1:-1])
    assert lines[5].split() == ["0", "1m40s"]


def test_command_line(tmp_path: Path) -> None:
    command = ["gc", "simulate", str(ROOT / "examples/workload.yaml"), "--for", "10m"]
    files = ["--svg", str(tmp_path / "a.svg"), "--png", str(tmp_path / "a.png")]
    done = run_ctctl(*command, *files, "--compare", "ct.tcp-max=2048", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    assert found["schema"] == "ctctl/prediction/v1"
    assert [w["name"] for w in found["workloads"]] == ["busy node", "ct.tcp-max=2048"]
    small = next(t for t in found["tables"] if t["workload"] != "busy node" and t["map"] == TCP)
    assert small["evicted"] > 0
    # A chart for each table, with a line for each of the two workloads.
    drawn = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert len([e for e in drawn.iter() if e.tag.endswith("polyline")]) >= 4
    assert len(pixels((tmp_path / "a.png").read_bytes())) == int(drawn.attrib["height"])
    nothing = run_ctctl(*command[:2])
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
