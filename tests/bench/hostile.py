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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import hostile
from tests.support.cost import cost_of

ROOT = Path(__file__).resolve().parents[2]
CPU_S, MEBIBYTES = 2.0, 300
CASES = ROOT / "tests" / "data" / "cases" / "hostile"
COMMANDS = (
    *("ct list", "ct list -o json", "ct get tcp:10.1.1.2:4>10.0.0.1:80", "ct stats", "ct top", "doctor", "nat list"),
    *("nat stats", "lb list", "ipcache list", "endpoint list", "socknat list", "policy list", "metrics drops"),
    *("status", "trace", "trace --simulate tcp:10.1.1.2:4>10.0.0.1:80", "sizing", "gc --dry-run", "report"),
    *("ct list --names", "ct diff"),
)


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
    parser.add_argument("--out", type=Path, help="write the worst of each command here, as JSON")
    args = parser.parse_args()
    made = {**dict(hostile.files()), **{path.name: path.read_bytes for path in CASES.iterdir()}}
    worst: dict[str, dict[str, object]] = {}
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, make in made.items():
            if args.names and file not in args.names:
                continue
            path = folder / file
            path.write_bytes(make())
            for command in args.command or COMMANDS:
                cost = cost_of(*words_of(command, path, folder))
                cpu_s, mebibytes, code, said = cost.cpu_s, cost.memory_bytes >> 20, cost.code, cost.said
                seen = worst.setdefault(command, {"cpu_s": 0.0, "mebibytes": 0, "runs": 0})
                seen["runs"] = int(str(seen["runs"])) + 1
                if cpu_s > float(str(seen["cpu_s"])):
                    seen.update(cpu_s=round(cpu_s, 2), cpu_file=file)
                if mebibytes > int(str(seen["mebibytes"])):
                    seen.update(mebibytes=mebibytes, memory_file=file)
                wrong = code not in (0, 1, 2, 3, 5) or "unexpected" in said or "Traceback" in said
                if wrong or cpu_s > CPU_S or mebibytes > MEBIBYTES:
                    bad += 1
                    print(f"{file}: {command}: {cpu_s:.2f} s, {mebibytes} MiB, exit {code}: {said[:200]!r}", flush=True)
            path.unlink()
    if args.out:
        args.out.write_text(
            json.dumps({"benchmark": "hostile", "files": len(made), "over": bad, "worst": worst}, indent=2) + "\n"
        )
    print(f"{bad} over the limits")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
