"""The root command: help is instant and lean, errors are one line, generated files are in step."""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ctctl.cli import root_help
from ctctl.cli.main import COMMANDS, app, main
from tests.support.children import CTCTL

ROOT = Path(__file__).resolve().parents[2]


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CTCTL, *args], capture_output=True, text=True, check=False, env={**os.environ, **env})


def median_cpu_seconds(*command: str, runs: int = 7) -> float:
    """What the program costs, which does not wait behind others as its wall time does."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


@pytest.mark.parametrize("args", [["--help"], ["ct", "list", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\nfrom ctctl.cli.main import main\n"
        f"main({args!r})\n"
        "heavy = sorted({'numpy', 'pyroute2', 'rich', 'yaml'} & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_is_the_one_that_typer_lays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    command = typer.main.get_command(app)
    for columns in range(1, 140):
        monkeypatch.setenv("COLUMNS", str(columns))
        with command.make_context("ctctl", [], resilient_parsing=True) as context:
            assert root_help.page(root_help.columns_there()) == context.get_help() + "\n", columns


@pytest.mark.parametrize("columns", [" 120 ", "+70", "1_00", "-5", "x", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_the_terminal_is_as_wide_as_the_library_says(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert root_help.columns_there() == shutil.get_terminal_size().columns


@pytest.mark.parametrize("args", [[], ["ct"]], ids=" ".join)
def test_help_that_nobody_can_be_given_is_one_line(args: list[str]) -> None:
    script = 'exec "$@" >&-'
    closed = subprocess.run(["sh", "-c", script, "sh", *CTCTL, *args], stderr=subprocess.PIPE, text=True, check=False)
    said = "ctctl: standard output is closed: open it, or give a file or /dev/null\n"
    assert (closed.returncode, closed.stderr) == (1, said)
    with Path("/dev/full").open("w") as full:
        failed = subprocess.run([*CTCTL, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (failed.returncode, failed.stderr) == (1, "ctctl: cannot write: No space left on device\n")


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]], ids=" ".join)
def test_the_page_comes_without_typer(args: list[str]) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "ctctl", *args]
    eighty = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=eighty)
    assert "ctctl.cli.root_help" in done.stderr
    assert "typer" not in done.stderr
    assert done.stdout == root_help.page(80)
    with Path("/dev/full").open("w") as full:
        failed = subprocess.run([*CTCTL, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (failed.returncode, failed.stderr) == (1, "ctctl: cannot write: No space left on device\n")


@pytest.mark.parametrize(("args", "floors"), [(["--help"], 1), (["ct", "list", "--help"], 2)])
def test_help_is_instant(args: list[str], floors: int) -> None:
    # A ratio against the same interpreter in the same run, with the median: the floor moves with the machine.
    for _ in range(3):
        floor = median_cpu_seconds(sys.executable, "-c", "import typer")
        ours = median_cpu_seconds(*CTCTL, *args)
        if ours < floors * floor:
            return
    pytest.fail(f"{ours:.3f} s against {floor:.3f} s for `import typer`")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: ctctl {name}")


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every command line that does something: commands of groups, and groups that run by themselves."""
    names = command.list_commands(None) if hasattr(command, "list_commands") else []
    if not names or getattr(command, "invoke_without_command", False):
        yield path
    for name in names:
        yield from _commands(command.get_command(None, name), (*path, name))


@pytest.mark.parametrize("path", list(_commands(typer.main.get_command(app), ())), ids=" ".join)
def test_help_has_an_example_and_only_our_options(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^ .*\bctctl {path[0]}\b", shown, re.MULTILINE), "no example"
    assert "--install-completion" not in shown


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*CTCTL, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "ctctl: cannot write: No space left on device\n")


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["cr"], 2, "no command 'cr'"),
        (["versoin"], 2, "did you mean 'version'"),
        (["ct", "list", "--no-such-option"], 2, "see 'ctctl ct list --help'"),
        (["completion", "tcsh"], 2, "completion --help"),
    ],
)
def test_usage_errors_are_one_line(args: list[str], status: int, says: str) -> None:
    done = run(*args)
    assert done.returncode == status
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize("words", [(), ("ct",), ("lab",), ("nat",), ("completion",)])
def test_a_group_by_itself_prints_its_help(words: tuple[str, ...]) -> None:
    done, asked = run(*words), run(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == asked.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("gc", "--from", "a", "--from", "b"),
        ("sizing", "--from", "a", "--from", "b"),
        ("ct", "list", "--limit", "3", "--limit", "4"),
        ("ct", "list", "--watch", "--sort", "src", "--sort", "dst"),
        ("trace", "--count", "1", "--count", "2"),
        ("lab", "up", "--name", "a", "--name", "b"),
    ],
)
def test_an_option_given_twice_is_refused_where_one_counts(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is given twice" in done.stderr


def test_broken_pipe_is_quiet() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(CTCTL)} completion bash | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_ctrl_c_while_it_starts_is_quiet() -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt)\n"
        "from ctctl.cli.start import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, "version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize(("shell", "file"), [("bash", "ctctl.bash"), ("zsh", "_ctctl"), ("fish", "ctctl.fish")])
def test_completions_are_in_step(shell: str, file: str) -> None:
    assert run("completion", shell).stdout == (ROOT / "completions" / file).read_text(), "run make completions"


@pytest.mark.parametrize(
    ("words", "want"),
    [("ctctl lo", {"load"}), ("ctctl completion ", {"bash", "zsh", "fish"}), ("ctctl ct li", {"list"})],
)
def test_completion_answers(words: str, want: set[str]) -> None:
    done = run(_CTCTL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert want <= set(done.stdout.split())
    assert done.stderr == ""


def test_completion_is_silent_on_nonsense() -> None:
    done = run(_CTCTL_COMPLETE="complete_bash", COMP_WORDS="ctctl nope ", COMP_CWORD="2")
    assert (done.returncode, done.stderr) == (0, "")


def test_main_returns_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("ctctl ")
