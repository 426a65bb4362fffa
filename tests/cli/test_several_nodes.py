"""Several nodes of one machine: -A, --node again and again, CTCTL_NODE. What is shown of all is what each shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.children import line_of, run_ctctl, started
from tests.support.nodes import OUTSIDE_IP, POD_NET, make_node, run

pytestmark = pytest.mark.kernel

#: A place where nobody else's nodes are: its only BPF file system is an empty one.
_ALONE = """
while path=$(awk '/ - bpf /{print $5; exit}' /proc/self/mountinfo); [ -n "$path" ]; do umount -l "$path" || exit 9; done
mount -t bpf -o mode=0700 bpf /sys/fs/bpf && echo alone && read -r line
"""
_CILIUM = "/sys/fs/bpf/tc/globals"
#: What differs between two looks at the same entry.
_OF_THE_MOMENT = ("schema", "node", "remaining_s", "remaining", "expired", "age_s", "fill", "idle", "overdue")


@dataclass(frozen=True)
class Machine:
    """Two nodes of ours, with entries of real packets: one on the first, two on the second."""

    pid: int
    nodes: tuple[str, str]

    def run(self, *words: str) -> None:
        """Another program there, which must succeed."""
        run("nsenter", "-t", str(self.pid), "-m", *words)

    def ctctl(self, *words: object, code: int = 0, nodes: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command there; ``nodes``: what $CTCTL_NODE says."""
        environment = {**os.environ, **({"CTCTL_NODE": nodes} if nodes is not None else {})}
        done = run_ctctl(*words, namespaces=[f"/proc/{self.pid}/ns/mnt"], env=environment)
        assert done.returncode == code, (words, done.stdout[-2000:], done.stderr)
        return done

    def rows(self, *words: object, **how: Any) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ctctl(*words, "-o", "jsonl", **how).stdout.splitlines()]

    def nodes_of(self, *words: object, **how: Any) -> set[str]:
        """The nodes whose entries are listed."""
        return {row["node"] for row in self.rows("ct", "list", *words, **how)}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        nodes = sorted((stack.enter_context(make_node()) for _ in range(2)), key=lambda one: one.name)
        command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _ALONE)
        alone = stack.enter_context(started(*command, stdin=subprocess.PIPE))
        assert line_of(alone, alone.stdout) == "alone\n"
        made = Machine(alone.pid, (nodes[0].name, nodes[1].name))
        for pings, node in enumerate(nodes, 1):
            file = folder / f"{node.name}.yaml"
            file.write_text(node.text())
            made.ctctl("load", "-f", file, "--netns", node.name)
            stack.callback(made.ctctl, "unload", "--node", node.name, "--yes")
            for _ in range(pings):
                run("ip", "netns", "exec", node.pod(1), "ping", "-c1", OUTSIDE_IP)
        yield made


def _plain(row: dict[str, Any], node: str) -> str:
    kept = {name: value for name, value in row.items() if name not in _OF_THE_MOMENT}
    return json.dumps({**kept, "node": node}, sort_keys=True)


@pytest.mark.parametrize(
    "command",
    [
        "ct list",
        "ct stats",
        "nat list",
        "lb list",
        "lb list --frontends",
        "lb list --backends",
        "lb list --revnat",
        "ipcache list",
        "endpoint list",
        "ct list --map cilium_ct_any4_global",
        "nat list --map cilium_snat_v4_external",
        "socknat list",
    ],
)
def test_all_are_what_each_is(machine: Machine, command: str) -> None:
    words = command.split()
    each = sorted(_plain(row, node) for node in machine.nodes for row in machine.rows(*words, "--node", node))
    first, second = machine.nodes
    ways: list[tuple[tuple[str, ...], str | None]] = [
        (("-A",), None),
        (("-A",), first),
        (("--node", first, "--node", second), None),
        ((), f"{first} {second}"),
    ]
    for more, named in ways:
        found = machine.rows(*words, *more, nodes=named)
        assert sorted(_plain(row, row["node"]) for row in found) == each, (more, named)
    assert each or command.startswith(("nat", "socknat")), "nothing is compared"


def test_who_is_meant(machine: Machine, tmp_path: Path) -> None:
    first, second = machine.nodes
    assert machine.nodes_of(nodes=first) == {first}
    assert machine.nodes_of("--node", second, nodes=first) == {second}
    assert machine.nodes_of("-A", nodes=first) == {first, second}
    snapshot = tmp_path / "second.ctsnap"
    machine.ctctl("ct", "export", snapshot, "--node", second)
    assert machine.nodes_of("--from", snapshot, nodes=first) == {second}
    both = tmp_path / "both.ctsnap"
    machine.ctctl("ct", "export", both, "-A")
    assert machine.nodes_of("--from", both) == {first, second}
    assert machine.nodes_of("--from", both, "--node", second) == {second}


def test_the_same_words_where_all_are_meant_anyway(machine: Machine) -> None:
    first, second = machine.nodes

    def told(*words: str, nodes: str | None = None) -> list[str]:
        rows = json.loads(machine.ctctl("status", *words, "-o", "json", nodes=nodes).stdout)["nodes"]
        return sorted(row["name"] for row in rows if row["name"] in machine.nodes)

    assert told() == told("-A") == told("-A", nodes=first) == [first, second]
    assert told("--node", second) == told(nodes=second) == [second]
    assert told("--node", first, "--node", second) == told(nodes=f"{second} {first}") == [first, second]

    def listens(*words: str, nodes: str | None = None) -> str:
        done = machine.ctctl("trace", "--live", *words, "--for", "0.1s", nodes=nodes)
        return next(line for line in done.stderr.splitlines() if "listening on" in line)

    for words, nodes in (((), None), (("-A",), first), (("--node", first, "--node", second), None)):
        assert listens(*words, nodes=nodes).endswith(f"{first}, {second}"), words
    assert listens(nodes=second).endswith(f" {second}")
    for command in ("status", "trace"):
        assert "leave out --node" in machine.ctctl(command, "-A", "--node", first, code=2).stderr


def test_what_cannot_be_meant(machine: Machine) -> None:
    first, _ = machine.nodes
    assert "leave out --node" in machine.ctctl("ct", "list", "-A", "--node", first, code=2).stderr
    assert "say which with --node" in machine.ctctl("ct", "list", code=2).stderr
    for how in ({"nodes": f"{first} nobody"}, {"nodes": "nobody"}):
        assert "no node 'nobody' is loaded" in machine.ctctl("ct", "list", code=1, **how).stderr
    assert "no node 'nobody'" in machine.ctctl("ct", "list", "--node", first, "--node", "nobody", code=1).stderr
    assert "did you mean" in machine.ctctl("nat", "list", "-A", "--map", "cilium_snat_v4", code=1).stderr


def test_a_connection_on_every_node(machine: Machine) -> None:
    flow = f"icmp {POD_NET}.11 > {OUTSIDE_IP}"
    found = machine.rows("ct", "get", flow, "-A")
    assert {entry["node"] for one in found for entry in one["entries"]} == set(machine.nodes)


def test_findings_are_each_nodes(machine: Machine) -> None:
    told = json.loads(machine.ctctl("doctor", "-A", "-o", "json").stdout)
    assert told["sources"]


def test_sql_has_the_nodes(machine: Machine) -> None:
    pytest.importorskip("duckdb", reason="questions need DuckDB (ctctl[fleet])")
    found = machine.rows("ct", "sql", "SELECT node, count(*) AS n FROM ct GROUP BY node ORDER BY node", "-A")
    assert [(row["node"], row["n"]) for row in found] == [
        (node, len(machine.rows("ct", "list", "--node", node))) for node in machine.nodes
    ]


def test_a_live_ciliums_tables_are_among_them(machine: Machine) -> None:
    pin = f"{_CILIUM}/cilium_ct4_global"
    machine.run("mkdir", "-p", _CILIUM)
    try:
        kind = ["type", "lru_hash", "key", "14", "value", "56", "entries", "16", "name", "cilium_ct4_glob"]
        machine.run("bpftool", "map", "create", pin, *kind)
        key, value = ["0"] * 12 + ["6", "0"], ["1"] * 56
        machine.run("bpftool", "map", "update", "pinned", pin, "key", *key, "value", *value)
        assert machine.nodes_of("-A") == {*machine.nodes, _CILIUM}
    finally:
        machine.run("rm", "-r", "/sys/fs/bpf/tc")


def test_two_are_not_changed_at_once(machine: Machine, tmp_path: Path) -> None:
    """And an undo goes to the node that the journal is of, whatever the environment says."""
    first, second = machine.nodes
    before = {node: len(machine.rows("ct", "list", "--node", node)) for node in machine.nodes}
    assert before[second] > before[first] > 0
    for command in (("ct", "flush", "--yes"), ("gc",)):
        assert "several nodes" in machine.ctctl(*command, nodes=f"{first} {second}", code=2).stderr
    assert "several nodes" in machine.ctctl("ct", "flush", "--yes", "-A", code=2).stderr
    journal = tmp_path / "journal"
    machine.ctctl("ct", "flush", "--yes", "--undo-file", journal, nodes=second)
    assert {node: len(machine.rows("ct", "list", "--node", node)) for node in machine.nodes} == {**before, second: 0}
    for command in (("gc", "undo", journal), ("ct", "import", journal), ("ct", "import", journal, "-A")):
        machine.ctctl(*command, "--yes", nodes=first)
        assert {node: len(machine.rows("ct", "list", "--node", node)) for node in machine.nodes} == before
