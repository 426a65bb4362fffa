"""Rows of ctctl's own tables say in passes what they say one by one: as printed, edited, of several nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ctctl.cli.main import app
from ctctl.tables.sources.own_runs import OwnRuns
from tests.support import captures
from tests.support.both_ways import agree, counting_rows, read
from tests.unit.test_bare import text_line

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
#: What somebody changes, and what may stand there then.
_CELLS = ["", "-", "0", "7", "007", "0x1b", "99999999999999999999", "x", "TCP", "ICMP", "1", "58", "IN", "True", "yes"]
_CELLS += ["10.0.0.1:80", "[fd00::1]:80", "fd00::1:80", "10.0.0.1:80 (a/b)", "10.0.0.1", "-5", "8s", "expired 8s ago"]
_CELLS += ["expired ago", "1d2h", "5 (world)", "- (x)", "SeenNonSyn", "SeenNonSyn RxClosing", "Odd", '"a,b"', "a,b"]
_CELLS += ["a  b", "cilium_ct4_global", "cilium_ct6_global", "cilium_ct_any4_global", "node1", "new, related"]
_CELLS += ["\\n", "a\tb", "…"]


def printed(output: str, *sources: Path, more: tuple[str, ...] = ()) -> str:
    told = [argument for path in sources for argument in ("--from", str(path))]
    done = CliRunner().invoke(app, ["ct", "list", *told, "-o", output, *more])
    assert done.stdout, done.output
    return done.stdout


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Tables of several versions and nodes, with and without times, in any order."""
    folder = tmp_path_factory.mktemp("own")
    paths = []
    for name in ("cilium-1.19-dsr-node1", "cilium-1.19-snat-node1"):
        paths.append(folder / f"{name}.txt")
        paths[-1].write_text(captures.text(name, "cli/ct-list-global.txt"))
    samples = [SAMPLES / f"cilium-dbg-{version}/ct-list-global.txt" for version in ("1.16.4", "1.19-dev")]
    found = []
    for output in ("csv", "wide"):
        found += [printed(output, path) for path in (*paths, *samples)]
        found += [printed(output, *paths), printed(output, samples[0], more=("--now", "16000000"))]
        found += [printed(output, path, more=("--sort", "source")) for path in samples]
    return found


def test_as_printed(tables: list[str]) -> None:
    with counting_rows(OwnRuns) as taken:
        for text in tables:
            for made in (text, text.replace("\n", "\r\n"), text[: len(text) // 2], text + text):
                agree(made.encode())
            agree("".join(f"node1: {line}\n" for line in text.splitlines()).encode())
        assert taken[OwnRuns] > sum(text.count("\n") for text in tables)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_edited(tables: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(tables))
    csv = text.startswith(("proto", "node"))
    lines = text.splitlines()
    start = data.draw(st.integers(1, max(len(lines) - 12, 1)))
    part = lines[start : start + 12]
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(part) - 1))
        cells = part[at].split(",") if csv else part[at].split("  ")
        cell = data.draw(st.integers(0, len(cells) - 1))
        change = data.draw(st.sampled_from(["cell", "cell", "cell", "leave out", "twice", "line", "character"]))
        if change == "cell":
            cells[cell] = data.draw(st.sampled_from(_CELLS))
        elif change == "leave out":
            del cells[cell]
        elif change == "twice":
            cells.insert(cell, cells[cell])
        part[at] = (",".join(cells) if csv else "  ".join(cells)) if change != "line" else lines[0]
        if change == "character" and part[at]:
            place = data.draw(st.integers(0, len(part[at]) - 1))
            part[at] = part[at][:place] + data.draw(st.sampled_from([*" \t,-:x0(['\"", ""])) + part[at][place + 1 :]
    agree("\n".join([lines[0], *lines[1:4], *part, *lines[4:8]]).encode())


@pytest.mark.parametrize("output", ["csv", "wide"])
def test_rows_are_read_in_passes(output: str, tmp_path: Path) -> None:
    path = tmp_path / "listing.txt"
    path.write_text("".join(map(text_line, range(9000))))
    text = printed(output, path)
    wanted, _ = read(path.read_bytes(), passes=True)
    with counting_rows(OwnRuns) as taken:
        found, _ = read(text.encode(), passes=True)
    assert taken[OwnRuns] > 8900
    fields = ("keys", "values") if output == "csv" else ("keys",)
    for name, table in wanted["tables"].items():
        assert {field: found["tables"][name][field] for field in fields} == {field: table[field] for field in fields}


def test_known_texts_have_an_end() -> None:
    """A column that says something else in each row is read one by one, and remembers little."""
    head = "proto,direction,source,destination,state,flag_names,lifetime,related,node\n"
    rows = [f"6,OUT,10.0.0.{n % 250}:{n},10.0.0.2:80,new,,{n},False,n{n}\n" for n in range(100)]
    assert len(agree((head + "".join(rows)).encode())["tables"]) == 1
