"""The C floors that ctctl's commands are measured against: compiled and run here, in the same run.

from tests.bench.floors import Floors
floors = Floors()                       # compiles once, needs gcc, clang and libbpf-dev
floors.read(pin).seconds                # also count, tally, format, gc_batch, gc_kernel
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLANG = os.environ.get("CLANG", "clang-19")


@dataclass(frozen=True)
class Measured:
    """One run. ``seconds`` is the work alone, ``wall_seconds`` the whole process."""

    what: str
    entries: int
    deleted: int
    seconds: float
    load_seconds: float
    wall_seconds: float
    cpu_seconds: float
    max_rss_kib: int


class Floors:
    """The compiled programs, in a directory of their own."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="ctctl-floor-")
        directory = Path(self._directory.name)
        self._program, self._object = directory / "floor", directory / "floor.bpf.o"
        multiarch = subprocess.run(["gcc", "-print-multiarch"], check=True, capture_output=True, text=True)
        include = [f"-I{ROOT / 'bpf' / 'include'}", f"-I/usr/include/{multiarch.stdout.strip()}"]
        subprocess.run(
            ["gcc", "-O2", "-Wall", "-Wextra", include[0], str(HERE / "floor.c"), "-o", str(self._program), "-lbpf"],
            check=True,
        )
        bpf_flags = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", *include]
        subprocess.run([CLANG, *bpf_flags, "-c", str(HERE / "floor.bpf.c"), "-o", str(self._object)], check=True)

    def read(self, pin: Path) -> Measured:
        """Batch lookups of 4096, thrown away."""
        return self._run("read", str(pin))

    def count(self, pin: Path) -> Measured:
        """for-each in the kernel, count only."""
        return self._run("count", str(pin), str(self._object))

    def tally(self, pin: Path) -> Measured:
        """for-each in the kernel that reads of each entry whether it is expired."""
        return self._run("tally", str(pin), str(self._object))

    def format(self, pin: Path, output: Path = Path(os.devnull)) -> Measured:
        """Batch lookups and the Cilium CLI's lines, by hand-written code."""
        return self._run("format", str(pin), output=output)

    def format_words(self, pin: Path) -> list[str]:
        """The command that ``format`` runs."""
        return [str(self._program), "format", str(pin)]

    def gc_batch(self, pin: Path, now: int) -> Measured:
        """Batch lookups and batch deletes of what is expired at ``now``."""
        return self._run("gc-batch", str(pin), str(now))

    def gc_kernel(self, pin: Path, now: int) -> Measured:
        """for-each in the kernel that deletes what is expired at ``now``."""
        return self._run("gc-kernel", str(pin), str(self._object), str(now))

    def process(self, words: list[str], output: Path = Path(os.devnull)) -> Process:
        """Run any command with stdout to ``output``: the whole process's time and memory.

        Raises CalledProcessError.
        """
        result = Path(self._directory.name) / "result.json"
        with output.open("wb") as stdout:
            done = subprocess.run(
                [str(self._program), "run", str(result), *words],
                check=False,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )
        if done.returncode not in (0, 3):  # 3: the doctor found something
            raise subprocess.CalledProcessError(done.returncode, words, None, done.stderr)
        return Process(**json.loads(result.read_text()), stderr=done.stderr)

    def _run(self, *words: str, output: Path = Path(os.devnull)) -> Measured:
        measured = self.process([str(self._program), *words], output)
        return Measured(
            **json.loads(measured.stderr),
            wall_seconds=measured.wall_seconds,
            cpu_seconds=measured.cpu_seconds,
            max_rss_kib=measured.max_rss_kib,
        )


@dataclass(frozen=True)
class Process:
    """A finished process: wall and CPU time, its own peak memory, what it said on stderr."""

    wall_seconds: float
    max_rss_kib: int
    cpu_seconds: float
    stderr: str


def paired(runs: int, ours: Callable[[], float], floor: Callable[[], float]) -> tuple[float, float]:
    """Medians of ``ours`` and ``floor``, measured turn by turn so that a busy machine slows both alike."""
    pairs = [(ours(), floor()) for _ in range(runs)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)
