"""BPF objects and frames for tests."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.needs import need_program

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "tests" / "data" / "bpf"
CLANG = os.environ.get("CLANG", "clang-19")

#: An Ethernet frame with an IPv4 header: the least a test run takes.
FRAME = bytes(12) + b"\x08\x00" + b"\x45" + bytes(45)


@functools.cache
def _build_dir() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ctctl-test-bpf-")


@functools.cache
def multiarch() -> str:
    """The directory below /usr/include that holds asm/types.h."""
    done = subprocess.run(["gcc", "-print-multiarch"], check=False, capture_output=True, text=True)
    return done.stdout.strip() or f"{os.uname().machine}-linux-gnu"


@functools.cache
def _compile(name: str, text: str) -> Path:
    # In an emulator the compiler takes long: objects made before may be there.
    directory = Path(os.environ.get("CTCTL_TEST_OBJECTS") or _build_dir().name)
    source, target = directory / name, directory / f"{Path(name).stem}.o"
    if target.exists() and source.read_text() == text:
        return target
    need_program(CLANG)
    source.write_text(text)
    include = [f"-I{ROOT / 'bpf' / 'include'}", f"-I{ROOT / 'bpf' / 'lib'}", f"-I/usr/include/{multiarch()}"]
    done = subprocess.run(
        [CLANG, "-target", "bpf", "-mcpu=v3", "-O2", "-g", *include, "-c", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def compile_source(name: str, text: str) -> Path:
    """Compile C text to a BPF object, once a run."""
    return _compile(name, text)


def compile_file(name: str) -> Path:
    """Compile tests/data/bpf/NAME to a BPF object, once a run."""
    return _compile(name, (SOURCES / name).read_text())
