"""What tests run as another user is reached by that user, and what was closed stays closed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.children import CTCTL
from tests.support.otheruser import other_user

pytestmark = pytest.mark.kernel


def said(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Folders in closed folders, one of them closed itself, and a link to another."""
    for closed, folder in (("home", "work/tree"), ("home/.local", "python"), ("own", "")):
        (tmp_path / closed / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / closed / folder / "word").write_text(f"{closed} {folder}")
        (tmp_path / closed).chmod(0o700)
    (tmp_path / "home/latest").symlink_to("work/tree")
    return tmp_path


@pytest.mark.parametrize("names", [["home/work/tree", "home/.local/python"], ["own", "home/latest"], ["home", "own"]])
def test_what_is_named_is_reached_through_closed_folders(place: Path, names: list[str]) -> None:
    words = [place / name / "word" for name in names if name != "home"]
    done = said(*other_user(reach=[place / name for name in names]), "cat", *words)
    assert (done.returncode, done.stdout) == (0, "".join(word.read_text() for word in words)), done.stderr


def test_it_is_nobody_in_a_namespace_of_its_own(place: Path) -> None:
    done = said(
        *other_user(["CAP_BPF"], reach=[place / "own"]), "grep", "-E", "^(Uid|CapEff|CapBnd)", "/proc/self/status"
    )
    uid, effective, bound = (line.split()[1] for line in done.stdout.splitlines())
    assert (uid, int(effective, 16), int(bound, 16)) == ("65534", 1 << 39, 1 << 39)
    # Outside everything is as it was.
    assert (place / "own").stat().st_mode & 0o777 == 0o700
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert "denied" in said(*other_user(), "cat", place / "own/word").stderr


def test_the_command_line_runs(place: Path) -> None:
    done = said(*other_user(), *CTCTL, "version")
    assert done.stdout.startswith("ctctl "), done.stderr
