"""One vocabulary: what a listing prints is what it takes, for every command that has rows.

Each key of its JSON is a word for ``--fields`` and ``--sort``, says there what it says in the record, and where the
command has a filter, typed into that with its value it finds the row again. Each title and each head of a spreadsheet
is such a word too. The commands are those of the command line: a new one fails until it is here, or has a reason.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctctl.cli.main import main
from ctctl.ct.flow import read_flow
from ctctl.out.options import Format
from ctctl.packet.text import parse_flow_text, parse_packet_text
from tests.support import captures
from tests.support.commands import commands

CAPTURES = ("cilium-1.14-snat-node1", "cilium-1.19-dsr-node1")
NOW = 9_000
CT = "cli/ct-list-global.json"
#: Words of a command, and the file of a capture that it is read from; "": it reads none.
LISTINGS = {
    "ct list": CT,
    "ct stats": CT,
    **{f"ct top --by {by}": CT for by in ("src", "dst", "pair", "service", "backend", "identity", "port")},
    "ct get 'tcp 10.61.1.101 > 10.61.1.102:8000' --sort src_port": CT,
    "gc --dry-run": CT,
    "gc --dry-run --explain": CT,
    "doctor": CT,
    "status": CT,
    "ct sql 'select src, count(*) as many from ct group by src order by src'": CT,
    "nat list": "cli/nat-list.txt",
    "nat stats": "cli/nat-list.txt",
    "lb list": "cli/lb-list.frontends.txt",
    "lb list --frontends": "cli/lb-list.frontends.txt",
    "lb list --backends": "cli/lb-list.backends.txt",
    "lb list --revnat": "cli/lb-list.revnat.txt",
    "lb list --source-ranges": "cli/lb-list.source-ranges.txt",
    "ipcache list": "cli/ipcache-list.txt",
    "endpoint list": "cli/endpoint-list.txt",
    "socknat list": "cli/socknat-list.txt",
    "tunnel list": "cli/tunnel-list.txt",
    "policy list": "cmd/bpf-policy-get-all.txt",
    "metrics drops": "cmd/bpf-metrics-list.txt",
    "features": "",
    "fleet ask": "",
}
#: Commands with ``--fields`` that are not asked here, and why.
APART = {
    "ct events": "a stream, whose view is that of ct diff",
    "ct diff": "two sources; the fields of its rows are entries",
    "ct delete": "what it deleted, as ct list shows it",
    "ct flush": "what it deleted, as ct list shows it",
    "gc simulate": "a prediction: its columns are its record",
    "sizing": "a prediction: its columns are its record",
    "fleet collect": "writes a lake",
    "fleet sql": "the columns of the question",
    "fleet list": "needs a lake; its columns are its record",
    "policy get": "verdicts: their columns are their record",
    "apply": "changes a node",
    "lab list": "needs a lab; its columns are its record",
}
#: Heads and titles that are put together of several keys: an address with its port, a part of a count by words.
OF_SEVERAL = {
    **dict.fromkeys(("source", "destination", "to"), "an address and its port"),
    **dict.fromkeys(("OUT", "IN", "SVC"), "of by_direction"),
    **dict.fromkeys(("new", "established", "closing", "closed"), "of by_state"),
}
#: Keys that not every row has: absent is left out of a record, and empty in a spreadsheet.
SOMETIMES = {"node", "packets", "bytes", "ifindex", "src_name", "dst_name", "backend", "src_identity"}
#: A record has a table's own number; a field says nothing where nobody counted.
UNCOUNTED = {"packets", "bytes", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes"}
#: Of ``status``: how many, where the record has them all.
COUNTS_OF = {"programs", "problems"}
#: What cannot be typed into the filter, and why.
NO_FILTER = {
    "schema": "of the record, not of the row",
    "key_hex": "bytes: ctctl ct decode takes them",
    "to_port": "of nat list: nat_port or dst_port, the filter asks which",
}
FILTERED = ("ct list", "nat list")
ENDS = ("proto", "direction", "related", "src", "src_port", "dst", "dst_port")
Rows = list[dict[str, Any]]


def said(capfd: pytest.CaptureFixture[str], words: list[str]) -> str:
    capfd.readouterr()
    status = main(words)
    out, err = capfd.readouterr()
    assert status in (0, 3, 5), (words, status, err)
    return out


def rows_of(text: str) -> Rows:
    return [json.loads(line) for line in text.splitlines()]


def source_of(command: str, name: str, folder: Path) -> list[str]:
    file = LISTINGS[command]
    if not file:
        return []
    path = folder / Path(file).name
    path.write_bytes(captures.files(name)[file])
    timed = command != "status" and (file == CT or file.startswith("cli/nat"))
    return ["--from", str(path), *(["--now", str(NOW)] if timed else [])]


def test_every_command_with_rows_is_here_or_has_a_reason() -> None:
    with_rows = {" ".join(path) for path, command in commands() if any("--fields" in p.opts for p in command.params)}
    here = {name for name in with_rows for words in LISTINGS if words == name or words.startswith(f"{name} ")}
    assert with_rows - here == set(APART)


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("command", LISTINGS)
def test_what_is_printed_is_what_is_taken(
    command: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = LISTINGS[command]
    if (file and file not in captures.files(name)) or (not file and name != CAPTURES[0]):
        return  # a table that this version has not, or no table at all
    words = [*shlex.split(command), *source_of(command, name, tmp_path)]
    sorts = "--sort" not in words
    rows = rows_of(said(capfd, [*words, "-o", "jsonl"]))
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "schema"))
    told = rows_of(said(capfd, [*words, "-o", "jsonl", "--fields", ",".join(keys)])) if keys else []
    for key in [key for key in keys if key not in UNCOUNTED and not (command == "status" and key in COUNTS_OF)]:
        assert [row.get(key) for row in told] == [row.get(key) for row in rows], key
    for key in keys if sorts else ():
        assert len(said(capfd, [*words, "-o", "name", "--sort", key]).splitlines()) == len(rows), key
    table = csv.reader(io.StringIO(said(capfd, [*words, "-o", "csv"])))
    head = next(table)
    if rows:
        assert set(head) - set(keys) <= OF_SEVERAL.keys() | SOMETIMES, head
    said(capfd, [*words, "-o", "csv", "--fields", ",".join(head)])
    if command != "status":  # which is told in sentences
        titles = re.split(r"\s{2,}", said(capfd, [*words, "-o", "wide"]).split("\n", 1)[0].strip())
        said(capfd, [*words, "-o", "csv", "--fields", ",".join(title.lower() for title in titles)])


#: An entry that counts in each way, and one that does not: in their records, and what fields of them are.
COUNTED = (
    ("TCP OUT 10.0.0.1:1 -> 10.0.0.2:80 expires=9000 Packets=3 Bytes=300", (3, 300), (3, 300)),
    ("TCP OUT 10.0.0.1:2 -> 10.0.0.2:80 expires=9000 Packets=3 Bytes=0", (3, 0), (3, 0)),
    ("TCP OUT 10.0.0.1:3 -> 10.0.0.2:80 expires=9000 Packets=0 Bytes=0", (0, 0), (None, None)),
)
REST = (
    " RxFlagsSeen=0x12 LastRxReport=100 TxFlagsSeen=0x12 LastTxReport=100 Flags=0x0010 [ SeenNonSyn ] "
    "RevNAT=0 SourceSecurityID=1 IfIndex=0 BackendID=0\n"
)


def test_who_counts_nothing_has_the_tables_zero_in_a_record_and_nothing_in_a_field(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """docs/reference/cli.md, in every output."""
    file = tmp_path / "ct.txt"
    file.write_text("".join(line + REST for line, _record, _fields in COUNTED))
    words = ["ct", "list", "--from", str(file), "--now", str(NOW)]
    asked = [*words, "--fields", "packets,bytes"]
    records, fields = ([one[at] for one in COUNTED] for at in (1, 2))

    def both(rows: Rows) -> list[tuple[Any, ...]]:
        return [(row["packets"], row["bytes"]) for row in rows]

    assert both(rows_of(said(capfd, [*words, "-o", "jsonl"]))) == records
    assert both(json.loads(said(capfd, [*words, "-o", "json"]))["entries"]) == records
    assert both(yaml.safe_load(said(capfd, [*words, "-o", "yaml"]))["entries"]) == records
    assert both(rows_of(said(capfd, [*asked, "-o", "jsonl"]))) == fields
    assert both(json.loads(said(capfd, [*asked, "-o", "json"]))["entries"]) == fields
    assert both(yaml.safe_load(said(capfd, [*asked, "-o", "yaml"]))["entries"]) == fields
    texts = [tuple("" if number is None else str(number) for number in one) for one in fields]
    spread = csv.DictReader(io.StringIO(said(capfd, [*asked, "-o", "csv"])))
    assert [(row["packets"], row["bytes"]) for row in spread] == texts
    dashes = [tuple(text or "-" for text in one) for one in texts]
    assert [tuple(line.split()) for line in said(capfd, [*asked, "--no-headers"]).splitlines()] == dashes
    (head, *lines) = said(capfd, [*words, "-o", "wide"]).splitlines()
    titles = re.split(r"\s{2,}", head.strip())
    for line, expected in zip(lines, dashes, strict=True):
        cells = dict(zip(titles, re.split(r"\s{2,}", line.strip()), strict=True))
        assert (cells["PACKETS"], cells["BYTES"]) == expected
    assert len(said(capfd, [*words, "-o", "name", "packets == 0"]).splitlines()) == 1


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("command", FILTERED)
def test_a_value_of_the_record_finds_its_row(
    command: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*command.split(), *source_of(command, name, tmp_path), "-o", "jsonl"]
    rows = rows_of(said(capfd, words))
    asked: set[tuple[str, str]] = set()
    for row in rows[:: max(len(rows) // 9, 1)]:
        for key, value in row.items():
            if key in NO_FILTER or value is None or value in ([], {}):
                continue
            shown = (
                " ".join(value) if isinstance(value, list) else json.dumps(value) if value in (True, False) else value
            )
            text = f'{key} == "{shown}"'
            if (key, text) not in asked:
                asked.add((key, text))
                assert row in rows_of(said(capfd, [*words, text])), text
    assert len({key for key, _ in asked}) > 12


#: Several lines a row, or no rows of entries.
NOT_A_LINE = {"json", "yaml"}


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("form", [form.value for form in Format if form.value not in NOT_A_LINE])
@pytest.mark.parametrize("command", FILTERED)
def test_a_line_of_a_listing_is_a_connection_to_ask_for(
    command: str, form: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """``ct get`` of what was copied out of a listing, in whatever form, finds the entry that was copied."""
    source = source_of("ct list", name, tmp_path)
    listed = [*command.split(), *source_of(command, name, tmp_path)]
    rows = rows_of(said(capfd, [*listed, "-o", "jsonl"]))
    lines = [line for line in said(capfd, [*listed, "-o", form, "--no-headers"]).splitlines() if line]
    assert len(lines) == len(rows) > 10
    for number in range(0, len(rows), max(len(rows) // 12, 1)):
        row, line = rows[number], lines[number]
        if (command, form) == ("ct list", "name"):
            # And a packet of it to simulate, a flow to trace.
            packet = parse_packet_text(line)
            assert (packet.src_port or packet.dst_port or packet.ident or 0) == (row["src_port"] or row["dst_port"])
            assert parse_flow_text(line).ports == (row["src_port"], row["dst_port"])
        if command == "nat list":
            (asked, *_) = read_flow(line)
            assert (str(asked.src.address), str(asked.dst.address)) == (row["src"], row["dst"])
            continue
        # In front of it stands what the other tables have there: a node, a role, a mark.
        for before in ("", "node-a  ", "+  "):
            found = json.loads(said(capfd, ["ct", "get", *source, "-o", "json", before * (form == "table") + line]))
            members = [member for one in found.get("connections", [found]) for member in one["entries"]]
            assert any(all(member[key] == row[key] for key in ENDS) for member in members), line


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.parametrize("by", ["src", "dst", "pair", "service", "backend", "identity", "port"])
def test_a_top_talker_is_a_filter_of_its_entries(
    by: str, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What ``ct top`` prints below a title, typed as a condition on that title, is as many entries as it says."""
    source = source_of("ct list", name, tmp_path)
    groups = rows_of(said(capfd, ["ct", "top", "--by", by, *source, "-o", "jsonl", "--limit", "50"]))
    assert groups
    for group in groups:
        found = said(capfd, ["ct", "list", *source, "-o", "name", f'{by} == "{group["key"]}"'])
        assert len(found.splitlines()) == group["entries"], group
