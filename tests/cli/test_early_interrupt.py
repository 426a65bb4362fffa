"""Ctrl-C before there is a command: while Python looks for packages, and while it imports them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What a module does that is in the place of another: Ctrl-C comes while it is imported.
PRESSED = f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\nfor _ in range(1000): pass\n"
#: Modules by the moment at which they are imported: the first of ours needs the one, what is typed here the other.
MODULES = ("threading", "typer")


def stand_ins(folder: Path, name: str) -> Path:
    """A folder with a module of that name, before whatever has it really."""
    place = folder / f"in-place-of-{name}"
    place.mkdir()
    (place / f"{name}.py").write_text(PRESSED)
    return place


def as_a_module(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (stand_ins(folder, name), ROOT)))
    return _run([sys.executable, "-m", "ctctl", "ct", "list", "--help"], {**os.environ, "PYTHONPATH": path})


def as_installed(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """``packaging/ctctl`` in an environment made by hand, which finds the stand-in before the library of that name."""
    place = stand_ins(folder, name)
    return _run(
        [_installed(folder, f"import sys; sys.path.insert(0, {str(place)!r})"), "ct", "list", "--help"], os.environ
    )


def while_packages_are_looked_for(folder: Path, _name: str) -> subprocess.CompletedProcess[str]:
    """What a .pth file does is done by Python's ``site``, before there is any module of ours."""
    pressed = "; ".join(PRESSED.splitlines()[:2]) + "; [None for _ in range(1000)]"
    return _run([_installed(folder, pressed), "ct", "list", "--help"], os.environ)


def _installed(folder: Path, line: str) -> str:
    programs, python = folder / "bin", Path(sys.executable).resolve()
    programs.mkdir()
    (programs / "python3").symlink_to(python)
    shutil.copy(ROOT / "packaging/ctctl", programs / "ctctl")
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "a.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n{line}\n")
    return str(programs / "ctctl")


def _run(command: list[str], environment: dict[str, str] | os._Environ[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


WAYS: list[tuple[Callable[[Path, str], subprocess.CompletedProcess[str]], str]] = [
    *((way, name) for way in (as_a_module, as_installed) for name in MODULES),
    (while_packages_are_looked_for, ""),
]


@pytest.mark.parametrize(("way", "name"), WAYS, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_it_ends_without_a_word(
    way: Callable[[Path, str], subprocess.CompletedProcess[str]], name: str, tmp_path: Path
) -> None:
    done = way(tmp_path, name)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_that_environment_runs_the_command(tmp_path: Path) -> None:
    """And where nobody presses anything, all of it is there, whatever it is called by."""
    program = _installed(tmp_path, "import sys")
    (tmp_path / "linked").symlink_to(program)
    for name in (program, str(tmp_path / "linked")):
        done = _run([name, "version"], os.environ)
        assert done.stdout.startswith("ctctl "), done.stderr
        assert done.returncode == 0


def test_what_the_parent_ignores_is_not_heard(tmp_path: Path) -> None:
    """A background job of a script goes on when the script is interrupted."""
    place = stand_ins(tmp_path, "textwrap")
    with (place / "textwrap.py").open("a") as stream:
        stream.write(f"exec(open({textwrap.__file__!r}).read())\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (place, ROOT)))}
    command = [sys.executable, "-m", "ctctl", "--help"]
    done = _run(["env", "--ignore-signal=INT", *command], environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ctctl ")
    assert _run(command, environment).returncode == 130
