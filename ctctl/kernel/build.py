"""What this installation was built from: what a bug report needs."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from ctctl import __version__
from ctctl._ffi import libbpf
from ctctl.errors import UnsupportedError

_PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Build:
    """This installation and the machine that it runs on."""

    ctctl: str
    #: where the package is
    path: str
    #: git commit, and time (ISO 8601, UTC) of the wheel's build; None in a checkout, which is what its files are
    commit: str | None
    built_at: str | None
    #: ``MAJOR.MINOR`` and the file of the libbpf in use; None without one
    libbpf: str | None
    libbpf_path: str | None
    kernel: str
    machine: str
    python: str
    #: SHA-256 of each compiled BPF object, by its name
    bpf: dict[str, str]


def installation() -> Build:
    """Describe this installation. Raises nothing for what is missing."""
    note = _PACKAGE / "native/build.json"
    made: dict[str, str | None] = json.loads(note.read_text()) if note.exists() else {}
    version, path = _library()
    return Build(
        ctctl=__version__,
        path=str(_PACKAGE),
        commit=made.get("commit"),
        built_at=made.get("built_at"),
        libbpf=version,
        libbpf_path=path,
        kernel=platform.release(),
        machine=platform.machine(),
        python=".".join(map(str, sys.version_info[:3])),
        bpf={
            file.name.removesuffix(".bpf.o"): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted((_PACKAGE / "bpf").glob("*.bpf.o"))
        },
    )


def _library() -> tuple[str | None, str | None]:
    try:
        library = libbpf()
    except UnsupportedError:
        return None, None
    return ".".join(map(str, library.version)), library.path
