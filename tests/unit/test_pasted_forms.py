"""Every file of the samples and of the captured nodes says the same however it was pasted or packed."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources.base import SourceOptions
from ctctl.tables.sources.listings import KINDS
from ctctl.tables.sources.open import open_source
from tests.support import captures
from tests.support.samples import ROOT

#: a listing of a thousand entries says no more than one of a hundred
_LONGEST = 100_000
#: nor does a list of three hundred metrics say more than a status
_LONGEST_OF_NOTHING = 20_000


def _lines(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return b"\n".join(change(line) for line in data.split(b"\n"))


def _aligned(data: bytes) -> bytes:
    width = max(map(len, data.split(b"\n")))
    return _lines(data, lambda line: line and line.ljust(width))


def _zipped(data: bytes) -> bytes:
    spool = io.BytesIO()
    with zipfile.ZipFile(spool, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("listing", data)
    return spool.getvalue()


def _tarred(data: bytes) -> bytes:
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w:gz") as archive:
        info = tarfile.TarInfo("listing")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return spool.getvalue()


_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "prompts": lambda data: b"root@node-a:/home/cilium# cilium bpf x list\n" + data + b"\nroot@node-a:/home/cilium# \n",
    "defaulted": lambda data: b'Defaulted container "cilium-agent" out of: cilium-agent, config (init)\n' + data,
    "quoted": lambda data: _lines(data, lambda line: b"> " + line),
    "indented": lambda data: _lines(data, lambda line: b"    " + line),
    "aligned": _aligned,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "fenced": lambda data: b"what we saw:\n```\n" + data + b"\n```\n",
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zip": _zipped,
    "tar": _tarred,
}


def _said(data: bytes, path: Path) -> tuple[dict[str, int], dict[str, int], list[str]]:
    """How many entries of each table and records of each listing there are, and what is missing."""
    path.write_bytes(data)
    with open_source(str(path), SourceOptions()) as source:
        tables = {table.name: sum(len(columns) for columns in table.columns()) for table in source.tables}
        listings = source.listings(None)
        partial = [text.removeprefix("listing: ") for text in source.partial]
        return (
            {name: count for name, count in tables.items() if count},
            {kind: listings.count(kind) for kind in KINDS if listings.has(kind)},
            partial,
        )


#: What is no listing of ours: facts about a node, and what others print.
_NOTHING = re.compile(
    r"agent-runtime-config|/(maps|config|status|metrics-list|version|identity-list|ip-list|map-list|node-list)\b"
    r"|cmd/(endpoint-list|service-list\.json|monitor-v|shell-lb)|bpftool-(prog|net)|cmd/bpf-socknat-list"
)
#: By chance nothing but a heading.
_WITH_RECORDS = ("cilium-1.19-snat-node1/cmd/bpf-socknat-list.txt",)


def is_nothing(name: str) -> bool:
    return name not in _WITH_RECORDS and _NOTHING.search(name) is not None


def _files() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(ROOT.rglob("*")):
        if path.suffix in {".txt", ".json", ".yaml"} and path.name != "truth.json" and "empty" not in path.name:
            found[str(path.relative_to(ROOT))] = path.read_bytes()
    for name in captures.NAMES:
        for file, text in captures.files(name).items():
            if file.endswith((".txt", ".json", ".yaml")):
                found[f"{name}/{file}"] = text
    return {name: data for name, data in found.items() if 100 < len(data) < _longest(name) and b"\0" not in data}


def _longest(name: str) -> int:
    return _LONGEST_OF_NOTHING if is_nothing(name) else _LONGEST


FILES = _files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_the_same_in_whatever_form(name: str, tmp_path: Path) -> None:
    """And what says nothing is not taken for a listing in any."""
    data = FILES[name]
    path = tmp_path / Path(name).name

    def said(data: bytes) -> Any:
        try:
            return _said(data, path)
        except CtctlError:
            return None

    plain = said(data)
    # Known by its first word, which has to be that of a line.
    forms = (
        _FORMS if Path(name).name != "version.txt" else {form: _FORMS[form] for form in _FORMS if form != "indented"}
    )
    records = plain is not None and (plain[0] or plain[1])
    assert bool(records) != is_nothing(name)
    for form, way in forms.items():
        assert said(way(data)) == plain, form
