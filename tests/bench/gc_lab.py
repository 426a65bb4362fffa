"""Ten minutes of real traffic through the lab's datapath, with GC back to back on both nodes.

    .venv/bin/python tests/bench/gc_lab.py [--minutes 10]

Client → VIP → the node with the service → Geneve DSR → pod; replies straight back. Timeouts are 4 s.
Connections that stay open ask within their lifetime and must never break; short ones come and go as
fast as the lab can. The batch engine collects one node, the kernel engine the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests/bench/results/gc_lab.json"
CTCTL = [sys.executable, "-m", "ctctl"]
TIMEOUTS = (
    "{regular-tcp: 4s, regular-tcp-syn: 4s, regular-tcp-fin: 2s, regular-any: 4s, "
    "service-tcp: 4s, service-tcp-grace: 2s, service-any: 4s}"
)
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


def collector(lab: str, node: str, engine: str, stack: ExitStack) -> tuple[subprocess.Popen[str], Path]:
    """A GC that runs back to back, and where its reports go."""
    out = Path(f"/run/ctctl/lab-{lab}/gc-{node}.jsonl")
    command = [*CTCTL, "gc", "--node", f"{lab}-{node}", "--interval", "1ms", "--engine", engine, "--yes", "-o", "jsonl"]
    process = subprocess.Popen(
        command, stdout=stack.enter_context(out.open("w")), stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process, out


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--lab", default="gcbench")
    asked = arguments.parse_args()
    ctctl("lab", "up", "--name", asked.lab)
    try:
        for node in ("node-a", "node-b"):
            shorten(asked.lab, node)
        with ExitStack() as stack:
            reports = {
                f"{node} {engine}": collector(asked.lab, node, engine, stack)[1]
                for node, engine in (("node-a", "batch"), ("node-b", "kernel"))
            }
            inside = ["ip", "netns", "exec", f"ctctl-{asked.lab}-client"]
            client = [sys.executable, "tests/bench/gc_lab_client.py"]
            what = [VIP, str(PORT), str(asked.minutes * 60), str(OPEN), str(SHORT)]
            done = subprocess.run([*inside, *client, *what], check=True, capture_output=True, text=True, cwd=ROOT)
        deleted = {
            name: sum(json.loads(line)["deleted"] for line in path.open() if line.endswith("}\n"))
            for name, path in reports.items()
        }
    finally:
        ctctl("lab", "down", "--name", asked.lab)
    result = {"minutes": asked.minutes, "open": OPEN, **json.loads(done.stdout), "deleted": deleted}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
