#!/usr/bin/env python3
"""Every hostile file (tests/support/hostile.py, tests/data/cases/hostile) before every command that reads a file.

    .venv/bin/python tests/bench/hostile.py [--cases FOLDER] [--jobs N] [--out tests/bench/results/hostile.json] [NAME…]

Prints what takes more than the limits (2 s of CPU, 300 MB), or ends in anything but an answer or one line. Exit
status 1 if there was any. What was run is remembered in ``build/hostile.jsonl``: a run that was ended goes on there
(``--anew``: it does not). The files that were dearest for the first command come first for all others.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
LOG = ROOT / "build" / "hostile.jsonl"
MADE = ROOT / "build" / "hostile"
CPU_S, MEBIBYTES = 2.0, 300
#: What nothing may take: a run ends there.
_END_S = 60
CASES = ROOT / "tests" / "data" / "cases" / "hostile"
_LISTING = ROOT / "tests" / "data" / "samples" / "cilium-dbg-1.16.4" / "ct-list-global.txt"
_NODE = ROOT / "examples" / "pod-to-pod.yaml"
_FLOW = "tcp 10.1.1.2:4 > 10.0.0.1:80"
#: Commands that read what --from names; the first also says which files are dear.
_SOURCE = (
    *("ct list", "ct list -o json", "ct list -o cilium", "ct stats", "ct top", f"ct get '{_FLOW}'", "nat list"),
    *("nat stats", "lb list", "lb list --frontends", "lb list --backends", "lb list --revnat", "lb list --maglev"),
    *("lb list --source-ranges", "ipcache list", "endpoint list", "tunnel list", "socknat list", "policy list"),
    *(f"policy get '{_FLOW}'", "metrics drops", "status", "doctor", "trace", "sizing", "gc simulate", "gc --dry-run"),
    *("gc --dry-run --explain", "gc --dry-run --orphans", "report --out {out}.html", "fleet collect {out}"),
    *("ct export {out}.ctsnap", "ct export {out}.jsonl", "ct sql 'SELECT count(*) FROM ct'"),
)
#: Commands that are given the file as something else.
_OTHER = (
    *("ct diff {file} {file}", "ct diff {file} {listing}", "ct list --names {file} 'src == nobody' --from {listing}"),
    *("trace --names {file} --from {listing}", f"trace --simulate '{_FLOW}' -f {{file}}", "trace --scenario {file}"),
    *("trace --pcap {file} -f {node}", "sizing --pcap {file}", "sizing {file}", "gc simulate {file}"),
    *("load -f {file} --dry-run", "gc undo {file} --dry-run --from {listing}"),
)
COMMANDS = (*(f"{command} --from {{file}}" for command in _SOURCE), *_OTHER)


@dataclass(frozen=True, slots=True)
class Run:
    """One command over one file. ``wrong``: it ended in neither an answer nor one line, or says "unexpected"."""

    command: str
    file: str
    cpu_s: float
    mebibytes: int
    code: int
    wrong: str = ""

    @property
    def over(self) -> bool:
        return bool(self.wrong) or self.cpu_s > CPU_S or self.mebibytes > MEBIBYTES


def words_of(command: str, path: Path, out: Path) -> list[str]:
    """The words of a command of ``COMMANDS`` for one file."""
    given = {"{file}": path, "{out}": out, "{listing}": _LISTING, "{node}": _NODE}
    found: list[str] = []
    for number, part in enumerate(command.split("'")):
        found += [part] if number % 2 else part.split()
    for name, value in given.items():
        found = [word.replace(name, str(value)) for word in found]
    return found


def run(command: str, path: Path, out: Path) -> Run:
    """One process to its end; what it prints is thrown away.

    A process begins with the peak memory of the one that starts it: this one stays small.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctctl", *words_of(command, path, out)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (_END_S, _END_S))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read(1 << 20).decode(errors="replace")
    wrong = code not in (0, 1, 2, 3, 5) or "unexpected" in text or "Traceback" in text
    cpu_s = round(used.ru_utime + used.ru_stime, 3)
    return Run(command, path.name, cpu_s, used.ru_maxrss >> 10, code, text[-300:] or "silent" if wrong else "")


def forked(command: str, path: Path, out: Path) -> Run:
    """The same by a fork of a program that has started, which takes nearly all commands a third of the time.

    Its CPU is what the command takes beyond its start; what takes half of the limit so is run in a process of its own.
    """
    from tests.support import ready

    done = ready.run(words_of(command, path, out))
    if done.cpu_s > CPU_S / 2 or done.memory_bytes >> 20 > MEBIBYTES:
        return run(command, path, out)
    wrong = done.returncode not in (0, 1, 2, 3, 5) or "unexpected" in done.stderr or "Traceback" in done.stderr
    said = done.stderr[-300:] or "silent"
    return Run(
        command, path.name, round(done.cpu_s, 3), done.memory_bytes >> 20, done.returncode, said if wrong else ""
    )


def _make(folder: Path) -> None:
    """All files that are made by rule, in a process of its own: some take much memory to make."""
    from tests.support import hostile

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in hostile.files():
        if not (folder / name).exists():
            (folder / "part").write_bytes(make())
            (folder / "part").rename(folder / name)


def _files(more: list[Path], names: list[str]) -> list[Path]:
    subprocess.run([sys.executable, __file__, "--make", MADE], check=True)
    found = {path.name: path for place in (MADE, *more) for path in sorted(place.iterdir())}
    return [path for name, path in found.items() if not names or name in names]


def _remembered(commands: tuple[str, ...], files: list[Path]) -> list[Run]:
    if not LOG.exists():
        return []
    names = {path.name for path in files}
    runs = {(one.command, one.file): one for one in (Run(**json.loads(line)) for line in LOG.open())}
    return [one for one in runs.values() if one.command in commands and one.file in names]


def _rest(
    commands: tuple[str, ...], files: list[Path], done: list[Run], go: Callable[[str, Path], Run], jobs: int
) -> Iterator[Run]:
    """What was not run yet: the first command over all files, then the others over the dearest of those first."""
    known = {(one.command, one.file): one.cpu_s for one in done}
    with ThreadPoolExecutor(jobs) as pool:
        first = [path for path in files if (commands[0], path.name) not in known]
        for one in pool.map(lambda path: go(commands[0], path), first):
            known[one.command, one.file] = one.cpu_s
            yield one
        dear = sorted(files, key=lambda path: -known[commands[0], path.name])
        others = [(command, path) for path in dear for command in commands if (command, path.name) not in known]
        yield from pool.map(lambda pair: go(*pair), others)


def _document(runs: list[Run], commands: tuple[str, ...], files: list[Path], how: str) -> dict[str, Any]:
    """The worst of each command, and the dearest files."""

    def worst(some: list[Run], other: str) -> dict[str, Any]:
        cpu, memory = max(some, key=lambda one: one.cpu_s), max(some, key=lambda one: one.mebibytes)
        told = {"runs": len(some), "cpu_s": round(cpu.cpu_s, 2), f"cpu_{other}": getattr(cpu, other)}
        return told | {"mebibytes": memory.mebibytes, f"memory_{other}": getattr(memory, other)}

    by_command = {name: [one for one in runs if one.command == name] for name in commands}
    by_file = {path.name: [one for one in runs if one.file == path.name] for path in files}
    of_files = {name: worst(some, "command") for name, some in by_file.items() if some}
    dearest = sorted(of_files, key=lambda name: -of_files[name]["cpu_s"])[:25]
    return {
        "benchmark": "hostile",
        "date": time.strftime("%Y-%m-%d"),
        "how": how,
        "limits": {"cpu_s": CPU_S, "mebibytes": MEBIBYTES},
        "files": len(files),
        "commands": len(commands),
        "runs": len(runs),
        "not_run": len(files) * len(commands) - len(runs),
        "over": [asdict(one) for one in runs if one.over],
        "commands_worst": {name: worst(some, "file") for name, some in by_command.items() if some},
        "files_worst": {name: of_files[name] for name in dearest},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="of files; all, unless given")
    parser.add_argument("--command", action="append", help="one of the commands; all, unless given")
    parser.add_argument("--cases", type=Path, action="append", default=[CASES], help="another folder of such files")
    parser.add_argument("--jobs", type=int, default=1, help="so many at once")
    parser.add_argument("--forked", action="store_true", help="run what is not dear as forks of one program")
    parser.add_argument("--anew", action="store_true", help="forget what was run before")
    parser.add_argument("--how", default="one process for each run, by its own rusage", help="a word for the result")
    parser.add_argument(
        "--out", type=Path, help="write the worst of each command and file here, as JSON, and beside it for people"
    )
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        _make(args.make)
        return 0
    LOG.parent.mkdir(exist_ok=True)
    # As what is installed is: a start of code that is not compiled takes thrice as long.
    compileall.compile_dir(ROOT / "ctctl", quiet=1)
    if args.anew:
        LOG.unlink(missing_ok=True)
        shutil.rmtree(MADE, ignore_errors=True)
    commands = tuple(args.command or COMMANDS)
    with tempfile.TemporaryDirectory(prefix="ctctl-hostile-") as name, LOG.open("a") as log:
        outs, lock = Path(name), threading.Lock()
        files = _files(args.cases, args.names)

        def go(command: str, path: Path) -> Run:
            with tempfile.TemporaryDirectory(dir=outs) as out:
                one = (forked if args.forked else run)(command, path, Path(out) / "x")
            with lock:
                log.write(json.dumps(asdict(one)) + "\n")
                log.flush()
            return one

        runs = _remembered(commands, files)
        for one in _rest(commands, files, runs, go, args.jobs):
            runs.append(one)
            if one.over:
                print(one, flush=True)
            if args.out and len(runs) % 50 == 0:  # what was run is told also if the run is ended
                _write(args.out, _document(runs, commands, files, args.how))
        if args.out:
            _write(args.out, _document(runs, commands, files, args.how))
    over = sum(one.over for one in runs)
    print(f"{len(runs)} runs, {over} over the limits")
    return int(bool(over))


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n")
    path.with_suffix(".md").write_text(_page(document))


def _page(document: dict[str, Any]) -> str:
    """The worst of each command, for people."""
    limits, over = document["limits"], document["over"]
    lines = [
        f"# Hostile files: {document['files']} before {document['commands']} commands, the worst of each",
        "",
        f"{document['runs']} runs, {document['not_run']} not run, {len(over)} over {limits['cpu_s']:g} s of CPU or "
        f"{limits['mebibytes']} MiB or ended in anything but an answer or one line.",
        f"How: {document['how']}.",
        "",
        "| command | CPU, s | of | MiB | of |",
        "|---|---|---|---|---|",
    ]
    for command, worst in document["commands_worst"].items():
        typed = command.replace("|", "\\|")
        lines.append(
            f"| `{typed}` | {worst['cpu_s']} | {worst['cpu_file']} | {worst['mebibytes']} | {worst['memory_file']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
