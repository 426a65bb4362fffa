"""Numbers that each node gives out itself are never added up over nodes, nor called what another node calls them."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from socket import htons

import jsonschema
import pytest

from ctctl.cli.schemas import SCHEMAS
from ctctl.ct.report import Talker
from ctctl.ct.sums import joined, talkers_of_document
from ctctl.ct.top import By
from ctctl.model.service import Backend, RevNat
from ctctl.model.tuples import TCP, Direction
from ctctl.tables.sources.base import Source
from tests.support.children import run_ctctl
from tests.support.fleet import Node, Row, flow

CLUSTER_WIDE, OF_A_NODE = 12345, 1 << 24 | 7


class Numbered(Node):
    """A node on which backend 7 and service 3 are its own: ``10.9.0.N`` and ``10.96.0.N``."""

    def source(self) -> Source:
        source = super().source()
        last = ord(self.name[-1]) - ord("a") + 1
        found = source.listings(None)
        found.backends = [Backend(7, ip_address(f"10.9.0.{last}"), TCP, 80, "active")]
        found.rev_nats = [RevNat(3, ip_address(f"10.96.0.{last}"), 80)]
        return source


def rows(count: int) -> list[Row]:
    to_service = {"direction": Direction.SVC, "backend": 7, "rev_nat": htons(3)}
    service = [Row(flow("10.0.0.1", 1000 + n, "10.96.0.1", 80), **to_service) for n in range(count)]
    plain = [
        Row(flow("10.0.0.1", 2000 + n, "10.0.0.2", 80), identity=OF_A_NODE if n % 2 else CLUSTER_WIDE)
        for n in range(2 * count)
    ]
    return service + plain


@pytest.fixture
def snapshots(tmp_path: Path) -> list[Path]:
    return [Numbered("node-a", rows(2)).write(tmp_path), Numbered("node-b", rows(3)).write(tmp_path)]


def given(snapshots: list[Path]) -> list[object]:
    """The words that name them as sources."""
    return [word for path in snapshots for word in ("--from", path)]


def top(snapshots: list[Path], by: str, *words: str) -> list[tuple[str | None, str, str | None, int]]:
    document = json.loads(run_ctctl("ct", "top", "--by", by, *given(snapshots), *words, "-o", "json").stdout)
    jsonschema.validate(document, SCHEMAS[document["schema"]])
    return [(one["node"], one["key"], one["name"], one["entries"]) for one in document["talkers"]]


@pytest.mark.parametrize(("by", "key", "net"), [("backend", "7", "10.9.0"), ("service", "3", "10.96.0")])
def test_a_group_by_a_nodes_own_number_is_of_one_node(snapshots: list[Path], by: str, key: str, net: str) -> None:
    assert top(snapshots, by) == [("node-b", key, f"{net}.2:80", 3), ("node-a", key, f"{net}.1:80", 2)]
    assert top(snapshots, by, "--limit", "1") == [("node-b", key, f"{net}.2:80", 3)]
    assert top(snapshots[:1], by) == [(None, key, f"{net}.1:80", 2)]


def test_identities_of_the_cluster_are_one_and_local_ones_are_a_nodes(snapshots: list[Path]) -> None:
    found = {(node, key): entries for node, key, _, entries in top(snapshots, "identity")}
    assert found[None, str(CLUSTER_WIDE)] == 5
    assert (found["node-a", str(OF_A_NODE)], found["node-b", str(OF_A_NODE)]) == (2, 3)


def test_what_is_first_on_no_node_may_be_first_on_all(tmp_path: Path) -> None:
    """An identity that is second on each node, and together the most."""
    paths = []
    for number, name in enumerate(("node-a", "node-b")):
        made = [Row(flow("10.0.0.1", 1 + n, "10.0.0.2", 80), identity=1000 + number) for n in range(4)]
        made += [Row(flow("10.0.0.1", 101 + n, "10.0.0.2", 80), identity=500) for n in range(3)]
        paths.append(Numbered(name, made).write(tmp_path))
    assert top(paths, "identity", "--limit", "1") == [(None, "500", None, 6)]


def test_the_node_is_a_column_where_the_numbers_are_its_own(snapshots: list[Path]) -> None:
    assert run_ctctl("ct", "top", "--by", "backend", *given(snapshots)).stdout.split()[:2] == ["NODE", "BACKEND"]
    assert "NODE" not in run_ctctl("ct", "top", "--by", "src", *given(snapshots)).stdout
    assert "NODE" not in run_ctctl("ct", "top", "--by", "backend", "--from", snapshots[0]).stdout


def test_rows_of_several_nodes_are_called_what_each_node_calls_them(snapshots: list[Path]) -> None:
    for words in (("-o", "jsonl"), ("-o", "jsonl", "--sort", "src_port")):
        lines = run_ctctl("ct", "list", *given(snapshots), *words).stdout.splitlines()
        told = {(row["node"], row.get("backend")) for row in map(json.loads, lines) if row["backend_id"] == 7}
        assert told == {("node-a", "10.9.0.1:80"), ("node-b", "10.9.0.2:80")}
    shown = run_ctctl("ct", "list", "svc", *given(snapshots), "--fields", "node,backend", "-o", "csv").stdout.split()
    assert {*shown[1:]} == {"node-a,10.9.0.1:80", "node-b,10.9.0.2:80"}


def test_a_report_of_several_nodes_calls_services_what_each_node_calls_them(
    snapshots: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert run_ctctl("report", "--out", page, *given(snapshots)).returncode in (0, 3)
    for last in (1, 2):
        assert f"10.96.0.{last}:80" in page.read_text()


def test_sums_of_a_cluster_keep_a_nodes_numbers_apart() -> None:
    one = Talker("7", "10.9.0.1:80", 2, 0, None, None)
    other = Talker("7", None, 3, 0, None, None)
    found = joined([("node-a", [one]), ("node-b", [other])], By.backend, {"backend 7": "of no node"})
    assert [(one.node, one.name, one.entries) for one in found] == [("node-b", None, 3), ("node-a", "10.9.0.1:80", 2)]
    (both,) = joined([("node-a", [one]), ("node-b", [other])], By.port, {})
    assert (both.node, both.entries) == (None, 5)


def test_sums_of_an_older_ctctl_are_read() -> None:
    record = {"key": "7", "name": None, "entries": 2, "expired": 0, "packets": None, "bytes": None, "rate": None}
    assert talkers_of_document({"talkers": [record]}) == [Talker("7", None, 2, 0, None, None)]
