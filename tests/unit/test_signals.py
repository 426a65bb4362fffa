"""The test run and ctctl themselves where the parent ignores signals: a shell's background job, nohup, some CI."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

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
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
