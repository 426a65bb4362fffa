"""How many instructions the verifier goes through for each of our programs, by kernel.

    python -m tests.kernels.complexity [TEXT …]  # print the running kernel's figures, of programs named so
    python -m tests.kernels.complexity --write   # and commit them: tests/kernels/figures/MAJOR.MINOR.json

The kernel refuses a program at a million; ours stay under half of it on every kernel, so that a change
is not what first meets the limit. Read-only data is known to the verifier: each program is measured as
compiled and with everything on; a hook's with everything on in each way that requests get to a backend on
another node, each encapsulated in BPF, by a geneve device, and in a simulation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctctl.btf import Kind, read_object
from ctctl.errors import KernelError, VerifierError
from ctctl.kernel import trial
from ctctl.kernel.object import OBJECTS, BpfObject
from tests.kernels.record import ALL

LIMIT = 500_000
FIGURES = Path(__file__).parent / "figures"
#: Verifiers and our own programs change: the committed figure tells a change of kind, not of percent.
SAME_ORDER = 3
#: Below this a factor says nothing.
SMALL = 20_000

_DATAPATH = ("lxc", "netdev", "overlay", "xdp")
#: How a request gets to a backend on another node: ``enum lb_mode``, and whether DSR is told by an IP option.
_DISPATCH = {
    "dsr": {"cfg_lb_mode": 0, "cfg_dsr_option": 0},
    "dsr-option": {"cfg_lb_mode": 0, "cfg_dsr_option": 1},
    "snat": {"cfg_lb_mode": 1, "cfg_dsr_option": 0},
    "hybrid": {"cfg_lb_mode": 2, "cfg_dsr_option": 0},
    "hybrid-option": {"cfg_lb_mode": 2, "cfg_dsr_option": 1},
}
#: By whom the tunnel's headers are made and read.
_TUNNEL = {"": {}, "device": {"cfg_overlay_device": 1}, "simulated": {"cfg_sim": 1}}
#: A hook's configurations by name.
_HOOK_VARIANTS = {
    " ".join(filter(None, (dispatch, tunnel))): mode | way
    for dispatch, mode in _DISPATCH.items()
    for tunnel, way in _TUNNEL.items()
}
#: Networks that are not masqueraded to: as many as there can be.
_COUNTS = {"cfg_native_count": 4}


#: Settings that turn code off, or leave the kernel: on in none unless asked for.
_NOT_EVERYTHING = frozenset({"cfg_sim", "cfg_overlay_device", "cfg_gc_dry_run"})


def _everything_on(name: str) -> dict[str, int]:
    """A configuration of an object with every switch on that adds code: a switch is a variable of one byte."""
    btf = read_object(OBJECTS / f"{name}.bpf.o")
    data = btf.find(".rodata", Kind.DATASEC)
    switches = {btf[one.type_id].name for one in data.members if one.size == 1} if data is not None else set()
    return dict.fromkeys(sorted(switches - _NOT_EVERYTHING), 1)


@dataclass(frozen=True, slots=True)
class Case:
    """One program under one configuration."""

    object: str
    program: str
    variant: str

    def __str__(self) -> str:
        return f"{self.object}-{self.program}-{self.variant}"

    def config(self) -> dict[str, int]:
        if self.variant == "compiled":
            return {}
        with BpfObject.open(OBJECTS / f"{self.object}.bpf.o") as bpf:
            config = _everything_on(self.object) | _COUNTS | _HOOK_VARIANTS.get(self.variant, {})
            return {name: value for name, value in config.items() if name in bpf.config_names()}

    def measure(self) -> int:
        """Instructions that the running kernel's verifier went through. Raises VerifierError, KernelError."""
        if self.program == "probe_return":
            with trial.returns_probe() as bpf, bpf.program(self.program) as loaded:
                return loaded.info.verified_insns
        return trial.verified_insns(self.object, self.program, self.config())


def cases(parts: Sequence[str] = ("",)) -> Iterator[Case]:
    """Every program with one of ``parts`` in its name, in all its configurations."""
    for name in ALL:
        variants = ("compiled", *(_HOOK_VARIANTS if name.removesuffix("6") in _DATAPATH else ("everything",)))
        with BpfObject.open(OBJECTS / f"{name}.bpf.o") as bpf:
            for program in bpf.program_names():
                if any(part in f"{name}-{program}" for part in parts):
                    yield from (Case(name, program, variant) for variant in variants)


def running() -> str:
    """MAJOR.MINOR of the running kernel."""
    return ".".join(os.uname().release.split("-")[0].split(".")[:2])


def committed(kernel: str) -> dict[str, int]:
    """The committed figures of a kernel by case; empty if there are none."""
    path = FIGURES / f"{kernel}.json"
    if not path.is_file():
        return {}
    programs = json.loads(path.read_text(encoding="utf-8"))["programs"]
    return {f"{program}-{variant}": n for program, by in programs.items() for variant, n in by.items()}


def measured(parts: Sequence[str] = ("",)) -> dict[str, dict[str, int]]:
    """Figures of the running kernel by program and variant, without those that this kernel forbids to load."""
    programs: dict[str, dict[str, int]] = {}
    for case in cases(parts):
        try:
            figure = case.measure()
        except VerifierError:
            raise
        except KernelError as error:
            print(f"{case}: {error}", file=sys.stderr)
            continue
        programs.setdefault(f"{case.object}-{case.program}", {})[case.variant] = figure
    return programs


def main() -> None:
    programs = measured([part for part in sys.argv[1:] if part != "--write"] or ("",))
    text = json.dumps({"kernel": os.uname().release, "limit": LIMIT, "programs": programs}, indent=2) + "\n"
    if "--write" in sys.argv:
        FIGURES.mkdir(exist_ok=True)
        (FIGURES / f"{running()}.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
