"""Hatch build hook: what a wheel carries that is not Python.

The compiled BPF objects and the row formatter, so that no compiler is needed to use ctctl; libbpf and what it
needs (libelf, zlib), so that the node needs nothing; and a note of what was built from what. ``make dist`` sets
CTCTL_ARCH and CTCTL_LIBRARIES to build for another machine than this one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: In the order in which they must be loaded: what is needed first comes first (ctctl/_ffi/library.py).
LIBRARIES = ("libz.so.1", "libelf.so.1", "libbpf.so.1")
#: Debian packages whose copyright files go with them.
OWNERS = {"libz.so.1": "zlib1g", "libelf.so.1": "libelf1", "libbpf.so.1": "libbpf1"}
#: What a build needs, and where Debian has it.
COMPILERS = {
    "clang-19": "apt install clang-19 libbpf-dev",
    "gcc": "apt install gcc libc6-dev",
    "make": "apt install make",
}


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs ``make bpf`` before a wheel is packed. The row formatter is machine code: the wheel is its platform's."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        if version != "standard":
            _compile(root, [])
            return
        arch = os.environ.get("CTCTL_ARCH") or sysconfig.get_platform().split("-", 1)[1].replace("-", "_")
        place = root / "build/carried" / arch
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        _compile(root, [f"NATIVE={place / 'rows.so'}", f"CC={os.environ.get('CC', 'gcc')}"])
        carried = _carry_libraries(place, arch)
        _note_build(root, place, arch, carried)
        # Into the wheel from outside the package: a checkout goes on using its own and the machine's.
        build_data["force_include"].update({str(path): f"ctctl/native/{path.name}" for path in place.iterdir()})
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform([place / 'rows.so', *carried], arch)}"


def _compile(root: Path, variables: list[str]) -> None:
    missing = [f"{name} ({hint})" for name, hint in COMPILERS.items() if shutil.which(name) is None]
    if missing:
        raise SystemExit(
            f"ctctl is built from C: install {', '.join(missing)}; or install a wheel, which needs no compiler"
        )
    subprocess.run(["make", "--no-print-directory", "bpf", *variables], cwd=root, check=True)


def _carry_libraries(place: Path, arch: str) -> list[Path]:
    """Copy libbpf and its own needs, with their licences, into ``place``. Returns the copies of the libraries."""
    source = Path(os.environ.get("CTCTL_LIBRARIES", "/"))
    folders = [source / "usr/lib" / f"{arch}-linux-gnu", source / "lib" / f"{arch}-linux-gnu", source / "usr/lib64"]
    copies = []
    for name in LIBRARIES:
        found = next((folder / name for folder in folders if (folder / name).exists()), None)
        if found is None:
            # Built from a source distribution on a machine without them: that machine's own are used, as ever.
            for copy in place.iterdir():
                copy.unlink()
            return []
        copies.append(place / name)
        shutil.copyfile(found.resolve(), copies[-1])
        licence = source / "usr/share/doc" / OWNERS[name] / "copyright"
        if licence.exists():
            shutil.copyfile(licence, place / f"{name}.LICENSE")
    return copies


def _commit(root: Path) -> str | None:
    """What is built, where that is a checkout: not of another repository around it, and git need not be there."""
    if "CTCTL_COMMIT" in os.environ:
        return os.environ["CTCTL_COMMIT"] or None
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return None
    return said[1] if len(said) == 2 and Path(said[0]) == root.resolve() else None


def _note_build(root: Path, place: Path, arch: str, carried: list[Path]) -> None:
    at = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    note = {
        "commit": _commit(root),
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "machine": arch,
        "carries": [copy.name for copy in carried],
    }
    (place / "build.json").write_text(json.dumps(note, indent=1) + "\n")


def _platform(objects: list[Path], arch: str) -> str:
    """``manylinux_2_N_ARCH`` for the newest glibc symbol that anything in the wheel asks for (PEP 600)."""
    wanted = [int(minor) for path in objects for minor in re.findall(rb"GLIBC_2\.(\d+)", path.read_bytes())]
    return f"manylinux_2_{max(17, *wanted)}_{arch}"
