"""Every format of every listing beside conntrack says the same rows: of no row, one and many, filtered or not."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctctl.cli.main import main
from tests.support import captures

CAPTURES = ("cilium-1.14-snat-node1", "cilium-1.19-snat-node1")
#: a listing's command, and the file of a capture that it is read from; how many lines are no row
LISTINGS = {
    "nat list": ("cli/nat-list.txt", 0),
    "lb list --frontends": ("cli/lb-list.frontends.txt", 1),
    "lb list --backends": ("cli/lb-list.backends.txt", 1),
    "lb list --revnat": ("cli/lb-list.revnat.txt", 1),
    "ipcache list": ("cli/ipcache-list.txt", 1),
    "endpoint list": ("cli/endpoint-list.txt", 1),
    "socknat list": ("cli/socknat-list.txt", 1),
    "tunnel list": ("cli/tunnel-list.txt", 1),
    "policy list": ("cli/policy-all.txt", 0),
    "metrics drops": ("cmd/bpf-metrics-list.txt", 1),
}
#: without a row a file of these is no listing, or one of several kinds
HEADLESS = ("nat list", "policy list", "lb list --backends", "lb list --revnat")
NAT_FILTERS = (
    "tcp",
    "src in 10.61.1.0/24",
    "direction == out and port == 80",
    "src in fd00::/8",
    "udp or port == 8000",
)
Rows = list[dict[str, Any]]


def said(capfd: pytest.CaptureFixture[str], command: str, path: Path, form: str, *more: str) -> str:
    capfd.readouterr()
    status = main([*command.split(), *more, "--from", str(path), "-o", form])
    out, err = capfd.readouterr()
    assert status == 0, f"{command} {more} -o {form}: {status}: {err}"
    return out


def rows_of(capfd: pytest.CaptureFixture[str], command: str, path: Path, *more: str) -> Rows:
    """The rows, which every format has to say."""
    document = json.loads(said(capfd, command, path, "json", *more))
    (rows,) = [value for value in document.values() if isinstance(value, list)]
    assert yaml.safe_load(said(capfd, command, path, "yaml", *more)) == document
    lines = [json.loads(line) for line in said(capfd, command, path, "jsonl", *more).splitlines()]
    assert [{name: value for name, value in line.items() if name != "schema"} for line in lines] == [
        {name: value for name, value in row.items() if name != "schema"} for row in rows
    ]
    table = list(csv.DictReader(io.StringIO(said(capfd, command, path, "csv", *more))))
    assert (
        [with_fields(row, table[0]) for row in rows] == [with_fields(row, rows[0]) for row in table]
        if rows
        else not table
    )
    for form in ("table", "wide"):
        head, *lines = said(capfd, command, path, form, *more).splitlines() or [""]
        assert [_GAP.split(line.strip()) for line in lines] == [
            [shown(row, title.lower()) for title in _GAP.split(head.strip())] for row in rows
        ]
    assert len(said(capfd, command, path, "name", *more).splitlines()) == len(rows)
    return rows


#: Columns of a table have two blanks at least between them.
_GAP = re.compile(" {2,}")
_PROTOCOLS = {None: "ANY", 0: "ANY", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_IDENTITIES = {
    1: "host",
    2: "world",
    4: "health",
    6: "remote-node",
    7: "kube-apiserver",
    9: "world-ipv4",
    10: "world-ipv6",
}
_ENDS = {"source": ("src", "src_port"), "destination": ("dst", "dst_port"), "to": ("to_addr", "to_port")}


def shown(row: dict[str, Any], title: str) -> str:
    """What a table says of a row under a title, by the row's fields."""
    if title in _ENDS:
        host, port = (row[name] for name in _ENDS[title])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    value = row["direction" if title == "dir" else title]
    if title == "proto" and (value is None or isinstance(value, int)):
        return _PROTOCOLS[value]
    if title == "flags" and isinstance(value, int):
        return f"0x{value:04x}"
    if title == "age":
        minutes, seconds = divmod(int(value), 60)
        return f"{minutes}m{seconds}s" if minutes and seconds else f"{minutes}m" if minutes else f"{seconds}s"
    if title == "identity" and isinstance(value, int):
        if not value:
            return "any" if "egress" in row or "direction" in row else "-"
        return f"{value} ({_IDENTITIES[value]})" if value in _IDENTITIES else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return text_of(value) or "-"


def with_fields(row: dict[str, Any], other: dict[str, Any]) -> dict[str, str]:
    """What a row says in the fields that both formats have, as CSV writes it: absent is empty."""
    return {name: text_of(value) for name, value in row.items() if name in other and not isinstance(value, dict)}


def text_of(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(text_of, value))
    return "" if value is None else str(value)


@pytest.mark.parametrize(
    ("capture", "command"),
    [(name, command) for name in CAPTURES for command, (file, _) in LISTINGS.items() if file in captures.files(name)],
)
def test_every_format_says_the_same_rows(
    capture: str, command: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, heads = LISTINGS[command]
    lines = captures.text(capture, file).splitlines(keepends=True)
    path = tmp_path / "listing.txt"
    path.write_text("".join(lines))
    many = rows_of(capfd, command, path)
    assert many
    first = max(heads, next(n for n, line in enumerate(lines) if command != "policy list" or line.startswith("Allow")))
    if command == "metrics drops":
        first = next(n for n, line in enumerate(lines) if line.split()[0] == many[0]["reason"].split()[0])
    path.write_text("".join(lines[: first + 1]))
    one = rows_of(capfd, command, path)
    assert len(one) == 1
    assert one[0] in many
    if command not in HEADLESS:
        path.write_text("".join(lines[:heads]))
        assert rows_of(capfd, command, path) == []


@pytest.mark.parametrize("text", NAT_FILTERS)
def test_every_filter_of_snat_entries_chooses_the_same_in_every_format(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nat.txt"
    path.write_text(captures.text(CAPTURES[1], "cli/nat-list.txt"))
    chosen, others = rows_of(capfd, "nat list", path, text), rows_of(capfd, "nat list", path, f"not ({text})")
    every = rows_of(capfd, "nat list", path)
    assert chosen
    assert others
    assert sorted(map(str, chosen + others)) == sorted(map(str, every))
    nothing = rows_of(capfd, "nat list", path, f"({text}) and not ({text})")
    assert nothing == []
