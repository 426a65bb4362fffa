"""A listing with something in front of each line is the listing: in every form, at any size, cut anywhere."""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.config.budget import Budget
from ctctl.errors import CtctlError
from ctctl.tables.sources.bare import Bare, quotes_off
from ctctl.tables.sources.content import read_content
from ctctl.tables.sources.dress import QUOTE
from ctctl.tables.sources.dump import Dump
from ctctl.tables.sources.stream import Lines, nothing_spent
from ctctl.tables.sources.unpack import Packed, Unpacked
from tests.support.children import run_ctctl
from tests.unit.test_stream_lines import Broken, Pieces, all_of

#: More than a pass fills, and of each listing more bytes than are read at once.
MANY, SOME, FEW = 17_000, 1500, 40


def text_line(number: int) -> str:
    """A line of ``bpf ct list`` of an entry that no other is."""
    six = number % 5 == 4
    source = f"[fd00::{number:x}]:7" if six else f"10.1.{number >> 8}.{number & 255}:7"
    target = "[fd01::1]:80" if six else "10.0.0.1:80"
    proto, way = ("UDP", "TCP")[number % 3 > 0], ("OUT", "IN", "SVC")[number % 7 % 3]
    return (
        f"{proto} {way} {source} -> {target} expires={1000 + number} Packets=5 Bytes={number} RxFlagsSeen=0x1b"
        f" LastRxReport={number} TxFlagsSeen=0x1b LastTxReport={number} Flags=0x0013 [ RxClosing TxClosing SeenNonSyn ]"
        f" RevNAT={number % 9} SourceSecurityID={number % 60000} IfIndex=0 BackendID=0 \n"
    )


def element(number: int) -> dict[str, dict[str, Any]]:
    """The same in JSON."""
    key = {"DestAddr": [10, 1, number >> 8, number & 255], "SourceAddr": [10, 0, 0, 1], "DestPort": 80, "SourcePort": 7}
    value = {"Reserved0": 0, "BackendID": 0, "Packets": 5, "Bytes": number, "Lifetime": 1000 + number, "Flags": 19}
    value |= {"RevNAT": 256, "IfIndex": 0, "TxFlagsSeen": 27, "RxFlagsSeen": 27, "SourceSecurityID": number}
    return {"Key": {**key, "NextHeader": 6, "Flags": 0}, "Value": {**value, "LastTxReport": 7, "LastRxReport": number}}


def yaml_element(number: int) -> str:
    parts = []
    for name, struct in element(number).items():
        parts.append(f"{'- ' if not parts else '  '}{name.lower()}:\n")
        for member, said in struct.items():
            items = "".join(f"    - {item}\n" for item in said) if isinstance(said, list) else ""
            parts.append(f"    {member.lower()}:{'' if items else f' {said}'}\n{items}")
    return "".join(parts)


def octets(number: int) -> tuple[bytes, bytes]:
    return bytes((10, 0, 0, 1, 10, 1, number >> 8, number & 255, 0, 80, 0, 7, 6, 0)), number.to_bytes(56, "little")


def hex_element(number: int) -> str:
    key, value = octets(number)
    rows = "".join(f"{value[at : at + 16].hex(' ')}\n" for at in range(0, len(value), 16))
    return f"key:\n{key.hex(' ')}\nvalue:\n{rows}"


def octet_element(number: int) -> dict[str, list[str]]:
    key, value = octets(number)
    return {"key": [f"0x{byte:02x}" for byte in key], "value": [f"0x{byte:02x}" for byte in value]}


FORMS: dict[str, Callable[[int], str]] = {
    "text": lambda count: "".join(map(text_line, range(count))),
    "json": lambda count: json.dumps([element(n) for n in range(count)], indent=2) + "\n",
    "yaml": lambda count: "".join(map(yaml_element, range(count))),
    "bpftool hex": lambda count: "".join(map(hex_element, range(count))) + f"Found {count} elements\n",
    "bpftool json": lambda count: json.dumps([octet_element(n) for n in range(count)], indent=1) + "\n",
    "bpftool json, one line": lambda count: json.dumps([octet_element(n) for n in range(count)]) + "\n",
}
#: Forms of ctctl's own, as ``ct list -o`` calls them.
OWN = ("json", "jsonl", "yaml", "csv", "wide")
NAMES = (*FORMS, *(f"own {form}" for form in OWN))

QUOTES: dict[str, Callable[[int], str]] = {
    "quoted": lambda _n: "> ",
    "quoted by two": lambda _n: ">> ",
    "in a box": lambda _n: "│ ",
    "indented quotes": lambda _n: "  | ",
    "some of it quoted": lambda n: "> " if n < 300 or n % 700 < 300 else "",
    "of a depth that changes": lambda n: "> > " if n // 700 % 2 else "> ",
}
WORDS: dict[str, Callable[[int], str]] = {
    "kubectl logs --prefix": lambda _n: "[pod/cilium-x7k2p/cilium-agent] ",
    "a log": lambda n: f"2026-11-25T19:14:{n % 60:02d}.4Z node1 ",
    "named and numbered by grep": lambda n: f"dump/1.txt:{n + 1}:",
}


@pytest.fixture(scope="module")
def listings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], str]:
    """Text by form and number of rows."""
    counts = (FEW, SOME, MANY)
    found = {(name, count): made(count) for name, made in FORMS.items() for count in counts}
    for count in counts:
        path = tmp_path_factory.mktemp("bare") / "listing.txt"
        path.write_text(found["text", count])
        for form in OWN:
            found[f"own {form}", count] = run_ctctl("ct", "list", "-o", form, "--from", path).stdout
    return found


def dressed(text: str, front: Callable[[int], str]) -> str:
    whole = text.splitlines(keepends=True)
    return "".join(front(number) + line for number, line in enumerate(whole))


def read(raw: bytes, *, packed: bool = False) -> tuple[dict[str, list[tuple[bytes, bytes]]], list[str]]:
    """The rows of each table, and what was lost of them."""
    dump, budget = Dump(), Budget()
    stream = Packed(io.BytesIO(raw), budget)
    try:
        read_content(Unpacked(stream, "gzip", budget) if packed else stream, dump, "", budget.spend)
    except CtctlError as error:
        dump.partial.append(str(error))
    return rows_of(dump), dump.partial


def rows_of(dump: Dump) -> dict[str, list[tuple[bytes, bytes]]]:
    tables = {}
    for name, table in dump.tables.items():
        sizes = len(table.keys) // len(table), len(table.values) // len(table)
        parts = (
            [bytes(whole[at : at + size]) for at in range(0, len(whole), size)]
            for whole, size in zip((table.keys, table.values), sizes, strict=True)
        )
        tables[name] = list(zip(*parts, strict=True))
    return tables


@pytest.mark.parametrize("dress", [*QUOTES, *WORDS])
@pytest.mark.parametrize("name", NAMES)
def test_row_for_row_it_is_the_listing(name: str, dress: str, listings: dict[tuple[str, int], str]) -> None:
    count = MANY if dress == "quoted" else SOME
    text = listings[name, count]
    rows, partial = read(text.encode())
    assert sum(map(len, rows.values())) == count
    assert not partial
    front = (QUOTES | WORDS)[dress]
    ends = ("\n", "\r\n") if name in ("text", "json") else ("\n",)
    for end in ends:
        assert read(dressed(text, front).replace("\n", end).encode()) == (rows, partial), end


@pytest.mark.parametrize("dress", ["quoted", "of a depth that changes"])
@pytest.mark.parametrize("name", NAMES)
def test_cut_anywhere_it_says_what_the_listing_says(
    name: str, dress: str, listings: dict[tuple[str, int], str]
) -> None:
    text, rng = listings[name, FEW], random.Random(name)
    for cut in (0, 1, *rng.sample(range(len(text)), 25), len(text) - 1):
        plain = read(text[:cut].encode())
        assert read(dressed(text[:cut], QUOTES[dress]).encode()) == plain, cut


@pytest.mark.parametrize("name", NAMES)
def test_packed_and_cut_all_that_came_is_there(name: str, listings: dict[tuple[str, int], str]) -> None:
    raw = dressed(listings[name, MANY], QUOTES["quoted"]).encode()
    packed = gzip.compress(raw, 1, mtime=0)
    for part in (3, 5):
        cut = packed[: len(packed) * (part - 1) // part]
        came = zlib.decompressobj(31).decompress(cut)
        rows, _ = read(came)
        found, partial = read(cut, packed=True)
        assert found == rows
        assert any(rows.values())
        assert partial


_TEXTS = st.lists(
    st.sampled_from(
        [b"> ", b">", b"|", b"\xe2\x94\x82", b" ", b"\t", b"a", b"$", b"\n", b"\r\n", b"\xe2\x86\x92", b"\xc2\xa0"]
    ),
    max_size=40,
).map(b"".join)


@settings(max_examples=200)
@given(_TEXTS, st.data())
def test_marks_are_the_same_wherever_pieces_end(text: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[at:to] for at, to in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    bare = Bare(quotes_off(nothing_spent))
    found = b"".join([*(bare.take(piece, last=False) for piece in pieces), bare.take(b"", last=True)])
    assert found == quotes_off(nothing_spent)(text)


@settings(max_examples=200)
@given(_TEXTS)
def test_marks_are_those_of_a_line(text: bytes) -> None:
    """``dress.QUOTE`` says of one line what its marks are."""
    lines = [line.rstrip("\r") for line in text.decode().split("\n")]
    found = quotes_off(nothing_spent)(text).decode().split("\n")
    for line, bare in zip(lines, found, strict=True):
        quote = QUOTE.match(line.replace("\u00a0", " "))
        wanted = line[quote.end() :] if quote is not None else line
        assert bare.strip() in (wanted.strip(), wanted.rstrip().rstrip("$|│").strip())
        assert quote is not None or bare.rstrip("\r") == line


def fronts(lines: Lines) -> Iterator[str | None]:
    """What a document's reader does: look ahead, then go on without words."""
    lines.has(1 << 20)
    lines.without(lambda text: text.replace(b"w ", b""))
    yield from iter(lines.next, None)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_taking_words_off_loses_neither_what_came_nor_that_it_ended(size: int, end: bytes) -> None:
    whole = end.join(b"> w > line %d" % number for number in range(9))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    wanted = [f"line {number}" for number in range(9)]
    assert list(fronts(Lines(Pieces(*pieces)))) == wanted
    broken = fronts(Lines(Broken(*pieces)))
    assert [next(broken) for _ in wanted] == wanted
    with pytest.raises(CtctlError, match="cut off"):
        next(broken)


def test_a_line_is_not_waited_for_without_end() -> None:
    """A document of one line: its front is taken off, and the rest passes as it comes."""
    whole = b"> [" + b"1, > " * 60_000 + b"]"
    pieces = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    bare = Bare(quotes_off(nothing_spent))
    found = [bare.take(piece, last=False) for piece in pieces]
    assert max(map(len, found)) < 1 << 17
    assert b"".join([*found, bare.take(b"", last=True)]) == whole[2:]
    assert all_of(Lines(Pieces(*pieces))) == [whole[2:].decode()]


def test_marks_alone_are_little_work(tmp_path: Path) -> None:
    """Nothing but marks, packed: no more than other talk."""
    for text in (b"> \n" * 3_000_000, b">" * 9_000_000, b"| |\n" * 2_000_000):
        path = tmp_path / "marks.gz"
        path.write_bytes(gzip.compress(text, 9, mtime=0))
        done = run_ctctl("ct", "list", "--from", path)
        assert len(done.stderr.splitlines()) <= 1
        assert done.cpu_s < 2
        assert done.memory_bytes < 300 << 20
