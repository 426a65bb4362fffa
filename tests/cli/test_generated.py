"""Files that a program writes are what it writes now: nobody edited them, nobody forgot to run it.

``ctctl/abi/layouts.py`` is held by tests/unit/test_abi.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.children import run_ctctl

ROOT = Path(__file__).resolve().parents[2]
COMPLETIONS = {"bash": "ctctl.bash", "zsh": "_ctctl", "fish": "ctctl.fish"}


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completions(shell: str) -> None:
    written = run_ctctl("completion", shell, check=True).stdout
    assert (ROOT / "completions" / COMPLETIONS[shell]).read_text() == written, "run make completions"


def test_no_completion_file_is_left_over() -> None:
    assert {path.name for path in (ROOT / "completions").iterdir()} == set(COMPLETIONS.values())


def test_reference_and_man_page() -> None:
    command = [sys.executable, ROOT / "tools" / "gen_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


GENERATED = (
    "docs/cli.md",
    "docs/reference/words.md",
    "docs/reference/measured.md",
    "docs/ctctl.1",
    "ctctl/cli/tab.json",
)


@pytest.mark.parametrize("name", GENERATED)
def test_the_check_sees_a_changed_file(name: str, tmp_path: Path) -> None:
    """What tells that the files are in step must be able to tell that they are not."""
    bench = [path.relative_to(ROOT) for path in (ROOT / "tests/bench").glob("**/*") if path.is_file()]
    for path in ("tools/gen_docs.py", *GENERATED, *bench):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    (tmp_path / name).write_text((ROOT / name).read_text() + "\n")
    command = [sys.executable, tmp_path / "tools/gen_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"out of date: {name}; run make docs\n")
