"""How a run ends when its standard streams are closed or full, and with numbers of any size: one line, right code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.children import CTCTL
from tests.support.samples import ROOT

DUMP = str(ROOT / "cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt")
LONG = "1" + "0" * 29


def run(*words: str, closed: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    def close() -> None:
        for fd in closed:
            os.close(fd)

    return subprocess.run(
        [*CTCTL, *words], capture_output=True, text=True, check=False, preexec_fn=close, stdin=subprocess.DEVNULL
    )


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "clock: " not in line]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "yaml", "csv", "cilium"])
def test_a_closed_stdout(form: str) -> None:
    done = run("ct", "list", "-o", form, "--from", DUMP, closed=(1,))
    assert done.returncode == 1
    assert errors(done) == ["ctctl: standard output is closed: open it, or give a file or /dev/null"]


def test_a_closed_stderr_keeps_notes_out_of_the_data() -> None:
    whole, done = (
        run("ct", "list", "-o", "jsonl", "--from", DUMP),
        run("ct", "list", "-o", "jsonl", "--from", DUMP, closed=(2,)),
    )
    assert (done.returncode, done.stdout) == (0, whole.stdout)
    assert run("ct", "nosuch", closed=(2,)).returncode == 2


@pytest.mark.parametrize("gone", ["its reader left", "full"])
def test_notes_that_nobody_takes_do_not_end_the_work(gone: str, tmp_path: Path) -> None:
    def told(*words: str) -> tuple[int, str]:
        reading, writing = os.pipe()
        os.close(reading)
        with Path("/dev/full").open("w") as full:
            stderr = full.fileno() if gone == "full" else writing
            done = subprocess.run([*CTCTL, *words], check=False, stdout=subprocess.PIPE, stderr=stderr, text=True)
        os.close(writing)
        return done.returncode, done.stdout

    undated = str(ROOT / "cilium-dbg-1.16.4/ct-list-global.txt")
    assert told("ct", "list", "-o", "jsonl", "--from", undated) == (
        0,
        run("ct", "list", "-o", "jsonl", "--from", undated).stdout,
    )
    assert told("ct", "export", str(tmp_path / "table.csv"), "--from", undated) == (0, "")
    assert (tmp_path / "table.csv").stat().st_size > 10_000
    assert told("ct", "nosuch")[0] == 2


def test_a_closed_stdin() -> None:
    done = run("ct", "list", "--from", "-", closed=(0,))
    assert done.returncode == 1
    assert errors(done) == ["ctctl: standard input is closed: open it, or give a file or /dev/null"]
    assert run("ct", "list", "--limit", "1", "--from", DUMP, closed=(0,)).returncode == 0


def test_all_closed() -> None:
    assert run("ct", "list", "--from", DUMP, closed=(0, 1, 2)).returncode == 1


def test_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CTCTL, "ct", "list", "--from", DUMP], check=False, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert errors(done) == ["ctctl: cannot write: No space left on device"]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "cilium", "csv"])
def test_a_limit_of_any_size(form: str) -> None:
    done = run("ct", "list", "-o", form, "--limit", LONG, "--from", DUMP)
    assert done.returncode == 0
    assert done.stdout == run("ct", "list", "-o", form, "--from", DUMP).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("ct", "list", "--now", LONG, "--from", DUMP),
        ("gc", "--dry-run", "--now", LONG, "--from", DUMP),
        ("sizing", "--now", LONG, "--from", DUMP),
        ("gc", "--dry-run", "--now", "+60", "--from", DUMP),
        ("ct", "list", "--now", "-60", "--from", DUMP),
        ("ct", "list", "--now", "1_000", "--from", DUMP),
        ("ct", "events", "--count", LONG),
        ("trace", "--live", "--count", LONG),
    ],
    ids=" ".join,
)
def test_numbers_that_nothing_has(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    if words[-3].endswith("60"):
        assert "is an offset" in done.stderr
    else:
        assert "range" in done.stderr or " from 0 to " in done.stderr
