"""Hatch build hook: compile the BPF objects, so that a wheel carries them and needs no compiler."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``make bpf`` before a wheel is packed; the objects are pure data inside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if self.target_name != "wheel":
            return
        subprocess.run(["make", "bpf"], cwd=self.root, check=True)
        if not list(Path(self.root, "ctctl", "bpf").glob("*.bpf.o")):
            raise RuntimeError("make bpf left no BPF object in ctctl/bpf")
