"""What is done inside each kernel: load everything, the conformance vectors, the kernel's own tests.

    python -m tests.kernels.guest OUT.json [STEP …]

Steps: features, figures, vectors, tests, lab; all of them by default. The outcome is one JSON file;
it is written anew after every step, so that a kernel that hangs says how far it got.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from ctctl.kernel.object import OBJECTS

#: Tests of what differs from kernel to kernel. Left out: long ones, and those of user space alone.
_TESTS = (
    "test_object.py", "test_program.py", "test_map.py", "test_map_types.py", "test_ringbuf.py", "test_attach.py",
    "test_machine.py", "test_loader.py", "test_loader_tunnel.py", "test_loader_update.py", "test_apply_atomic.py",
    "test_gc_engines.py", "test_gc_reuse.py", "test_probe.py", "test_bpf_events.py", "test_bpf_mtu.py",
    "test_bpf_policy.py", "test_simulator.py", "test_without_tcx.py",
)  # fmt: skip
#: Real packets between namespaces, through a geneve device where the kernel has one.
_LAB = ("test_tunnel.py", "test_proof.py")
#: More is a hang, or a machine that does too much else.
_SESSION_S = 1200


def features() -> list[dict[str, Any]]:
    """What ``ctctl features`` says here."""
    from ctctl.kernel.features import probe

    return [{"name": f.name, "available": f.available, "used_for": f.used_for, "detail": f.detail} for f in probe()]


def figures() -> dict[str, Any]:
    """Verified instructions of every program."""
    from tests.kernels.complexity import LIMIT, cases, measured, running

    programs = measured()
    over = [f"{p} {v}: {n}" for p, by in programs.items() for v, n in by.items() if n >= LIMIT]
    there_are = len({(case.object, case.program) for case in cases()})
    return {"kernel": running(), "programs": programs, "there_are": there_are, "failed": over}


def vectors() -> dict[str, Any]:
    """The conformance vectors."""
    from tests.kernels.vectors import run_vectors

    found = run_vectors()
    return {"passed": sum(not lines for lines in found.values()), "failed": {k: v[:3] for k, v in found.items() if v}}


def tests() -> dict[str, Any]:
    """The kernel tests."""
    return _pytest([f"tests/kernel/{name}" for name in _TESTS])


def lab() -> dict[str, Any]:
    """The lab, by geneve devices."""
    return _pytest([f"tests/lab/{name}" for name in _LAB], CTCTL_LAB_TUNNEL="device")


def _pytest(paths: list[str], **environment: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        options = [
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            f"--session-timeout={_SESSION_S}",
            f"--junitxml={report}",
        ]
        command = [sys.executable, "-u", "-m", "pytest", "-q", *options, *paths]
        output = _told(command, os.environ | environment)
        if not report.is_file():
            return {"passed": 0, "failed": {"all": output[-3:]}, "skipped": {}}
        found = _outcome(ET.parse(report))
        if any("session-timeout" in line for line in output):
            found["failed"]["all"] = [f"not through after {_SESSION_S} s: tests are missing"]
        return found


def _told(command: list[str], environment: dict[str, str]) -> list[str]:
    """What a program says, handed on as it says it."""
    lines = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return lines


def _outcome(report: ET.ElementTree) -> dict[str, Any]:
    passed, failed, skipped = 0, {}, Counter[str]()
    for case in report.iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            failed[f"{case.get('classname')}::{case.get('name')}"] = [(bad.get("message") or "")[:300]]
        elif (skip := case.find("skipped")) is not None:
            skipped[skip.get("message") or ""] += 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "skipped": dict(skipped)}


STEPS: dict[str, Callable[[], Any]] = {
    "features": features, "figures": figures, "vectors": vectors, "tests": tests, "lab": lab,
}  # fmt: skip


def _earlier(out: Path) -> dict[str, Any]:
    """What this kernel said before of these very objects: a run may be made in parts."""
    objects = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(OBJECTS.glob("*.bpf.o")))).hexdigest()
    begun = {"release": os.uname().release, "objects": objects}
    before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    return before if begun.items() <= before.items() else begun


def main() -> int:
    """0: nothing failed."""
    out, asked = Path(sys.argv[1]), sys.argv[2:] or list(STEPS)
    result = _earlier(out)
    bad = False
    for name in asked:
        started = time.monotonic()
        try:
            result[name] = STEPS[name]()
            failed = result[name].get("failed") if isinstance(result[name], dict) else None
        except Exception as error:
            traceback.print_exc()
            failed = result[name] = {"failed": {name: [str(error)]}}
        bad |= bool(failed)
        result.setdefault("seconds", {})[name] = round(time.monotonic() - started)
        print(f"{name}: {'FAILED' if failed else 'ok'}, {result['seconds'][name]} s", flush=True)
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
