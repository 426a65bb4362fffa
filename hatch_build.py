"""Hatch build hook: compile the BPF objects and the row formatter, so that a wheel needs no compiler."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``make bpf`` before a wheel is packed. The row formatter is machine code: the wheel is this platform's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        if version == "standard":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
        subprocess.run(["make", "bpf"], cwd=self.root, check=True)
        if not list(Path(self.root, "ctctl", "bpf").glob("*.bpf.o")):
            raise RuntimeError("make bpf left no BPF object in ctctl/bpf")
