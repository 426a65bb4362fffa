"""CONTRIBUTING.md's first change, typed as it stands there, in a clone: but for what `make` installs and lints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks() -> list[list[str]]:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## A first change")[2].partition("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    place = tmp_path / "ctctl"
    subprocess.run(["git", "clone", "-q", "--shared", ROOT, place], check=True)
    # What is not committed yet, and what was compiled.
    changed = subprocess.run(
        ["git", "ls-files", "-m", "-o", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    for name in [*changed, *(str(path.relative_to(ROOT)) for path in (ROOT / "ctctl/native").glob("*.so"))]:
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((ROOT / name).read_bytes())
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in (("ctctl", "ctctl"), ("pytest", "pytest")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    for word in ("user.name=Somebody", "user.email=somebody@example.org"):
        subprocess.run(["git", "config", *word.split("=")], cwd=place, check=True)
    return place


def test_the_first_change(clone: Path) -> None:
    environment = {**os.environ, "PATH": f"{clone.parent}/bin:{os.environ['PATH']}", "PYTHONPATH": str(clone)}

    def typed(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=clone, env=environment, capture_output=True, text=True, check=False
        )

    change, test = ([line for line in block if not line.startswith(("make ", ". "))] for block in blocks())
    before, edit, after = change
    assert "did you mean 'cluster'?" in typed(before).stderr
    assert typed(edit).returncode == 0
    assert "did you mean 'ctctl metrics drops'?" in typed(after).stderr
    # The test's line alone fails: it tells the change from what was there.
    undo = typed("git stash -q -- ctctl/cli/wrong.py")
    assert undo.returncode == 0, undo.stderr
    assert typed(test[0]).returncode == 0
    failed = typed(test[1])
    assert "1 failed" in failed.stdout, failed.stdout + failed.stderr
    assert typed("git stash pop -q").returncode == 0
    for line in test[1:]:
        done = typed(line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    kept = typed("git show --stat --format=").stdout
    assert {"changes/+counters.fixed.md", "ctctl/cli/wrong.py", "tests/unit/test_usage_words.py"} <= set(kept.split())
