"""Completion in real shells, on a pseudo-terminal: what is on the command line after TAB."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from tests.support.needs import need_program
from tests.support.wait import PATIENCE_S

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DUMP = ROOT / "tests/data/samples/cilium-dbg-1.16.4/ct-list-global.txt"
COLUMNS, LINES = 200, 40

#: How each shell is started, quiet, and how it takes the completion.
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        "PS1='> '; bind 'set bell-style none'; source completions/ctctl.bash",
    ),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='> '; unsetopt beep zle_bracketed_paste; unset zle_bracketed_paste; fpath=($PWD/completions $fpath); "
        "autoload -Uz compinit; compinit -D -u",
    ),
    "fish": (
        ["fish", "--no-config", "-i"],
        "function fish_prompt; echo -n '> '; end; function fish_right_prompt; end; "
        "set -g fish_autosuggestion_enabled 0; source completions/ctctl.fish",
    ),
}


class Terminal:
    """A shell on a terminal. ``type`` sends keys, ``until`` waits for what the screen shows."""

    def __init__(self, shell: str, directory: Path) -> None:
        words, self.setup = SHELLS[shell]
        self.number = 0
        self.screen = pyte.Screen(COLUMNS, LINES)
        self.stream = pyte.ByteStream(self.screen)
        self.parent, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {
            "PATH": f"{directory}:{BIN}:/usr/bin:/bin",
            "HOME": str(directory),
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "LOG": str(directory / "log"),
        }
        # A session with this as its controlling terminal: fish does nothing without one.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words], cwd=ROOT, env=environment, stdin=child, stdout=child, stderr=child
        )
        os.close(child)

    def type(self, keys: str) -> None:
        os.write(self.parent, keys.encode())

    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until the screen shows something. Fails with the screen after PATIENCE_S."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := re.search(pattern, self.shown(), re.MULTILINE):
                return found
            if select.select([self.parent], [], [], 0.1)[0]:
                part = os.read(self.parent, 1 << 16)
                self.answer(part)
                self.stream.feed(part)
        pytest.fail(f"never shown: {pattern}\n{self.shown()}")

    def answer(self, part: bytes) -> None:
        """What a terminal answers when it is asked what it is and where its cursor stands."""
        if b"\x1b[c" in part or b"\x1b[0c" in part:
            self.type("\x1b[?1;2c")
        if b"\x1b[6n" in part:
            self.type("\x1b[1;1R")

    def complete(self) -> None:
        """Let the shell take the completion."""
        self.type(self.setup + "\n")
        self.ready()

    def ready(self) -> None:
        """Wait until the shell has done everything that was typed before."""
        self.number += 1
        self.type(f"expr {self.number} + 770000\n")
        self.until(rf"^{self.number + 770000}$")

    def tab(self, line: str) -> str:
        """The command line after TAB behind ``line``, and what is listed below it."""
        # An empty line to type on: what is typed before the shell reads is echoed by the terminal as it is. The
        # number tells this line from the empty one of before.
        self.number += 1
        self.type(f"clear; expr {self.number} + 770000\n")
        self.until(rf"\A\s*{self.number + 770000}\s*>\s*\Z")
        self.type(line + "\t")
        # The shell reads on only when the completion is done: a comment sign shows that it has.
        self.type("#")
        shown = self.until(r"#\s*$|#\n").string
        # Ctrl-U rather than Ctrl-C, with which the terminal would throw away what is typed next.
        self.type("\x15")
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.parent)


@pytest.fixture(scope="module", params=SHELLS)
def terminal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One shell for all tests of it. Its ``ctctl`` (this checkout's) writes what it is asked, each time."""
    shell = str(request.param)
    need_program(shell)
    directory = tmp_path_factory.mktemp(shell)
    wrapper = directory / "ctctl"
    wrapper.write_text(f'#!/bin/sh\necho "$_TYPER_COMPLETE_ARGS" >> "$LOG"\nexec {sys.executable} -m ctctl "$@"\n')
    wrapper.chmod(0o755)
    made = Terminal(shell, directory)
    made.log = directory / "log"  # type: ignore[attr-defined]
    try:
        made.complete()
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("ctctl doc", "ctctl doctor"),
        ("ctctl ct sta", "ctctl ct stats"),
        ("ctctl ct list --state clo", "ctctl ct list --state clos"),
        ("ctctl ct list --direction=sv", "ctctl ct list --direction=svc"),
        ("ctctl ct list 'proto == tcp and rema", "ctctl ct list 'proto == tcp and remaining"),
        ("ctctl ct list 'proto == tcp and state == esta", "ctctl ct list 'proto == tcp and state == established"),
        ('ctctl ct list "proto in (tcp, ud', 'ctctl ct list "proto in (tcp, udp'),
        ("ctctl ct list --fields src,remai", "ctctl ct list --fields src,remaining"),
        ("ctctl ct list --from README", "ctctl ct list --from README.md"),
        ("ctctl ct list --from=READ", "ctctl ct list --from=README.md"),
        ("ctctl ct diff READ", "ctctl ct diff README.md"),
        ("ctctl ct diff --state=clo", "ctctl ct diff --state=clos"),
    ],
)
def test_a_tab_completes(terminal: Terminal, line: str, becomes: str) -> None:
    assert becomes in terminal.tab(line)


def test_an_address_with_colons_completes(terminal: Terminal) -> None:
    shown = terminal.tab(f"ctctl ct list --from {DUMP.relative_to(ROOT)} --ip fd00:10:64::")
    assert "fd00:10:64::" in shown
    assert "fd00:10:64::fd00" not in shown


@pytest.mark.parametrize(
    "line",
    [
        "ctctl ct list --state READ",
        "ctctl ct list --state=READ",
        "ctctl ct diff --limit=READ",
        "ctctl doctor READ",
        "ctctl ct list --limit READ",
        "ctctl versio READ",
    ],
)
def test_no_file_is_offered_where_none_fits(terminal: Terminal, line: str) -> None:
    assert "README.md" not in terminal.tab(line)


@pytest.mark.parametrize("line", ["ctctl ", "ctctl ct list ", "ctctl ct list --state "])
def test_a_word_not_begun_is_asked_for_as_an_empty_one(terminal: Terminal, line: str) -> None:
    log: Path = terminal.log  # type: ignore[attr-defined]
    log.write_text("")
    assert f"> {line}#" in terminal.tab(line)
    assert log.read_text() == f"{line}''\n"


def test_one_process_a_tab(terminal: Terminal) -> None:
    log: Path = terminal.log  # type: ignore[attr-defined]
    log.write_text("")
    terminal.tab("ctctl ct sta")
    assert log.read_text() == "ctctl ct sta\n"
