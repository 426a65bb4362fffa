"""Every command as a user without any right: an answer, or one plain line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import commands
from tests.support.otheruser import other_user

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).resolve().parents[2]
FLOW = "tcp 10.0.0.1:1 > 10.0.0.2:2"
TABLES = str(ROOT / "examples/cilium-bugtool.tar.xz")
#: What to type behind each command, and the exit codes that are its end: 0 what needs no right, 4 what needs one,
#: 1 and 2 where something else is missing first.
ENDS: dict[str, tuple[tuple[str, ...], int]] = {
    "ct list": ((), 4),
    "ct get": ((FLOW,), 4),
    "ct stats": ((), 4),
    "ct top": ((), 4),
    "ct events": (("--for", "100ms"), 4),
    "ct diff": ((TABLES, "auto"), 4),
    "ct decode": (("-",), 2),
    "ct export": (("-",), 4),
    "ct import": (("/nowhere.ctsnap", "--yes"), 4),
    "ct delete": (("src == 10.0.0.1", "--yes"), 4),
    "ct flush": (("--yes",), 4),
    "ct sql": (("SELECT 1 AS n",), 4),
    "trace": ((FLOW, "--live", "--for", "100ms"), 4),
    "gc": ((), 4),
    "gc undo": (("/nowhere.journal", "--yes"), 1),
    "gc simulate": ((str(ROOT / "examples/workload.yaml"), "--for", "1h"), 0),
    "sizing": ((str(ROOT / "examples/workload.yaml"), "--for", "1h"), 4),
    "doctor": ((), 4),
    "cluster": (("nodes",), 1),
    "fleet collect": (("/nowhere/lake",), 4),
    "fleet ask": ((), 0),
    "fleet sql": (("SELECT 1 AS n", "--lake", "/nowhere/lake"), 1),
    "fleet list": (("--lake", "/nowhere/lake"), 1),
    "report": (("--out", "/dev/null"), 4),
    "ui": ((), 2),
    "lb list": ((), 4),
    "nat list": ((), 4),
    "nat stats": ((), 4),
    "ipcache list": ((), 4),
    "endpoint list": ((), 4),
    "tunnel list": ((), 4),
    "socknat list": ((), 4),
    "policy list": ((), 4),
    "policy get": ((FLOW,), 4),
    "load": (("-f", str(ROOT / "examples/two-nodes.yaml"), "--node", "node-a"), 4),
    "apply": (("-f", str(ROOT / "examples/two-nodes.yaml"), "--node", "node-a"), 4),
    "unload": (("--yes",), 4),
    "status": ((), 4),
    "features": ((), 0),
    "lab up": ((), 4),
    "lab down": ((), 4),
    "lab run": (("pod-to-pod", "--name", "nowhere"), 1),
    "lab exec": (("--name", "nowhere", "pod1", "--", "true"), 1),
    "lab list": ((), 0),
    "metrics serve": (("127.0.0.1:1",), 4),
    "metrics drops": ((), 4),
    "schema": ((), 0),
    "completion": (("bash",), 0),
    "version": ((), 0),
}


def test_every_command_is_tried() -> None:
    leaves = {" ".join(path) for path, command in commands() if path and not hasattr(command, "list_commands")}
    assert leaves <= set(ENDS)
    assert set(ENDS) - leaves == {"gc"}  # a group that is a command too


@pytest.mark.parametrize("command", ENDS)
def test_it_answers_or_says_in_one_line_what_to_do(command: str) -> None:
    words, code = ENDS[command]
    line = [*other_user(), sys.executable, "-m", "ctctl", *command.split(), *words]
    env = {**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=env)
    assert done.returncode == code, (done.stdout[-500:], done.stderr)
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    if code:
        assert done.stderr.splitlines()[-1].startswith("ctctl: "), done.stderr
    if code == 4:
        assert "root" in done.stderr or "CAP_" in done.stderr, done.stderr
