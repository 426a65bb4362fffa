#!/usr/bin/env python3
"""Every hostile file (tests/support/hostile.py, tests/data/cases/hostile) before every command that reads a source.

    .venv/bin/python tests/bench/hostile.py [--out tests/bench/results/hostile.json] [NAME…]

Prints what takes more than the limits (2 s of CPU, 300 MB), or ends in anything but an answer or one line. Exit
status 1 if there was any.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import hostile
from tests.support.cost import cost_of_program

ROOT = Path(__file__).resolve().parents[2]
CPU_S, MEBIBYTES = 2.0, 300
CASES = ROOT / "tests" / "data" / "cases" / "hostile"
COMMANDS = (
    *("ct list", "ct list -o json", "ct get tcp:10.1.1.2:4>10.0.0.1:80", "ct stats", "ct top", "doctor", "nat list"),
    *("nat stats", "lb list", "ipcache list", "endpoint list", "socknat list", "policy list", "metrics drops"),
    *("status", "trace", "trace --simulate tcp:10.1.1.2:4>10.0.0.1:80", "sizing", "gc --dry-run", "report"),
    *("ct list --names", "ct diff"),
)


@dataclass(slots=True)
class Worst:
    """The most that a command took, and the files that it took it for."""

    runs: int = 0
    cpu_s: float = 0.0
    cpu_file: str = ""
    mebibytes: int = 0
    memory_file: str = ""


def words_of(command: str, path: Path, folder: Path) -> list[str]:
    """The words of a command that reads ``path``."""
    words = [part.replace("tcp:", "tcp ").replace(">", " > ") for part in command.split()]
    if command == "ct diff":
        return [*words, str(path), str(path)]
    if command == "report":
        words += ["--out", str(folder / "page.html")]
    if "--names" in words:
        words += [
            str(path),
            "src == nobody",
            "--from",
            str(ROOT / "tests/data/samples/cilium-dbg-1.16.4/ct-list-global.txt"),
        ]
        return words
    return [*words, "--from", str(path)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="of files; all, unless given")
    parser.add_argument("--command", action="append", help="one of the commands; all, unless given")
    parser.add_argument("--out", type=Path, help="write the worst of each command here, as JSON, after each command")
    args = parser.parse_args()
    made = {**dict(hostile.files()), **{path.name: path.read_bytes for path in CASES.iterdir()}}
    wanted = {name: make for name, make in made.items() if not args.names or name in args.names}
    worst: dict[str, Worst] = {}
    over: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, make in wanted.items():
            (folder / file).write_bytes(make())
        for command in args.command or COMMANDS:
            worst[command] = Worst()
            for file in wanted:
                said = _run(command, file, folder, worst[command])
                if said:
                    over.append(said)
                    print(said, flush=True)
            if args.out:  # after each command: what was run is told also if the run is ended
                told = {command: asdict(one) for command, one in worst.items()}
                document = {"benchmark": "hostile", "files": len(wanted), "over": over, "worst": told}
                args.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{len(over)} over the limits")
    return int(bool(over))


def _run(command: str, file: str, folder: Path, worst: Worst) -> str:
    """Run one command over one file, remember what it took; what is over the limits, or nothing."""
    cost = cost_of_program(*words_of(command, folder / file, folder))
    cpu_s, mebibytes = cost.cpu_s, cost.memory_bytes >> 20
    worst.runs += 1
    if cpu_s > worst.cpu_s:
        worst.cpu_s, worst.cpu_file = round(cpu_s, 2), file
    if mebibytes > worst.mebibytes:
        worst.mebibytes, worst.memory_file = mebibytes, file
    wrong = cost.code not in (0, 1, 2, 3, 5) or "unexpected" in cost.said or "Traceback" in cost.said
    if not wrong and cpu_s <= CPU_S and mebibytes <= MEBIBYTES:
        return ""
    return f"{file}: {command}: {cpu_s:.2f} s, {mebibytes} MiB, exit {cost.code}: {cost.said[:200]!r}"


if __name__ == "__main__":
    sys.exit(main())
