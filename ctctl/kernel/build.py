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
    #: the folder of the examples that came with it; None: it came without
    examples: str | None
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
        examples=str(folder) if (folder := examples()) else None,
        bpf={
            file.name.removesuffix(".bpf.o"): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted((_PACKAGE / "bpf").glob("*.bpf.o"))
        },
    )


def examples() -> Path | None:
    """The folder of the examples: a checkout's, or below the ``share`` of where the package is installed."""
    if (_PACKAGE.parent / "pyproject.toml").exists():
        return _PACKAGE.parent / "examples"
    return next((path for above in _PACKAGE.parents if (path := above / "share/ctctl/examples").is_dir()), None)


def is_an_example(path: str | Path) -> str:
    """Words behind "there is no such file", where a page's ``examples/NAME`` was typed elsewhere; else empty."""
    place, folder = Path(path), examples()
    if folder is None or place.parent.name != "examples" or not (folder / place.name).is_file():
        return ""
    return f"; ctctl came with {folder / place.name}"


def _library() -> tuple[str | None, str | None]:
    try:
        library = libbpf()
    except UnsupportedError:
        return None, None
    return ".".join(map(str, library.version)), library.path
