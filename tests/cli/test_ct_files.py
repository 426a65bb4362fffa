"""The ct commands on files, as a user without root runs them: output, exit codes, schema, formats."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pyarrow import parquet

from ctctl.cli.schemas import SCHEMAS, whole
from tests.support import captures
from tests.support.children import PROGRAM, run_ctctl, started
from tests.support.samples import ROOT, truth
from tests.support.wait import PATIENCE_S

OLD, NEW = ROOT / "cilium-dbg-1.16.4", ROOT / "cilium-dbg-1.19-dev"
TIMED = OLD / "ct-list-global.time-diff-ktime.txt"
SYSDUMP = next(ROOT.glob("archives/*.zip"))
BUGTOOL = next(ROOT.glob("archives/*2339991198.tar.gz"))
CT_TEXTS = sorted(path for folder in (OLD, NEW) for path in folder.glob("ct-list-global*.txt"))


def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_ctctl(*words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def validated(text: str, *, lines: bool = False) -> list[dict[str, Any]]:
    """Documents of an output, each held to the schema that it names."""
    documents = [json.loads(line) for line in text.splitlines()] if lines else [json.loads(text)]
    for document in documents:
        schema = SCHEMAS[document["schema"]]
        jsonschema.Draft202012Validator(schema).validate(document)
    return documents


@pytest.mark.parametrize("path", CT_TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_text_listing_comes_out_as_it_went_in(path: Path) -> None:
    words = ["--time-diff"] if "time-diff" in path.name else []
    done = run("ct", "list", "-o", "cilium", *words, "--from", path)
    assert done.stdout == path.read_text()


SOURCES = [
    TIMED,
    OLD / "ct-list-global.json",
    NEW / "ct-list-global.yaml",
    ROOT / "bpftool/btf-1.15/cilium_ct6_global.txt",
]
COMMANDS: list[tuple[str, ...]] = [
    ("ct", "list", "--raw"),
    ("ct", "stats"),
    ("ct", "top", "--by", "pair"),
    ("ct", "top", "--by", "service"),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_json_of_the_ct_commands_fits_the_schema(command: tuple[str, ...], source: Path) -> None:
    whole_output = validated(run(*command, "-o", "json", "--from", source).stdout)[0]
    lines = validated(run(*command, "-o", "jsonl", "--from", source).stdout, lines=True)
    plural = next(name for name in whole_output if name in ("entries", "tables", "talkers"))
    assert [{"schema": line["schema"], **line} for line in lines] == lines
    assert [{k: v for k, v in line.items() if k != "schema"} for line in lines] == whole_output[plural]
    assert yaml.safe_load(run(*command, "-o", "yaml", "--from", source).stdout) == whole_output


@pytest.mark.parametrize(
    ("command", "source"),
    [
        (("lb", "list"), OLD / "lb-list.txt"),
        (("lb", "list"), NEW / "lb-list.frontends.json"),
        (("lb", "list", "--backends"), OLD / "lb-list.backends.txt"),
        (("lb", "list", "--revnat"), OLD / "lb-list.revnat.json"),
        (("lb", "list", "--source-ranges"), OLD / "lb-list.source-ranges.txt"),
        (("lb", "list", "--maglev"), NEW / "lb-maglev-list.json"),
        (("nat", "list"), OLD / "nat-list.txt"),
        (("nat", "list"), NEW / "nat-list.json"),
        (("ipcache", "list"), OLD / "ipcache-list.txt"),
        (("endpoint", "list"), NEW / "endpoint-list.json"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else part.name,
)
def test_the_other_tables(command: tuple[str, ...], source: Path) -> None:
    document = validated(run(*command, "-o", "json", "--from", source).stdout)[0]
    records = next(value for value in document.values() if isinstance(value, list))
    assert records
    assert len(validated(run(*command, "-o", "jsonl", "--from", source).stdout, lines=True)) == len(records)
    table = run(*command, "--from", source).stdout.splitlines()
    assert len(table) == len(records) + 1
    assert len(run(*command, "-o", "wide", "--no-headers", "--from", source).stdout.splitlines()) == len(records)


def test_get_explains_a_connection() -> None:
    flow = "tcp 10.64.2.110:45641 > 10.64.0.153:9090"
    done = run("ct", "get", flow, "--from", TIMED)
    assert done.stdout.startswith(
        "established: packets without SYN have been seen and neither side has closed; expires in"
    )
    document = validated(run("ct", "get", flow, "--from", TIMED, "-o", "json").stdout)[0]
    assert [member["role"] for member in document["entries"]] == ["in", "related"]
    # the replies' direction names the same connection
    back = run("ct", "get", "tcp 10.64.0.153:9090 -> 10.64.2.110:45641", "--from", TIMED, "-o", "json")
    assert json.loads(back.stdout)["entries"] == document["entries"]
    assert run("ct", "get", flow, "--from", TIMED, "-o", "cilium").stdout.startswith("TCP IN 10.64.2.110:45641")


def test_get_joins_service_and_backend_in_an_archive() -> None:
    entries = [
        e["decoded"]
        for e in truth()["fills"]["ct-1.16"]["entries"]
        if e["decoded"]["direction"] == "SVC" and not e.get("note") and e["decoded"]["backend_id"]
    ]
    seen = json.loads(run("ct", "list", "svc", "-o", "json", "--from", BUGTOOL, code=5).stdout)["entries"]
    names = ("src", "src_port", "dst", "dst_port", "proto")
    there = {tuple(entry[name] for name in names) for entry in seen}
    found = [e for e in entries if tuple(e[name] for name in names) in there]
    assert found
    entry = found[0]
    ends = [
        f"[{entry[s]}]:{entry[s + '_port']}" if ":" in entry[s] else f"{entry[s]}:{entry[s + '_port']}"
        for s in ("src", "dst")
    ]
    words = f"{entry['proto_name'].lower()} {ends[0]} > {ends[1]}"
    document = validated(run("ct", "get", words, "--from", BUGTOOL, "-o", "json", code=5).stdout)[0]
    assert document["backend"]["backend_id"] == entry["backend_id"]
    assert document["service"] is not None


def test_diff_has_exit_code_3() -> None:
    assert "added" in run("ct", "diff", OLD / "ct-list-global.empty.txt", TIMED, "-o", "csv", code=3).stdout
    assert run("ct", "diff", TIMED, TIMED).stdout.splitlines() == ["CHANGE  DIR  ENTRY  STATE  FIELDS"]
    changed = run("ct", "diff", TIMED, NEW / "ct-list-global.time-diff-ktime.txt", "-o", "json", code=3)
    validated(changed.stdout)


def test_filters_fields_sort_and_formats() -> None:
    done = run("ct", "list", "svc and tcp", "--fields", "dst,dst_port,state", "-o", "csv", "--from", TIMED)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows
    assert set(rows[0]) == {"dst", "dst_port", "state"}
    ordered = run(
        "ct", "list", "--sort", "remaining", "--fields", "remaining", "--no-headers", "-o", "csv", "--from", TIMED
    )
    values = [int(line) for line in ordered.stdout.split()]
    assert values == sorted(values)
    first = run(
        "ct", "list", "--sort", "-remaining", "--limit", "3", "-o", "csv", "--fields", "remaining", "--from", TIMED
    )
    assert [int(v) for v in first.stdout.split()[1:]] == values[::-1][:3]
    name = run("ct", "list", "-o", "name", "--limit", "1", "--from", TIMED).stdout.strip()
    assert "related" not in run("ct", "get", name, "--from", TIMED).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fields", "sorce"), "unknown field 'sorce'; did you mean 'source'?"),
        (("--sort", "lifetim"), "unknown sort field 'lifetim'; did you mean 'lifetime'?"),
        (("prto == tcp",), "unknown field 'prto'; did you mean 'proto'? (column 1)"),
        (("--ip", "10.0.0.300"), "--ip: '10.0.0.300' is not an IP address or CIDR"),
        (("--ip", "10.0.0.3:80"), "--ip: '10.0.0.3:80' is an address with a port, which --port or port == takes"),
        (("--ip", "[fd00::1]:80"), "--ip: '[fd00::1]:80' is an address with a port"),
        (("ip == 10.0.0.3:80",), "is an address with a port"),
        (("--port", "10.0.0.3"), "--port: '10.0.0.3' is an address, which --ip or ip == takes"),
        (("--port", "http"), "--port: 'http' is not a number"),
        (("--clock", "sundial"), "write ktime or jiffies:HZ"),
        (("--layout", "1.13"), "unknown layout '1.13'; did you mean '1.1"),
        (("-o", "jso"), "'jso' is not one of 'table', 'wide', 'cilium', 'json'"),
        (("-o", "jso"), "; did you mean 'json'?"),
        (("--watch",), "--watch needs a live table"),
    ],
)
def test_usage_errors_are_one_clear_line(words: tuple[str, ...], message: str) -> None:
    done = run("ct", "list", "--from", TIMED, *words, code=2)
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("ctctl: clock")]) == 1


def test_time_must_be_known_and_can_be_given() -> None:
    undated = OLD / "ct-list-global.txt"
    assert "give it with --now" in run("ct", "list", "--expired", "--from", undated, code=2).stderr
    dated = run("ct", "list", "--expired", "-o", "name", "--now", "3027938", "--from", undated)
    timed = run("ct", "list", "--expired", "-o", "name", "--from", TIMED)
    assert sorted(dated.stdout.split("\n")) == sorted(timed.stdout.split("\n"))


def test_partial_archives_exit_5_and_name_the_node() -> None:
    done = run("ct", "list", "--from", SYSDUMP, "-o", "json", code=5)
    document = validated(done.stdout)[0]
    assert {entry["node"] for entry in document["entries"]} >= {"cilium-7xk2p", "cilium-q9fzd"}
    assert document["partial"]
    assert "partial data" in done.stderr
    one = run("ct", "list", "--from", SYSDUMP, "--node", "cilium-7xk2p", "-o", "json")
    assert {entry["node"] for entry in json.loads(one.stdout)["entries"]} == {"cilium-7xk2p"}
    counted = run("ct", "stats", "--from", SYSDUMP, "--fields", "node", "--no-headers", code=5).stdout.split()
    shown = run("ct", "stats", "--from", SYSDUMP, code=5).stdout.splitlines()
    assert shown[0].startswith("NODE")
    assert [line.split()[0] for line in shown[1:]] == counted


def test_a_listing_of_something_else_says_what_it_is() -> None:
    assert "no conntrack table" in run("ct", "list", "--from", OLD / "ipcache-list.txt", code=1).stderr


@pytest.mark.parametrize("suffix", ["ctsnap", "jsonl", "csv", "parquet"])
def test_exports(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table.{suffix}"
    run("ct", "export", path, "--from", OLD / "ct-list-global.json")
    data = path.read_bytes()
    if suffix in ("ctsnap", "jsonl"):
        again = run("ct", "list", "-o", "name", "--from", path).stdout
        assert sorted(again.split("\n")) == sorted(
            run("ct", "list", "-o", "name", "--from", OLD / "ct-list-global.json").stdout.split("\n")
        )
    elif suffix == "csv":
        assert len(list(csv.DictReader(io.StringIO(data.decode())))) == 288
    else:
        assert parquet.read_table(path).num_rows == 288


PARQUET_SOURCES = {
    "1.16": OLD / "ct-list-global.json",
    "1.19": NEW / "ct-list-global.json",
    "1.15": ROOT / "bpftool/btf-1.15/cilium_ct4_global.j.json",
    "ipv6": ROOT / "bpftool/btf-1.15/cilium_ct6_global.txt",
}


@pytest.mark.parametrize("source", PARQUET_SOURCES.values(), ids=PARQUET_SOURCES)
def test_parquet_holds_what_the_listing_shows(source: Path, tmp_path: Path) -> None:
    """Read by another implementation, row by row and field by field against the JSON listing."""
    path = tmp_path / "table.parquet"
    run("ct", "export", path, "--from", source)
    rows = parquet.read_table(path).to_pylist()
    listed = json.loads(run("ct", "list", "--from", source, "-o", "json").stdout)["entries"]
    assert rows
    shared = [name for name in rows[0] if any(name in entry for entry in listed)]
    expected = [{name: entry.get(name) for name in shared} for entry in listed]
    found = [{name: row[name] for name in shared} for row in rows]

    def order(row: dict[str, Any]) -> str:
        return json.dumps(row, sort_keys=True)

    assert sorted(found, key=order) == sorted(expected, key=order)
    for row in rows:
        for side in ("src", "dst"):
            number = (row[f"{side}_hi"] % 2**64) << 64 | row[f"{side}_lo"] % 2**64
            assert number == int(ip_address(row[side]))
    assert {"state", "direction", "src", "dst_port", "lifetime", "flags", "src_sec_id"} <= set(rows[0])


def test_the_state_words_of_parquet_are_those_of_every_flag_word(tmp_path: Path) -> None:
    """All eight combinations of the three bits that a state is made of, and other bits beside them."""
    states = {0: "new", 16: "established", 1: "closing", 2: "closing", 17: "closing", 18: "closing"}
    states |= {3: "closed", 19: "closed", 0x413: "closed", 0x90: "established"}
    first = run("ct", "list", "-o", "jsonl", "--from", OLD / "ct-list-global.json").stdout.splitlines()[0]
    source, path = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    entries = [{**json.loads(first), "flags": flags, "src_port": 1000 + flags} for flags in states]
    source.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    run("ct", "export", path, "--from", source)
    found = {row["src_port"] - 1000: row["state"] for row in parquet.read_table(path).to_pylist()}
    assert found == states


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("0x0413", "RxClosing TxClosing SeenNonSyn FromTunnel"),
        ("1043", "RxClosing TxClosing SeenNonSyn FromTunnel"),
        ("0a4000240a4000401f40d3f40600", "10.64.0.36:54260"),
        ("0a4000240a4000401f40d3f40600:" + "00" * 56, "10.64.0.64"),
        ("00" * 56, "lifetime"),
    ],
)
def test_decode(data: str, expected: str) -> None:
    assert expected in run("ct", "decode", data).stdout
    validated(run("ct", "decode", data, "-o", "json").stdout)


def test_decode_refuses_what_it_cannot_be() -> None:
    assert "a key has 14 or 38" in run("ct", "decode", "001122", code=2).stderr
    assert "not hex" in run("ct", "decode", "zz", code=2).stderr


def test_the_schema_command_prints_valid_schemas() -> None:
    everything = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(everything)
    assert everything == json.loads(json.dumps(whole()))
    document = json.loads(run("ct", "list", "-o", "json", "--limit", "1", "--from", TIMED).stdout)
    jsonschema.Draft202012Validator(everything).validate(document)
    one = json.loads(run("schema", "ct-entry").stdout)
    jsonschema.Draft202012Validator(one).validate(document)
    assert run("schema", "--list").stdout.split() == list(SCHEMAS)
    assert "did you mean 'ct-entry'" in run("schema", "ct-entri", code=2).stderr


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from ctctl.cli.main import main; main(['ct', 'list', '--help']);"
        "print(sorted({'numpy', 'pyroute2', 'rich', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_stdin_and_pipes() -> None:
    with TIMED.open("rb") as stream:
        done = subprocess.run(
            [PROGRAM, "ct", "list", "--from", "-", "-o", "cilium", "--time-diff"],
            stdin=stream,
            capture_output=True,
            check=True,
        )
    assert done.stdout == TIMED.read_bytes()


def test_export_into_a_pipe_leaves_the_pipe(tmp_path: Path) -> None:
    # A device would be replaced by a file just the same; a pipe is what a test may risk.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with started("cat", pipe, text=False) as reader:
        run("ct", "export", pipe, "--from", OLD / "ct-list-global.json")
        written, _ = reader.communicate(timeout=PATIENCE_S)
    assert written
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_what_is_not_heeded_is_refused(tmp_path: Path) -> None:
    source = ("--from", OLD / "ct-list-global.json")
    told = run("ct", "export", tmp_path / "x.txt", *source, code=2).stderr
    assert "no export is written as .txt" in told
    assert list(tmp_path.iterdir()) == []
    assert "as JSON lines" in run("ct", "export", tmp_path / "x.txt", "--format", "jsonl", *source).stderr
    assert "as a snapshot" in run("ct", "export", tmp_path / "x", *source).stderr
    assert "--compress" in run("ct", "export", tmp_path / "x.csv", "--compress", *source, code=2).stderr
    assert "--raw" in run("ct", "list", "--raw", *source, code=2).stderr


def test_an_order_or_a_limit_of_what_is_told_shows_rows() -> None:
    source = ("--from", OLD / "ct-list-global.json")
    told = run("doctor", "--sort", "-check", *source, code=3).stdout.splitlines()
    assert told[0].split()[:2] == ["SEVERITY", "CHECK"]
    checks = [line.split()[1] for line in told[1:] if not line.startswith(" ")]
    assert checks == sorted(checks, reverse=True)
    assert len(run("doctor", "--limit", "1", "--no-headers", "-o", "csv", *source, code=3).stdout.splitlines()) == 1


def test_a_filter_by_what_no_table_shows_is_said(tmp_path: Path) -> None:
    old = tmp_path / "ct.txt"
    old.write_text(captures.text("cilium-1.14-snat-node1", "cli/ct-list-global.txt"))
    done = run("ct", "list", "packets > 5", "-o", "name", "--from", old)
    assert done.stdout == ""
    assert "does not show packets, so nothing matches by it; it counts each direction: rx_packets" in done.stderr
    assert "does not show" not in run("ct", "list", "rx_packets > 5", "-o", "name", "--from", old).stderr
