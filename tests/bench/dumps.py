"""A table in a file, in the forms that other programs and ctctl itself write: for what reads them by the million."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctctl.tables.open import open_source
from ctctl.tables.sources.base import SourceOptions

CTCTL = Path(sys.executable).parent / "ctctl"
Octets = NDArray[np.uint8]


def _listed(form: str) -> Callable[[Path, Path], None]:
    def write(directory: Path, file: Path) -> None:
        with file.open("wb") as stream:
            subprocess.run([CTCTL, "ct", "list", "-o", form, "--from", str(directory)], stdout=stream, check=True)

    return write


def _changed(directory: Path, file: Path) -> None:
    """The Cilium CLI's lines, each with another time of its last packet."""
    listing = [CTCTL, "ct", "list", "-o", "cilium", "--from", str(directory)]
    with file.open("wb") as stream, subprocess.Popen(listing, stdout=subprocess.PIPE) as listed:
        change = ["sed", "s/ LastTxReport=[0-9]*/ LastTxReport=7/"]
        subprocess.run(change, stdin=listed.stdout, stdout=stream, check=True)
    if listed.returncode:
        raise subprocess.CalledProcessError(listed.returncode, listing)


def _exported(directory: Path, file: Path) -> None:
    subprocess.run([CTCTL, "ct", "export", str(file), "--from", str(directory)], check=True, capture_output=True)


def _written(
    octet: str, record: Callable[[Octets, Octets], list[Octets]], ends: tuple[str, str]
) -> Callable[..., None]:
    """A dump of ``bpftool``: each octet as text of one width, so that a record is one too."""
    texts = np.array([list(octet.format(number).encode()) for number in range(256)], np.uint8)

    def write(directory: Path, file: Path) -> None:
        count = 0
        with file.open("wb") as stream, open_source(str(directory), SourceOptions()) as source:
            for table in source.tables:
                for columns in table.columns():
                    parts = [texts[part].reshape(len(part), -1) for part in (columns.keys, columns.values)]
                    rows = np.hstack(record(*parts))
                    raw = rows.tobytes()
                    stream.write(ends[0].encode() + raw if not count else raw)
                    count += len(rows)
            if ends[0]:
                stream.seek(-1, 1)  # no comma behind the last
            stream.write(ends[1].format(count).encode())

    return write


def _constant(rows: Octets, text: str) -> Octets:
    return np.broadcast_to(np.frombuffer(text.encode(), np.uint8), (len(rows), len(text)))


def _json_record(keys: Octets, values: Octets) -> list[Octets]:
    said = (_constant(keys, text) for text in ('{"key":[', '],"value":[', "]},"))
    first, second, third = said
    return [first, keys[:, :-1], second, values[:, :-1], third]


def _hex_record(keys: Octets, values: Octets) -> list[Octets]:
    shown = values[:, :-1]
    lines = [part for at in range(0, shown.shape[1], 48) for part in (shown[:, at : at + 47], _constant(keys, "\n"))]
    return [_constant(keys, "key:\n"), keys[:, :-1], _constant(keys, "\nvalue:\n"), *lines]


#: How each is made of a directory of pinned tables.
FORMS: dict[str, Callable[[Path, Path], None]] = {
    "text of the Cilium CLI": _listed("cilium"),
    "JSON of ctctl": _listed("json"),
    "JSON lines of ctctl": _listed("jsonl"),
    "JSON of bpftool": _written('"0x{:02x}",', _json_record, ("[", "]")),
    "hex of bpftool": _written("{:02x} ", _hex_record, ("", "Found {} elements\n")),
    "a snapshot": _exported,
}
#: The same of what only a comparison reads.
CHANGED: dict[str, Callable[[Path, Path], None]] = {"text, each entry changed": _changed}
