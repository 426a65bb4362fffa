"""What ``ctctl cluster`` makes of an API server's lists: busy, in pages, of pods in every state."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.children import run_ctctl
from tests.support.kubeapi import Cluster, agent_in, served

pytest.importorskip("lightkube", reason="clusters need lightkube (ctctl[k8s])")
pytest.importorskip("websockets", reason="clusters need websockets (ctctl[k8s])")


@dataclass
class Scripted(Cluster):
    """``first`` says what a request is answered instead: None for as usual. ``pods``: what is changed of each."""

    first: Callable[[str, dict[str, list[str]]], Any] = lambda _path, _query: None
    more: list[dict[str, Any]] = field(default_factory=list)
    pods: Callable[[dict[str, Any]], None] = lambda _pod: None

    def request(self, connection: Any, request: Any) -> Any:
        url = urlsplit(request.path)
        found = self.first(url.path, parse_qs(url.query))
        if isinstance(found, HTTPStatus):
            return self._says(connection, found, "not now")
        return super().request(connection, request) if found is None else self._json(connection, HTTPStatus.OK, found)

    def _pods(self, labels: str) -> list[dict[str, Any]]:
        found = super()._pods(labels) + ([] if "name=ctctl" in labels else self.more)
        for one in found:
            self.pods(one)
        return found


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return agent_in(tmp_path)


def nodes(cluster: Cluster, folder: Path, *words: object, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    with served(cluster, folder) as kubeconfig:
        done = run_ctctl("cluster", "--kubeconfig", kubeconfig, "nodes", "-ojson", *words)
    assert done.returncode == code, (done.stdout, done.stderr)
    return (json.loads(done.stdout)["nodes"] if done.stdout else []), done.stderr


@pytest.mark.parametrize("status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE])
def test_a_busy_server_is_asked_again(agent: Path, tmp_path: Path, status: HTTPStatus) -> None:
    """For lists and for commands, after a while."""
    refused: dict[str, int] = {}

    def first(path: str, _query: object) -> HTTPStatus | None:
        refused[path] = refused.get(path, 0) + 1
        return status if refused[path] <= 2 else None

    rows, said = nodes(Scripted({"a": "ok"}, agent, first=first), tmp_path)
    assert [(one["node"], one["status"]) for one in rows] == [("a", "read")]
    assert not said
    assert len(refused) >= 4
    assert min(refused.values()) >= 3


@pytest.mark.parametrize(("kind", "code"), [("pods", 1), ("nodes", 1)])
def test_what_cannot_be_listed_hides_no_node(agent: Path, tmp_path: Path, kind: str, code: int) -> None:
    """A node without a pod is known from the list of nodes alone: without it, it would be missing silently."""
    broken = HTTPStatus.INTERNAL_SERVER_ERROR
    cluster = Scripted({"a": "ok"}, agent, first=lambda path, _query: broken if path.endswith(kind) else None)
    rows, said = nodes(cluster, tmp_path, code=code)
    assert not rows
    assert said == "ctctl: the API server: not now\n"


def test_who_may_not_list_nodes_sees_those_of_pods(agent: Path, tmp_path: Path) -> None:
    forbidden = HTTPStatus.FORBIDDEN
    cluster = Scripted({"a": "ok"}, agent, first=lambda path, _query: forbidden if path.endswith("nodes") else None)
    assert [one["node"] for one in nodes(cluster, tmp_path)[0]] == ["a"]


def test_names_that_cannot_be_read_are_said_to_be_missing(agent: Path, tmp_path: Path) -> None:
    broken = HTTPStatus.INTERNAL_SERVER_ERROR
    cluster = Scripted({"a": "ok"}, agent, first=lambda path, _query: broken if path.endswith("services") else None)
    with served(cluster, tmp_path) as kubeconfig:
        done = run_ctctl("cluster", "--kubeconfig", kubeconfig, "ct", "list", "-o", "jsonl")
    assert "ctctl: the names of services are not known: the API server: not now" in done.stderr.splitlines()


def test_a_list_comes_in_pages_and_begins_anew_where_it_has_changed(agent: Path, tmp_path: Path) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def page(path: str, query: dict[str, list[str]]) -> object:
        if not path.endswith("/nodes"):
            return None
        asked.append((query.get("limit", [None])[0], query.get("continue", [None])[0]))
        if query.get("continue") == ["second"]:
            return HTTPStatus.GONE
        names = {("500", None): ["a", "b"], (None, None): ["b", "c", "d"]}[asked[-1]]
        more = {"continue": "second"} if "limit" in query else {}
        return {"kind": "NodeList", "metadata": more, "items": [{"metadata": {"name": name}} for name in names]}

    rows, _ = nodes(Scripted({"c": "ok"}, agent, first=page), tmp_path, code=5)
    assert [one["node"] for one in rows] == ["b", "c", "d"]
    assert asked == [("500", None), ("500", "second"), (None, None)]


def test_pods_as_servers_tell_them(agent: Path, tmp_path: Path) -> None:
    """Of a newer or an older version, without what a library takes for granted; one that has no node yet."""

    def bare(pod: dict[str, Any]) -> None:
        pod["status"]["containerStatuses"] = [
            {"name": "cilium-agent", "ready": False, "new": {"of": "a later version"}}
        ]
        pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    unplaced = {"metadata": {"name": "cilium-x", "namespace": "kube-system"}, "spec": {"containers": [{"name": "c"}]}}
    cluster = Scripted({"a": "ok"}, agent, pods=bare, more=[{**unplaced, "status": {"phase": "Pending"}}])
    assert [(one["node"], one["status"]) for one in nodes(cluster, tmp_path)[0]] == [("a", "read")]


@pytest.mark.parametrize("name", ["cilium-0", "cilium-z"])
@pytest.mark.parametrize("how", ["leaving", "unready", "pending"])
def test_of_two_pods_of_a_node_the_one_that_is_well_is_asked(agent: Path, tmp_path: Path, name: str, how: str) -> None:
    """While one replaces the other there are two; the other has no node that is known, and would fail."""
    other: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"nodeName": "a", "containers": [{"name": "cilium-agent"}]},
        "status": {"phase": "Pending" if how == "pending" else "Running"},
    }
    if how == "leaving":
        other["metadata"]["deletionTimestamp"] = "2026-01-15T10:15:30Z"
    if how == "unready":
        other["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    rows, _ = nodes(Scripted({"a": "ok"}, agent, more=[other]), tmp_path)
    assert [(one["node"], one["status"]) for one in rows] == [("a", "read")]


@pytest.mark.parametrize("words", [("-ocsv",), ("-o=csv",), ("--output=csv",), ("--output", "csv"), ("-o", "csv")])
def test_a_form_of_nodes_in_every_way_of_writing_it(agent: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    with served(Cluster({"a": "ok"}, agent), tmp_path) as kubeconfig:
        done = run_ctctl("cluster", "--kubeconfig", kubeconfig, "nodes", *words)
    assert done.stdout.startswith("node,status,")


@pytest.mark.parametrize("words", [("-o", "xml"), ("-o",), ("a",), ("--limit", "3")])
def test_words_that_nodes_does_not_take_ask_nobody(agent: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    cluster = Cluster({"a": "ok"}, agent)
    with served(cluster, tmp_path) as kubeconfig:
        done: subprocess.CompletedProcess[str] = run_ctctl("cluster", "--kubeconfig", kubeconfig, "nodes", *words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not cluster.asked


def test_what_is_empty_is_an_answer_and_a_node_without_connections_a_node(tmp_path: Path, agent: Path) -> None:
    """Nothing printed, or a table's empty line: no row, nothing missing, nothing of one node shown as another's."""
    listed = " expires=3035584 (remaining: 7646 sec(s)) Packets=0 Bytes=0 RxFlagsSeen=0x1a LastRxReport=3027584"
    listed += " TxFlagsSeen=0x12 LastTxReport=3027584 Flags=0x0010 [ SeenNonSyn ] RevNAT=0 SourceSecurityID=5"
    ends = (
        "IP ADDRESS              LOCAL ENDPOINT INFO\n{}:0           id=611   sec_id=5 flags=0x0000 ifindex=12 mac={}\n"
    )
    mac = "22:6D:3E:32:E3:C2 nodemac=12:CC:DC:C3:6B:20"
    for node, pod in (("a", "10.0.1.5"), ("b", "10.0.2.7"), ("c", "10.0.3.9")):
        (tmp_path / f"{node}.endpoint").write_text(ends.format(pod, mac))
    connection = "10.0.1.5:40000 -> 10.0.2.7:8080"
    (tmp_path / "a.ct").write_text(f"TCP OUT {connection}{listed} IfIndex=0 BackendID=0 \n")
    (tmp_path / "b.ct").write_text("")
    (tmp_path / "c.ct").write_text("\n\n\n\n")
    script = f'#!/bin/sh\n[ "$3" = list ] && cat {tmp_path}/"$NODE.$2"\nexit 0\n'
    (agent / "cilium-dbg").write_text(script)

    with served(Cluster(dict.fromkeys("abc", "ok"), agent), tmp_path) as kubeconfig:

        def ctctl(*words: object) -> str:
            done = run_ctctl("cluster", "--kubeconfig", kubeconfig, *words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            assert "partial" not in done.stderr
            return done.stdout

        told = ctctl("ct", "get", "tcp 10.0.1.5:40000 > 10.0.2.7:8080")
        assert "IN entry on b, whose pod 10.0.2.7 is: missing" in told
        (row,) = [line.split() for line in told.splitlines() if line.startswith("out ")]
        assert row[1] == "a"
        for node in ("b", "?"):
            rows = [json.loads(line) for line in ctctl("--node", node, "endpoint", "list", "-o", "jsonl").splitlines()]
            assert [one["node"] for one in rows] == (["a", "b", "c"] if node == "?" else [node])
            for words in (("nat", "list"), ("lb", "list"), ("ipcache", "list")):
                assert not ctctl("--node", node, *words, "-o", "jsonl")
            entries = ctctl("--node", node, "ct", "list", "-o", "jsonl").splitlines()
            assert [json.loads(line)["node"] for line in entries] == (["a"] if node in "a?" else [])
            shown = ctctl("--node", node, "gc", "--dry-run").splitlines()
            assert [line for line in shown if line.endswith(":")] == [
                f"{one}:" for one in ("abc" if node == "?" else node)
            ]
        stats = json.loads(ctctl("ct", "stats", "-o", "json"))["tables"]
        assert {one["node"] for one in stats} == {"a", "b", "c"}
        lake = tmp_path / "lake"
        ctctl("fleet", "collect", lake)
        asked = run_ctctl("fleet", "sql", "SELECT node, has_nat, has_services, has_ct FROM collections", "--lake", lake)
        assert asked.stdout.count("yes") + asked.stdout.count("true") == 9, asked.stdout


@pytest.mark.parametrize(
    ("words", "name"), [((), "testing"), (("--cluster", "prod"), "prod"), (("--cluster=prod",), "prod")]
)
def test_a_cluster_is_called_as_one_says(agent: Path, tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    """Else as the kubeconfig does."""
    with served(Cluster({"a": "ok"}, agent), tmp_path) as kubeconfig:
        done = run_ctctl("cluster", "--kubeconfig", kubeconfig, "fleet", "collect", tmp_path / "lake", *words)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(run_ctctl("fleet", "list", "--lake", tmp_path / "lake", "-o", "json").stdout)["collections"]
    assert row["cluster"] == name
