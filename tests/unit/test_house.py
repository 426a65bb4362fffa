"""Rules of the house that a tool can hold: licences, names said twice, what the wheel carries."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ctctl.abi import layouts
from ctctl.model.entry import CtFlags

ROOT = Path(__file__).resolve().parents[2]
BPF_LICENCE = "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"


@pytest.mark.parametrize("path", sorted((ROOT / "bpf").rglob("*.[ch]")), ids=lambda p: str(p.relative_to(ROOT)))
def test_bpf_sources_carry_their_licence(path: Path) -> None:
    assert BPF_LICENCE in path.read_text().splitlines()[0]


def test_flag_names_are_those_of_the_kernel_side() -> None:
    def plain(name: str) -> str:
        return name.replace("_", "").lower()

    ours = {plain(flag.name or ""): flag.value for flag in CtFlags}
    theirs = {plain(flag.name or ""): flag.value for flag in layouts.CtctlCtFlags}
    assert ours == {name.removeprefix("ct"): value for name, value in theirs.items()}


def test_the_wheel_carries_the_bpf_objects_and_no_source(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("ctctl-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for source in (ROOT / "bpf").glob("*.bpf.c"):
        assert f"ctctl/bpf/{source.name.removesuffix('.c')}.o" in names
    assert not [name for name in names if name.endswith((".c", ".h"))]
    assert any(name.endswith("LICENSES/BSD-2-Clause.txt") for name in names)
