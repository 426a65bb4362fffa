"""Runs side by side that share a queue of files: every test runs once, and what is shared within a run is made once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.shares import LONGEST, ordered
from tests.support.wait import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
import json, os, pytest
from pathlib import Path

def told(word):
    with Path("told").open("a") as stream:
        stream.write(json.dumps([os.getpid(), word]) + "\\n")

@pytest.fixture(scope="session")
def once():
    told("session")
    yield
    told("session ends")

@pytest.fixture(scope="module")
def module(request, once):
    told(f"up {request.node.name}")
    yield
    told(f"down {request.node.name}")
"""
LABS = """
import pytest
from tests.conftest import told

@pytest.fixture(scope="session")
def lab_in_some_mode():
    told("lab")

@pytest.fixture
def lab(lab_in_some_mode):
    pass

@pytest.fixture
def other(lab):
    pass
"""
TEST = """
import pytest
from tests.conftest import told

told("import FILE")

@pytest.mark.parametrize("n", range(COUNT))
def test(n, module):
    told(f"FILE {n}")

class TestInAClass:
    def test(self):
        told("FILE in a class")
"""
LAB = """
def test_in_the_lab(lab):
    pass
"""
COUNTS = {
    "unit/test_a.py": 3,
    "unit/test_b.py": 1,
    "lab/test_c.py": 2,
    "lab/test_d.py": 1,
    "cli/test_e.py": 4,
    "lab/test_f.py": 1,
}
SHARED = ("lab/test_c.py", "lab/test_f.py")
#: What pytest does not look into: a folder of its list, and names that are no tests'.
ELSEWHERE = ("spark/test_g.py", "unit/helper.py")


def test_what_takes_longest_is_there() -> None:
    assert [name for name in LONGEST if "/" in name and not (ROOT / name).is_file()] == []


def test_another_order_has_the_same_units() -> None:
    units = [[name] for name in "abcdefgh"]
    assert ordered(units, "") == ordered(units, "usual") == units
    assert ordered(units, "reversed") == units[::-1]
    shuffled = ordered(units, "shuffled by 7")
    assert shuffled == ordered(units, "shuffled by 7")
    assert sorted(shuffled) == units
    assert shuffled not in (units, ordered(units, "shuffled by 8"))
    for order in ("sideways", "reversed by 3"):
        with pytest.raises(ValueError, match=order):
            ordered(units, order)


#: Opens no file: what the runs of the queue would take.
UNITS = """
import sys, pytest
from tests.support import shares

class Told:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        for unit in shares.in_order(session.stash[shares.FOUND]):
            print("unit", *(file.name_in_queue for file in unit))
        return True

pytest.main(["-q", "-p", "tests.support.shares"], plugins=[Told()])
"""


def _environment() -> dict[str, str]:
    """Without what the run of this test was told."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}


def test_every_file_of_tests_is_in_one_unit() -> None:
    """What is found is what is there, but for what has a target of its own."""
    command = [sys.executable, "-c", UNITS]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True, check=True)
    units = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("unit ")]
    paths = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    apart = {path for path in paths if path.startswith(("tests/spark/", "tests/cluster/"))}
    assert "tests/dist/test_dist.py" in paths - apart
    assert Counter(file for unit in units for file in unit) == Counter(paths - apart)
    (lab,) = [unit for unit in units if len(unit) > 1]
    assert {"tests/lab/test_stories.py", "tests/lab/test_modes.py"} <= set(lab)
    assert not {"tests/lab/test_simulation_equals_reality.py", "tests/unit/test_shares.py"} & set(lab)


def _tree(root: Path) -> None:
    """Tests that tell what is imported, set up and run."""
    (root / "pytest.ini").write_text("[pytest]\nnorecursedirs = tests/spark\n")
    for name, count in COUNTS.items() | {(name, 1) for name in ELSEWHERE}:
        path = root / "tests" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(TEST.replace("COUNT", str(count)).replace("FILE", name) + LAB * (name in SHARED))
    (root / "tests/conftest.py").write_text(CONFTEST)
    (root / "tests/lab/conftest.py").write_text(LABS)
    (root / "tests/cli/__init__.py").touch()
    (root / "queue").touch()


def _runs(root: Path, count: int, *words: str) -> list[tuple[int, str]]:
    """How so many runs side by side end, and what they print."""
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", root, "--import-mode=importlib"]
    command += ["-p", "no:cacheprovider", "-p", "no:hypothesispytest", *words, "tests"]
    settings = {
        **_environment(),
        "CTCTL_TEST_QUEUE": str(root / "queue"),
        "CTCTL_TEST_ORDER": "",
        "PYTHONPATH": f"{root}:{ROOT}",
    }
    runs = [subprocess.Popen(command, cwd=root, env=settings, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    said = [run.communicate(timeout=PATIENCE_S)[0] for run in runs]
    return [(run.returncode, text) for run, text in zip(runs, said, strict=True)]


def test_every_test_runs_once(tmp_path: Path) -> None:
    _tree(tmp_path)
    said = _runs(tmp_path, 2, "-p", "tests.support.shares")
    assert [status for status, _ in said] == [0, 0], said
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    names = tuple(f"{name} " for name in COUNTS)
    tests = Counter(word for _, word in told if word.startswith(names))
    wanted = [f"{name} {n}" for name, count in COUNTS.items() for n in (*range(count), "in a class")]
    assert tests == Counter(wanted)
    # As many as pytest itself finds, and no file was opened by who does not run it.
    ran = sum(int(match[1]) for _, text in said if (match := re.search(r"(\d+) passed", text)))
    ((_, listed),) = _runs(tmp_path, 1, "--collect-only")
    assert ran == sum("::" in line for line in listed.splitlines()) == len(wanted) + len(SHARED)
    ((_, also),) = _runs(tmp_path, 1, "--collect-only", "-p", "tests.support.shares")
    assert also.splitlines()[:ran] == listed.splitlines()[:ran]
    assert Counter(word for _, word in told if word.startswith("import")) == Counter(
        f"import {name}" for name in COUNTS
    )
    for run in {pid for pid, _ in told}:
        words_of_it = [word for pid, word in told if pid == run and not word.startswith("import")]
        assert words_of_it[0] == "session"
        assert words_of_it[-1] == "session ends"
        assert words_of_it.count("session") == 1
        # A file's own is gone before the next file has its.
        modules = [word for word in words_of_it if word.startswith(("up", "down"))]
        assert [word.split()[0] for word in modules] == ["up", "down"] * (len(modules) // 2)
    # Files that use one fixture of the session are one unit, and the other of the folder is not in it.
    assert [word for _, word in told].count("lab") == 1
    assert len({pid for pid, word in told if word.startswith(SHARED)}) == 1
    order = [word.split("::")[0].split()[0] for _, word in told if word.startswith(SHARED)]
    assert order == sorted(order)


def test_a_run_that_the_others_leave_nothing_has_not_failed(tmp_path: Path) -> None:
    _tree(tmp_path)
    (tmp_path / "queue").write_text("1000")
    assert [status for status, _ in _runs(tmp_path, 1, "-p", "tests.support.shares")] == [0]
    # Where there is nothing at all, it has.
    shutil.rmtree(tmp_path / "tests")
    (tmp_path / "tests").mkdir()
    assert [status for status, _ in _runs(tmp_path, 1, "-p", "tests.support.shares")] == [5]


def test_a_file_that_cannot_be_imported_fails_its_run_and_keeps_no_other_from_running(tmp_path: Path) -> None:
    _tree(tmp_path)
    (tmp_path / "tests/unit/test_broken.py").write_text("import no_such_module\n" + "#" * 10_000)  # large: the first
    ((status, said),) = _runs(tmp_path, 1, "-p", "tests.support.shares")
    assert status == 1
    assert "No module named 'no_such_module'" in said
    assert re.search(r"^20 passed, 1 error", said, re.MULTILINE), said


def test_a_lab_asked_for_by_another_name_is_told(tmp_path: Path) -> None:
    """Its file would be a unit of its own, in a run that builds the lab again."""
    _tree(tmp_path)
    (tmp_path / "tests/lab/test_d.py").write_text("def test(other):\n    pass\n")
    ((status, said),) = _runs(tmp_path, 1, "-p", "tests.support.shares")
    assert status != 0
    assert "tests/lab/test_d.py::test asks for lab_in_some_mode by a name that is not in _SHARED" in said
