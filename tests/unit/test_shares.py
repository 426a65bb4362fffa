"""Runs side by side that share a queue of files: every test runs once, and what is shared within a run is made once."""

from __future__ import annotations

import json
import os
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

@pytest.fixture(scope="session")
def lab_in_some_mode():
    told("lab")

@pytest.fixture
def lab(lab_in_some_mode):
    pass

@pytest.fixture(scope="module")
def module(request, once):
    told(f"up {request.node.name}")
    yield
    told(f"down {request.node.name}")
"""
TEST = """
import pytest
from tests.conftest import told

@pytest.mark.parametrize("n", range(COUNT))
def test(n, module):
    told(f"FILE {n}")
"""
LAB = """
def test_in_the_lab(lab):
    pass
"""
COUNTS = {"unit/test_a.py": 3, "unit/test_b.py": 1, "lab/test_c.py": 2, "lab/test_d.py": 1, "cli/test_e.py": 4}
SHARED = ("lab/test_c.py", "unit/test_b.py")


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


def test_every_test_runs_once(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/conftest.py").write_text(CONFTEST)
    for name, count in COUNTS.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(TEST.replace("COUNT", str(count)).replace("FILE", name) + LAB * (name in SHARED))
    (tmp_path / "queue").touch()
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        tmp_path,
        "-p",
        "tests.support.shares",
    ]
    words += ["--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "tests"]
    settings = {
        **os.environ,
        "CTCTL_TEST_QUEUE": str(tmp_path / "queue"),
        "CTCTL_TEST_ORDER": "",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    runs = [subprocess.Popen(words, cwd=tmp_path, env=settings, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate(timeout=PATIENCE_S)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    tests = Counter(word for _, word in told if word.startswith(tuple(COUNTS)))
    assert tests == Counter(f"{name} {n}" for name, count in COUNTS.items() for n in range(count))
    for run in {pid for pid, _ in told}:
        words_of_it = [word for pid, word in told if pid == run]
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
