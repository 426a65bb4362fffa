"""What ctctl itself printed, read back: the same entries, of the same nodes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctctl.cli.main import app
from ctctl.errors import CtctlError
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.own_runs import MAX_TITLES
from tests.support import captures
from tests.support.children import run_ctctl
from tests.support.listings import listed, read, read_text

NODES = ("cilium-1.19-dsr-node1", "cilium-1.19-snat-node1")
SAMPLES = Path(__file__).parents[1] / "data" / "samples"
FIELDS = "node,proto,direction,src,src_port,dst,dst_port,related,flags,rev_nat,src_sec_id,lifetime,packets,map"


def printed(output: str, *sources: Path) -> str:
    told = [argument for path in sources for argument in ("--from", str(path))]
    return CliRunner().invoke(app, ["ct", "list", *told, "-o", output]).stdout


def fields(*sources: Path) -> list[str]:
    told = [argument for path in sources for argument in ("--from", str(path))]
    done = CliRunner().invoke(app, ["ct", "list", *told, "-o", "csv", "--no-headers", "--fields", FIELDS])
    assert done.exit_code == 0, done.output
    return sorted(done.stdout.splitlines())


@pytest.fixture(scope="module")
def listings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("nodes")
    paths = [folder / f"node{n}.txt" for n in range(2)]
    for path, name in zip(paths, NODES, strict=True):
        path.write_text(captures.text(name, "cli/ct-list-global.txt"))
    return paths


@pytest.mark.parametrize("output", ["csv", "wide", "json", "jsonl", "yaml"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_same_entries_of_the_same_nodes(output: str, count: int, listings: list[Path], tmp_path: Path) -> None:
    """Two nodes have entries with the same key: they stay two."""
    path = tmp_path / "printed"
    path.write_text(printed(output, *listings[:count]))
    assert fields(path) == fields(*listings[:count])


@pytest.mark.parametrize("sample", ["cilium-dbg-1.16.4/ct-list-global.txt", "cilium-dbg-1.19-dev/ct-list-global.txt"])
def test_csv_has_all_of_an_entry(sample: str, tmp_path: Path) -> None:
    """Bits of flags without a name too, and when each side was last seen."""
    path = tmp_path / "printed.csv"
    path.write_text(printed("csv", SAMPLES / sample))
    with read(path) as found, read(SAMPLES / sample) as plain:
        assert sorted(listed(found)) == sorted(listed(plain))
        assert not found.partial


def test_records_in_one_list(listings: list[Path], tmp_path: Path) -> None:
    """As ``jq -s`` makes it."""
    path = tmp_path / "slurped.json"
    path.write_text(json.dumps([json.loads(line) for line in printed("jsonl", *listings).splitlines()]))
    assert fields(path) == fields(*listings)


def test_names_beside_addresses_are_passed_over(tmp_path: Path, listings: list[Path]) -> None:
    wide = printed("wide", listings[0]).replace("10.61.1.101:57378 ", "10.61.1.101:57378 (default/p1) ", 1)
    assert "(default/p1)" in wide
    path = tmp_path / "printed"
    path.write_text(wide)
    assert fields(path) == fields(listings[0])


def test_a_time_that_columns_tell(tmp_path: Path) -> None:
    """A lifetime and what is left of it tell when it was; when a side was last seen stays unknown."""
    rows = [
        "proto,direction,source,destination,state,remaining,flag_names,lifetime,related",
        "6,OUT,10.0.0.1:1,10.0.0.2:80,established,-20,SeenNonSyn,980,False",
        "6,OUT,10.0.0.1:2,10.0.0.2:80,established,7000,SeenNonSyn,8000,False",
    ]
    with read_text(tmp_path / "x", "\n".join(rows)) as source:
        assert {table.now for table in source.tables} == {1000}
    path = tmp_path / "x"
    done = CliRunner().invoke(app, ["ct", "list", "--from", str(path), "-o", "csv", "--fields", "remaining,idle"])
    assert done.stdout.split() == ["remaining,idle", "-20,", "7000,"]
    done = CliRunner().invoke(app, ["ct", "list", "idle > 10s", "--from", str(path), "-o", "name"])
    assert done.stdout == ""


def test_what_a_row_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    head = "proto,direction,source,destination,state,flag_names,lifetime\n"
    with read_text(
        tmp_path / "x", head + "6,IN,10.0.0.1:1,10.0.0.2:80,new,,5\n1,IN,10.0.0.1:0,10.0.0.2:0,new,,5\n"
    ) as found:
        assert ["whether they are of an error" in text for text in found.partial] == [True]
        assert sum(table.count or 0 for table in found.tables) == 1


@pytest.mark.parametrize(
    "row", ["6,IN,10.0.0.1,10.0.0.2:80,new,,5", "x,IN,10.0.0.1:1,10.0.0.2:80,new,,5", "6,IN,a:1,b:2,new,Odd,5"]
)
def test_a_row_that_is_damaged(row: str, tmp_path: Path) -> None:
    head = "proto,direction,source,destination,state,flag_names,lifetime\n6,IN,10.0.0.1:1,10.0.0.2:80,new,,5\n"
    with read_text(tmp_path / "x", head + row + "\n") as found:
        assert ["ctctl's own table" in text for text in found.partial] == [True]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nat", "list", "-o", "csv"), "nat list as ctctl prints it, .*nat list -o cilium is"),
        (("nat", "list"), "nat list as ctctl prints it, .*nat list -o cilium is"),
        (("nat", "list", "-o", "json"), "nat list as ctctl prints it, .*nat list -o cilium is"),
        (("ct", "stats", "-o", "json"), "ctctl/.* of ctctl: of its own JSON"),
    ],
)
def test_what_else_it_prints_is_named_too(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    listing, path = tmp_path / "listing.txt", tmp_path / "printed"
    name = "nat-list" if words[0] == "nat" else "ct-list-global"
    listing.write_text(captures.text(NODES[0], f"cli/{name}.txt"))
    path.write_text(CliRunner().invoke(app, [*words, "--from", str(listing)]).stdout)
    with pytest.raises(CtctlError, match=said):
        read(path)


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    """However often its titles come again, as ``watch`` prints them."""
    head = "PROTO  DIR  SOURCE         DESTINATION    STATE\n"
    entry = captures.text(NODES[0], "cli/ct-list-global.txt").splitlines()[0]
    with read_text(
        tmp_path / "x", f"{entry}\n" + (head + "TCP    OUT  10.0.0.1:1  10.0.0.2:80  new\n\n") * 50
    ) as found:
        assert ["a table for people" in text for text in found.partial] == [True]


def test_a_table_for_people_is_named(listings: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "printed"
    path.write_text(printed("table", listings[0]))
    with pytest.raises(CtctlError, match=r"a table for people.* without lifetime, flag_names; ct list -o wide"):
        read(path)


def test_a_table_of_more_columns_than_ctctl_has_is_none() -> None:
    """Each row would be as many cells: what that takes is not counted by its line."""
    titles = "proto,direction,source,destination,state,flag_names,lifetime,src_sec_id"
    row = "6,IN,10.1.1.1:5,10.0.0.1:80,new,,5,7"
    for more, entries in ((0, 1), (MAX_TITLES - 8, 1), (MAX_TITLES - 7, 0), (90_000, 0)):
        head = titles + "".join(f",c{number}" for number in range(more))
        dump = Dump()
        read_content(io.BytesIO(f"{head}\n{row}{',1' * more}\n".encode()), dump)
        assert sum(map(len, dump.tables.values())) == entries, more
        told = f"a table of more than {MAX_TITLES} columns, which ctctl does not print"
        assert [text for text in dump.partial if text.startswith("a table")] == [told] * (not entries)


def test_two_files_of_csv_one_below_the_other(tmp_path: Path) -> None:
    """Their heads are as long as each other, as lines are that a terminal broke."""
    entry = "TCP OUT 10.61.1.{}:1 -> 10.61.1.102:8000 expires=9 Packets=0 Bytes=0 RxFlagsSeen=0x00 LastRxReport=0 "
    entry += "TxFlagsSeen=0x02 LastTxReport=5 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=0 BackendID=0 \n"
    parts = []
    for number in (1, 2):
        (tmp_path / "ct").write_text(entry.format(number))
        parts.append(run_ctctl("ct", "list", "-o", "csv", "--from", tmp_path / "ct").stdout)
    with read_text(tmp_path / "both", "".join(parts)) as source:
        assert len(listed(source)) == 2
        assert not source.partial
