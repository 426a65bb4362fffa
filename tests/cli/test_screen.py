"""What a terminal shows: nothing wraps, nothing that matters is cut, a pager where there is much."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.terminal import on_terminal

CTCTL = str(Path(sys.executable).parent / "ctctl")
DATA = Path(__file__).resolve().parents[1] / "data"
DUMP = DATA / "samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_list_fits(columns: int) -> None:
    code, lines = on_terminal([CTCTL, "ct", "list", "--from", str(DUMP)], columns, environment={"CTCTL_PAGER": ""})
    rows = [line for line in lines if not line.startswith("ctctl:")]
    assert code == 0
    assert len(rows) > 100
    assert max(map(len, rows)) <= columns
    assert not any("…" in line for line in rows)


def test_piped_is_whole(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess

    done = subprocess.run([CTCTL, "ct", "list", "--from", str(DUMP)], capture_output=True, text=True, check=True)
    header = done.stdout.splitlines()[0]
    assert header.split() == ["PROTO", "DIR", "SOURCE", "DESTINATION", "STATE"]


def test_a_pager_reads_what_is_listed(tmp_path: Path) -> None:
    told = tmp_path / "told"
    environment = {"PAGER": f"cat > {told}"}
    code, lines = on_terminal([CTCTL, "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
    assert not [line for line in lines if "10." in line and not line.startswith("ctctl:")]
    assert "DESTINATION" in told.read_text()
    code, lines = on_terminal([CTCTL, "--no-pager", "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
    assert any("DESTINATION" in line for line in lines)


def test_a_pager_that_ends_early_is_no_failure() -> None:
    environment = {"PAGER": "head -n 1"}
    code, _lines = on_terminal([CTCTL, "ct", "list", "--from", str(DUMP)], 80, environment=environment)
    assert code == 0
