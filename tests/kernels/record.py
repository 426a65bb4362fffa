"""What a kernel said, line by line as it says it: a run that ends early, or is made in parts, loses nothing.

A line is a JSON object with ``step`` and ``name``; a later one of the same two names replaces an earlier one. The
first line says of which kernel all are; a record of another is begun anew. A line may say of which compiled
objects it is, and with which digest: once they are others it is not counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctctl.btf import Btf, btf_section, sections
from ctctl.kernel.object import OBJECTS

#: every object that the package carries
ALL = tuple(sorted(path.name.removesuffix(".bpf.o") for path in OBJECTS.glob("*.bpf.o")))
#: of a conformance vector
DATAPATH = tuple(name for name in ALL if name.startswith(("lxc", "netdev", "overlay", "xdp")))
#: of a test whose name says nothing of probes
WITHOUT_PROBES = tuple(name for name in ALL if not name.startswith("probe"))


@functools.cache
def digest(objects: tuple[str, ...]) -> str:
    """Of compiled objects, by their names: of what a kernel is given of them, in every checkout the same."""
    whole = hashlib.sha256()
    for name in objects:
        whole.update(_substance_of(name))
    return whole.hexdigest()[:16]


@functools.cache
def _substance_of(name: str) -> bytes:
    return substance((OBJECTS / f"{name}.bpf.o").read_bytes())


def substance(image: bytes) -> bytes:
    """A digest of an object's instructions, data, relocations and types.

    Where it was compiled, and a comment more or less above a line, change what debuggers and the verifier's log
    say, and nothing that is loaded.
    """
    found = hashlib.sha256()
    for name, contents in sections(image):
        match name:
            case ".BTF":
                given = repr([plain(each) for each in Btf(contents)]).encode()
            case ".BTF.ext":
                given = repr(list(_relocated(contents, btf_section(image)))).encode()
            case _ if name.startswith((".debug", ".rel.debug", ".rel.BTF")) or name == ".strtab":
                continue
            case _:
                given = contents
        found.update(name.encode() + b"\0" + hashlib.sha256(given).digest())
    return found.digest()


def plain(value: object) -> object:
    """Tuples of tuples, whatever classes a type is told by: the digest is of the object alone."""
    return tuple(map(plain, value)) if isinstance(value, tuple) else value


def _relocated(extension: bytes, btf: bytes) -> Iterator[tuple[str, int, int, str, int]]:
    """What a loader fits to the kernel's own types: section, offset, type, the path to a member, kind.

    struct btf_ext_header and struct bpf_core_relo (Documentation/bpf/btf.rst of the kernel).
    """
    length, start, size = struct.unpack_from("<I", extension, 4)[0], *struct.unpack_from("<II", extension, 24)
    strings_at = struct.unpack_from("<I", btf, 4)[0] + struct.unpack_from("<I", btf, 16)[0]

    def string(offset: int) -> str:
        return btf[strings_at + offset : btf.index(b"\0", strings_at + offset)].decode()

    part = extension[length + start : length + start + size]
    at = 4
    while at < len(part):
        section, count = struct.unpack_from("<II", part, at)
        for offset, type_id, path, kind in struct.iter_unpack("<IIII", part[at + 8 : at + 8 + 16 * count]):
            yield string(section), offset, type_id, string(path), kind
        at += 8 + 16 * count


class Record:
    """The record at ``path``, begun if there is none of the running kernel."""

    def __init__(self, path: Path) -> None:
        self.path = path
        head = {"release": os.uname().release}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if not lines or json.loads(lines[0]) != head:
            path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        # Of a guest only what it writes to a device outlasts it.
        self._copy = os.environ.get("CTCTL_RECORD_COPY")

    def add(self, step: str, name: str, objects: Sequence[str] = (), **said: Any) -> None:
        """``objects``: what it depends on; none of them: on the kernel alone."""
        of = {"objects": list(objects), "digest": digest(tuple(objects))} if objects else {}
        self._write({"step": step, "name": name, **of, **said})

    def begin(self) -> None:
        """Say of which kernel the lines are."""
        if self._copy:
            self._send(json.dumps({"release": os.uname().release}))

    def _write(self, said: dict[str, Any]) -> None:
        line = json.dumps(said)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._copy:
            self._send(line)

    def _send(self, line: str) -> None:
        # Whole when the device is closed.
        with Path(str(self._copy)).open("w", encoding="utf-8") as device:
            device.write(line + "\n")

    def said(self, step: str) -> dict[str, dict[str, Any]]:
        """What was said in a step by name, without what failed: that is to be tried again."""
        return {name: each for name, each in read(self.path)[1].get(step, {}).items() if not each.get("failed")}


def join(path: Path, lines: Path) -> None:
    """Add what a guest said over a serial line to the record that it went on from."""
    said = lines.read_text(encoding="utf-8", errors="replace").replace("\r", "").splitlines() if lines.is_file() else []
    if said:
        release = json.loads(said[0]).get("release")
        old = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = old if old and release and json.loads(old[0])["release"] == release else said[:1]
        path.write_text("".join(f"{line}\n" for line in (*kept, *said[1:])), encoding="utf-8")


def read(path: Path) -> tuple[str, dict[str, dict[str, dict[str, Any]]]]:
    """The kernel's release, and what it said by step and name. A line that was cut off, or is of objects that
    are no longer these, is not counted.
    """
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    steps: dict[str, dict[str, dict[str, Any]]] = {}
    for line in lines:
        try:
            each = json.loads(line)
        except json.JSONDecodeError:
            continue
        objects = tuple(each.pop("objects", ()))
        if objects and (not set(objects) <= set(ALL) or digest(objects) != each.pop("digest")):
            continue
        steps.setdefault(each.pop("step"), {})[each.pop("name")] = each
    return json.loads(head)["release"], steps


if __name__ == "__main__":
    join(Path(sys.argv[1]), Path(sys.argv[2]))
