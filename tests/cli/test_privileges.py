"""docs/privileges.md, row by row: each command with just the capabilities it names, and without each of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.children import PROGRAM, run_ctctl
from tests.support.nodes import TestNode, make_node
from tests.support.otheruser import other_user
from tests.support.standin import stand_ins

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/privileges.md"
FLOW = "tcp 10.0.0.1:1 > 10.0.0.2:2"
SCENARIO = ROOT / "examples/pod-to-pod.yaml"
#: What to type for each command of the page; exit codes other than 0 that are its answer.
WORDS: dict[str, tuple[Sequence[str | Path], frozenset[int]]] = {
    "ct list": (["ct", "list"], frozenset({0})),
    "ct get": (["ct", "get", FLOW], frozenset({1})),
    "ct stats": (["ct", "stats"], frozenset({0})),
    "ct top": (["ct", "top"], frozenset({0})),
    "ct export": (["ct", "export", "/dev/null"], frozenset({0})),
    "nat list": (["nat", "list"], frozenset({0})),
    "nat stats": (["nat", "stats"], frozenset({0})),
    "lb list": (["lb", "list"], frozenset({0})),
    "ipcache list": (["ipcache", "list"], frozenset({0})),
    "endpoint list": (["endpoint", "list"], frozenset({0})),
    "socknat list": (["socknat", "list"], frozenset({0})),
    "policy list": (["policy", "list"], frozenset({0, 5})),
    "report": (["report", "--out", "/dev/null"], frozenset({0})),
    "ct events": (["ct", "events", "--for", "100ms"], frozenset({0})),
    "status": (["status"], frozenset({0})),
    "gc --dry-run": (["gc", "--dry-run"], frozenset({0})),
    "doctor": (["doctor"], frozenset({0, 3})),
    "gc": (["gc", "--yes"], frozenset({0})),
    "sizing": (["sizing", ROOT / "examples/workload.yaml", "--for", "1h"], frozenset({0})),
    "trace --scenario": (["trace", "--scenario", SCENARIO], frozenset({0})),
    "trace --live": (["trace", FLOW, "--live", "--for", "100ms"], frozenset({0})),
    "trace --probe": (["trace", FLOW, "--probe", "--device", "lo", "--for", "100ms"], frozenset({0})),
}
#: Shown by another row, or by every test that reads a file.
ELSEWHERE = {"--from FILE", "trace --simulate"}
#: Commands that are about no node.
NODELESS = {"sizing", "trace --scenario", "trace --probe"}


def rows() -> dict[str, list[str]]:
    found = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and "`" in line:
            commands, capabilities = line.strip("| ").split(" | ")
            for command in re.findall(r"`([^`]+)`", commands):
                found[command] = re.findall(r"CAP_\w+", capabilities)
    return found


ROWS = {command: capabilities for command, capabilities in rows().items() if command not in ELSEWHERE}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    with stand_ins(), make_node() as made:
        file = tmp_path_factory.mktemp("privileges") / "node.yaml"
        file.write_text(made.text())
        loaded = run_ctctl("load", "-f", file, "--netns", made.name)
        assert loaded.returncode == 0, loaded.stderr
        yield made
        subprocess.run([PROGRAM, "unload", "--node", made.name], check=False, capture_output=True)


def with_only(capabilities: Sequence[str], command: str, node: TestNode) -> subprocess.CompletedProcess[str]:
    """The command as a user who is not root and holds just these capabilities."""
    words, _ = WORDS[command]
    whose = [] if command in NODELESS else ["--node", node.name]
    line = [*other_user(capabilities), PROGRAM, *map(str, words), *whose]
    return subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def test_every_command_of_the_page_is_tried() -> None:
    assert set(ROWS) == set(WORDS)


@pytest.mark.parametrize("command", ROWS)
def test_a_command_needs_what_the_page_says_and_no_more(node: TestNode, command: str) -> None:
    needed = ROWS[command]
    enough = with_only(needed, command, node)
    assert enough.returncode in WORDS[command][1], enough.stderr
    for name in needed:
        less = with_only([other for other in needed if other != name], command, node)
        assert less.returncode == 4, (name, less.returncode, less.stderr)
        # In one line, behind what the command said of its way.
        assert less.stderr.splitlines()[-1].startswith("ctctl: "), less.stderr
        assert [line.startswith("ctctl: ") for line in less.stderr.splitlines()].count(True) == 1


@pytest.mark.parametrize(("command", "lacks"), [("gc", "CAP_SYS_ADMIN"), ("trace --scenario", "CAP_PERFMON")])
def test_the_refusal_names_what_is_missing(node: TestNode, command: str, lacks: str) -> None:
    said = with_only([name for name in ROWS[command] if name != lacks], command, node)
    assert f"needs root, or {lacks}" in said.stderr
