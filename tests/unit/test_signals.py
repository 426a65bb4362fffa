"""The test run and ctctl themselves where the parent ignores signals: a shell's background job, nohup, some CI."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.children import started, wait_for_line
from tests.support.wait import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]

#: env(1) of coreutils starts a program as such a parent does.
DEAF = ("env", "--ignore-signal=INT,HUP,QUIT,TERM,CHLD,PIPE", "--block-signal=INT,TERM")

#: The C library's own signals, 32 and 33, which no program can set.
LIBC = 1 << 31 | 1 << 32

#: Does what the run does at its start; then a program it starts says what it got (proc(5)), and a hang-up comes.
RUN = """
import os, signal, subprocess, sys
from tests.support.signals import as_in_a_fresh_shell
as_in_a_fresh_shell()
told = subprocess.run(["grep", "^Sig[IB]", "/proc/self/status"], capture_output=True, text=True, check=True)
os.kill(os.getpid(), signal.SIGHUP)
print(told.stdout + "alive")
"""


def test_programs_that_tests_start_have_every_signal_though_the_parent_ignored_them() -> None:
    done = subprocess.run([*DEAF, sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, check=False)
    (block, blocked, ignore, ignored, alive) = done.stdout.split()
    assert (block, ignore, alive) == ("SigBlk:", "SigIgn:", "alive"), done.stderr
    assert int(blocked, 16) & ~LIBC == 0
    assert int(ignored, 16) & ~LIBC == 0


def test_this_run_has_them_too() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert callable(signal.getsignal(number))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


#: A run of one test, that waits; what it made is removed when the run is told to end, and again while it removes.
CLEANING = """
import os, signal
import pytest

@pytest.fixture(scope="session")
def made(tmp_path_factory):
    yield
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    print("removed", flush=True)

def test_one(made):
    print("made", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        if {taken}:
            return
        raise
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

def test_two(made):
    print("went on", flush=True)
"""


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_end_removes_what_it_made(tmp_path: Path, number: signal.Signals, taken: bool) -> None:
    """Told once or several times, also where a test takes the interrupt for its own."""
    (tmp_path / "test_x.py").write_text(CLEANING.format(taken=taken))
    words = ("-q", "-s", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--confcutdir", ROOT)
    # A run of a folder elsewhere, with this one's conftest: as a plugin.
    with started(sys.executable, "-m", "pytest", *words, "-p", "tests.conftest", tmp_path, cwd=ROOT) as run:
        wait_for_line(run, run.stdout, "made")
        run.send_signal(number)
        out, _ = run.communicate(timeout=PATIENCE_S)
    assert "removed" in out
    assert "went on" not in out
    assert run.returncode == pytest.ExitCode.INTERRUPTED
