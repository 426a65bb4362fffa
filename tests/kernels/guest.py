"""What is done inside each kernel: load everything, the conformance vectors, the kernel's own tests, the lab.

    python -m tests.kernels.guest RECORD [STEP[=TEXT] …]

Steps: features, figures, vectors, accelerated, tests, lab, xdp; all of them by default. TEXT: only what has it in its
name; of steps that are tests files, or else tests. What is in the record (``record``), of these objects, and did not
fail is not done again: a run may be made in parts, and one that was stopped goes on where it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.kernels.record import DATAPATH, Record, read

#: The kernel tests that a guest can run, what differs most from kernel to kernel and what an operator needs first.
TESTS = tuple(
    f"tests/{name}.py"
    for name in (
        "kernel/test_loader", "kernel/test_loader_tunnel", "kernel/test_loader_update", "kernel/test_loader_v6",
        "kernel/test_torn_away",
        "kernel/test_xdp", "kernel/test_xdp_tunnel", "kernel/test_tunnel_errors",
        "kernel/test_without_tcx", "kernel/test_attach", "kernel/test_map", "kernel/test_map_types",
        "kernel/test_gc_programs", "kernel/test_gc_engines", "kernel/test_gc_reuse", "kernel/test_gc_refused",
        "cli/test_writer",
        "kernel/test_bpf_events", "kernel/test_simulator", "kernel/test_bpf_mtu", "kernel/test_bpf_policy",
        "kernel/test_bpf_snat", "kernel/test_object", "kernel/test_program", "kernel/test_ringbuf",
        "kernel/test_machine", "kernel/test_apply_atomic", "kernel/test_socket_lb", "kernel/test_lru_room",
        "kernel/test_ct_change", "kernel/test_daemonset", "kernel/test_ringshared",
        "kernel/test_ct_live", "kernel/test_gc_keep_running", "kernel/test_bpf_translation", "kernel/test_bpf_drops",
        "kernel/test_bpf_corners", "kernel/test_bpf_maglev", "cli/test_journal", "kernel/test_probe",
        "kernel/test_probe_truth", "kernel/test_probe_others",
    )
)  # fmt: skip
_TRACES = "traces of the same programs on the same tables: what a kernel makes of those is what the vectors hold"
_SAID = "what is said of bytes, the same bytes on every kernel"
_LONG = "hundreds of loads or starts of a program: hours in an emulator"
#: The other files of tests/kernel, and why they are not for a guest.
APART = {
    f"tests/kernel/test_{name}.py": reason
    for names, reason in (
        (
            "agreement examples replay scenario sentences simulate simulation_sentences trace_auto trace_sentences"
            " typed_names what_if",
            _TRACES,
        ),
        ("captures_said cilium_nodes doctor metrics_serve versions_between", _SAID),
        ("bpf_fuzz gc_safety loader_faults predict_kernel", _LONG),
        ("complexity", "the verifier's figures are a step of their own"),
        ("floors", "needs a C compiler, which a guest has not"),
        ("leak_check other_user", "what the tests themselves rely on, of user space alone"),
    )
    for name in names.split()
}
#: Real packets between namespaces, through a geneve device where the kernel has one.
LAB = tuple(f"tests/lab/{name}.py" for name in ("test_tunnel", "test_proof", "test_stories", "test_modes", "test_load"))
#: What a node does in XDP, in a lab whose tunnels programs make, since XDP sends into no geneve device.
XDP = ("tests/lab/test_xdp.py",)


def features(record: Record, _text: str) -> None:
    """What ``ctctl features`` says here."""
    from ctctl.kernel.features import probe

    for feature in probe():
        record.add("features", feature.name, **{k: v for k, v in asdict(feature).items() if k != "name"})


def figures(record: Record, text: str) -> None:
    """Verified instructions of every program; one that this kernel does not load has none."""
    from ctctl.errors import KernelError, VerifierError
    from tests.kernels.complexity import LIMIT, cases

    done = record.said("figures")
    for case in cases((text,)):
        program = f"{case.object}-{case.program}"
        said: dict[str, Any]
        if f"{program} {case.variant}" in done:
            continue
        try:
            figure = case.measure()
        except VerifierError as error:
            said = {"program": program, "failed": [str(error)]}
        except KernelError as error:
            said = {"program": program, "error": str(error)}
        else:
            said = {"program": program, "variant": case.variant, "figure": figure}
            said |= {"failed": [f"{figure:,} instructions"]} if figure >= LIMIT else {}
        record.add("figures", f"{program} {case.variant}", [case.object], **said)


def vectors(record: Record, text: str) -> None:
    """The conformance vectors."""
    _vectors(record, "vectors", text)


def accelerated(record: Record, text: str) -> None:
    """The same at a device that is accelerated."""
    _vectors(record, "accelerated", text, xdp=True)


def _vectors(record: Record, step: str, text: str, xdp: bool = False) -> None:
    from tests.kernels.vectors import VECTORS, left_out, name_of, run_vectors

    done = record.said(step)
    left = [vector for vector in VECTORS if text in name_of(vector) and name_of(vector) not in done]
    without = left_out(left)
    for name, reason in without.items():
        record.add(step, name, DATAPATH, skipped=reason)
    for name, lines in run_vectors([vector for vector in left if name_of(vector) not in without], xdp):
        record.add(step, name, DATAPATH, **({"failed": lines[:3]} if lines else {}))


def tests(record: Record, text: str) -> None:
    """The kernel tests."""
    _pytest(record, "tests", TESTS, text)


def lab(record: Record, text: str) -> None:
    """The lab, by geneve devices."""
    _pytest(record, "lab", LAB, text, CTCTL_LAB_TUNNEL="device")


def xdp(record: Record, text: str) -> None:
    """Nodes that forward in XDP."""
    _pytest(record, "xdp", XDP, text)


def chosen(files: Sequence[str], text: str) -> tuple[list[str], list[str]]:
    """The files named so; or else all of them, and words for pytest that choose tests named so."""
    paths = [path for path in files if text in path]
    return (paths, []) if paths else (list(files), ["-k", text])


def _pytest(record: Record, step: str, files: Sequence[str], text: str, **environment: str) -> None:
    """Every other file in a run of its own, beside the first: one alone leaves a second processor idle."""
    paths, named = chosen(files, text)
    command = [sys.executable, "-u", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.kernels.recorder"]
    command += ["-m", "not slow", *named]
    environment |= {"CTCTL_RECORD": str(record.path), "CTCTL_RECORD_STEP": step}
    shares = [share for first in range(os.cpu_count() or 1) if (share := paths[first :: os.cpu_count() or 1])]
    runs = [subprocess.Popen([*command, *share], env=os.environ | environment) for share in shares]
    ended = {run.wait() for run in runs}
    # 5: everything was done before.
    if ended - {0, 1, 5}:
        raise RuntimeError(f"pytest ended with {max(ended)}")


STEPS: dict[str, Callable[[Record, str], None]] = {
    "features": features, "figures": figures, "vectors": vectors, "accelerated": accelerated, "tests": tests,
    "lab": lab, "xdp": xdp,
}  # fmt: skip


def main() -> int:
    """0: nothing failed."""
    record, bad = Record(Path(sys.argv[1])), False
    record.begin()
    for asked in sys.argv[2:] or list(STEPS):
        name, _, text = asked.partition("=")
        started = time.monotonic()
        try:
            STEPS[name](record, text)
            failed = [each for each, said in read(record.path)[1].get(name, {}).items() if said.get("failed")]
        except Exception as error:
            traceback.print_exc()
            failed = [str(error)]
        bad |= bool(failed)
        told = f"FAILED: {', '.join(failed)}" if failed else "ok"
        print(f"{name}: {told}, {time.monotonic() - started:.0f} s", flush=True)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
