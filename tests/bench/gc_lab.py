"""Ten minutes of real traffic through the lab's datapath, with GC back to back on both nodes.

    .venv/bin/python tests/bench/gc_lab.py [--minutes 10] [--late-minutes 1.5]

Client → VIP → the node with the service → Geneve DSR → pod; replies straight back. Timeouts are 4 s.
Connections that stay open ask within their lifetime and must never break; short ones come and go as
fast as the lab can. The batch engine collects one node, the kernel engine the other.

Then, twice, connections that ask just when their entries expire: with the re-check and without. One that
was answered, and is not answered soon after, lost an entry that its packet had refreshed. With --minutes 0
only these two runs are made, and the committed figures of the long one stay.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/gc_lab.json"
CTCTL = [sys.executable, "-m", "ctctl"]
TIMEOUTS = (
    "{regular-tcp: 4s, regular-tcp-syn: 4s, regular-tcp-fin: 2s, regular-any: 4s, "
    "service-tcp: 4s, service-tcp-grace: 2s, service-any: 4s}"
)
NODES = ("node-a", "node-b")
VIP, PORT, OPEN, SHORT = "172.190.0.17", 80, 300, 4


def ctctl(*arguments: str) -> None:
    subprocess.run([*CTCTL, *arguments], check=True, cwd=ROOT, capture_output=True)


def shorten(lab: str, node: str) -> None:
    """Give a lab node short timeouts and load it again."""
    file = Path(f"/run/ctctl/lab-{lab}/{node}.yaml")
    text = file.read_text()
    assert text.count("\ndatapath:\n") == 1
    file.write_text(text.replace("\ndatapath:\n", f"\ndatapath:\n  timeouts: {TIMEOUTS}\n"))
    ctctl("load", "-f", str(file), "--netns", f"ctctl-{lab}-{node}")


def collector(command: list[str], out: Path, stack: ExitStack) -> None:
    """A GC that runs back to back until the stack unwinds; its reports go to ``out``."""
    process = subprocess.Popen(command, stdout=stack.enter_context(out.open("w")), stderr=subprocess.DEVNULL, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def gc_command(lab: str, node: str, engine: str) -> list[str]:
    """What users type to collect without a pause."""
    return [*CTCTL, "gc", "--node", f"{lab}-{node}", "--interval", "1ms", "--engine", engine, "--yes", "-o", "jsonl"]


def collect_forever(directory: Path, *, recheck: bool) -> None:
    """The batch engine back to back, as a process of its own; the command line cannot leave out the re-check."""
    from ctctl.gc.run import GcOptions, run
    from ctctl.tables.sources.open import open_source

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        with open_source(str(directory)) as source:
            report = run(source, GcOptions(recheck=recheck), stop)
        print(json.dumps({"deleted": sum(row.deleted for table in report.tables for row in table.rows)}), flush=True)


def traffic(lab: str, commands: dict[str, list[str]], seconds: float, *late: str) -> dict[str, Any]:
    """The client's figures and what the collectors deleted, by the names of ``commands``."""
    files = {name: Path(f"/run/ctctl/lab-{lab}/gc-{number}.jsonl") for number, name in enumerate(commands)}
    with ExitStack() as stack:
        for name, command in commands.items():
            collector(command, files[name], stack)
        inside = ["ip", "netns", "exec", f"ctctl-{lab}-client"]
        client = [sys.executable, "tests/bench/gc_lab_client.py"]
        what = [VIP, str(PORT), str(seconds), str(OPEN), str(SHORT), *late]
        done = subprocess.run([*inside, *client, *what], check=True, capture_output=True, text=True, cwd=ROOT)
    deleted = {
        name: sum(json.loads(line)["deleted"] for line in path.open() if line.endswith("}\n"))
        for name, path in files.items()
    }
    return {"minutes": seconds / 60, "open": OPEN, **json.loads(done.stdout), "deleted": deleted}


def at_expiry(lab: str, seconds: float, *, recheck: bool) -> dict[str, Any]:
    """Connections that ask when their entries expire, both nodes collected by the batch engine."""
    word = "recheck" if recheck else "no-recheck"
    commands = {
        node: [sys.executable, __file__, "--collect", f"/sys/fs/bpf/ctctl/{lab}-{node}", word] for node in NODES
    }
    return traffic(lab, commands, seconds, "late")


def judge(result: dict[str, Any]) -> None:
    """Only figures that hold what was asked are written down. Raises SystemExit with what does not hold."""
    with_recheck, without = (result["asking at expiry"][name] for name in ("with re-check", "without re-check"))
    asked = {
        "no connection broke": (result["breaks"], result["short_failed"]) == (0, 0),
        "many asked when their entries expired": with_recheck["late_answered"] > 1000,
        "none broke after an answer, with the re-check": with_recheck["broken_after_an_answer"] == 0,
        "some did without it, so that the load shows something": without["broken_after_an_answer"] > 0,
    }
    if failed := [what for what, holds in asked.items() if not holds]:
        raise SystemExit(f"not so: {'; '.join(failed)}; {RESULTS} is as it was")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--late-minutes", type=float, default=1.5)
    arguments.add_argument("--lab", default="gcbench")
    arguments.add_argument("--collect", nargs=2, metavar=("DIR", "recheck|no-recheck"), help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.collect:
        collect_forever(Path(asked.collect[0]), recheck=asked.collect[1] == "recheck")
        return
    lab, late_s = asked.lab, asked.late_minutes * 60
    ctctl("lab", "up", "--name", lab)
    try:
        for node in NODES:
            shorten(lab, node)
        if asked.minutes:
            engines = dict(zip(NODES, ("batch", "kernel"), strict=True))
            commands = {f"{node} {engine}": gc_command(lab, node, engine) for node, engine in engines.items()}
            result = traffic(lab, commands, asked.minutes * 60)
        else:
            result = json.loads(RESULTS.read_text())
        result["asking at expiry"] = {
            "with re-check": at_expiry(lab, late_s, recheck=True),
            "without re-check": at_expiry(lab, late_s, recheck=False),
        }
    finally:
        ctctl("lab", "down", "--name", lab)
    print(json.dumps(result, indent=2))
    judge(result)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
