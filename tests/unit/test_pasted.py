"""Listings in the middle of what people paste: noise around them, and marks before every line."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest

from ctctl.abi import pins
from ctctl.errors import CtctlError, DecodeError
from ctctl.tables.sources.listings import KINDS
from tests.support import captures
from tests.support.listings import case, listed, read, read_text


def with_noise(text: str, prefix: str = "") -> str:
    lines = text.splitlines()
    noise = [
        "$ kubectl exec -n kube-system cilium-x -- cilium bpf ct list global",
        'Defaulted container "a" out of: a, b',
    ]
    return "\n".join([*noise, "```", *(prefix + line for line in lines), "```", "(that was all)", "root@node:/# "])


PREFIXES = ("", "> ", "    ", "| ", ">> ", "node1: ", "\t")
NOISY = ("03/ct.txt", "05/fixed/cmd/cilium-bpf-nat-list.md", "27/notes.txt", "15/conntrack-L.txt")
#: A word in front of a line of netfilter's is no line of it.
NO_LINES = {("node1: ", "15/conntrack-L.txt")}


@pytest.mark.parametrize(("prefix", "name"), [each for each in product(PREFIXES, NOISY) if each not in NO_LINES])
def test_prompts_fences_quotes_and_indentation(prefix: str, name: str, tmp_path: Path) -> None:
    number, _, rest = name.partition("/")
    original = case(number) / rest
    path = tmp_path / "paste.txt"
    path.write_text(with_noise(original.read_text(), prefix))
    with read(original) as plain, read(path) as pasted:
        assert sorted(listed(pasted)) == sorted(listed(plain))
        assert len(pasted.listings(None).nat) == len(plain.listings(None).nat)
        assert not pasted.partial


@pytest.mark.parametrize("front", ["cmd/a-b.md:{n}:", "agent-x2 | ", "2026-01-01T00:00:{n}.1Z ", "ns/pod-{n} agent: "])
@pytest.mark.parametrize("name", ["lb-list", "lb-list.backends", "ipcache-list", "endpoint-list", "nat-list"])
def test_rows_that_were_picked_out_with_words_in_front(name: str, front: str, tmp_path: Path) -> None:
    """As ``grep -rn`` has them: rows of a table without its head."""
    rows = [row for row in captures.text("cilium-1.19-dsr-node1", f"cli/{name}.txt").splitlines()[1:] if row.strip()]
    worded = [front.format(n=10 + n) + row for n, row in enumerate(rows)]
    first = next(n for n, row in enumerate(rows) if "::" not in row)
    for some, picked in ((rows, worded), (rows[first : first + 1], worded[first : first + 1])):
        with (
            read_text(tmp_path / "plain", "\n".join(some)) as plain,
            read_text(tmp_path / "picked", "\n".join(picked)) as found,
        ):
            assert found.listings(None) == plain.listings(None)
            assert any(found.listings(None).has(kind) for kind in KINDS)


def test_a_number_that_is_of_the_line_or_of_the_address(tmp_path: Path) -> None:
    """With one line nothing tells: it is no record, and that is said."""
    row = "fd00::1/128   identity=7 encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>"
    for text, prefixes in (
        (f"a.md:11:{row}\na.md:12:{row.replace('::1', '::2')}\n", ["fd00::1/128", "fd00::2/128"]),
        (f"a.md:11:{row}\na.md:11:{row.replace('::1', '::2')}\n", ["11:fd00::1/128", "11:fd00::2/128"]),
    ):
        with read_text(tmp_path / "x", text) as found:
            assert [one.prefix for one in found.listings(None).ipcache] == prefixes
    with pytest.raises(CtctlError, match="a number that may be of an address"):
        read_text(tmp_path / "x", f"a.md:11:{row}\n")


def test_lines_that_only_look_like_rows_behind_words(tmp_path: Path) -> None:
    """Words in front are those of several lines; what a log says of an address is no row."""
    log = "12:00:01 INFO backend 5 TCP://10.0.0.1 is gone\nretrying in 3 s\nnode 10.0.0.1/32 identity=5\nready\n"
    with read_text(tmp_path / "log", log + captures.text("cilium-1.19-dsr-node1", "cli/lb-list.txt")) as found:
        assert not found.listings(None).backends
        assert not found.listings(None).ipcache


COMMAND = "cilium-dbg bpf ct list global"


@pytest.mark.parametrize(
    ("around", "tables"),
    [
        (f"root@n1:/home/cilium# {COMMAND}\n{{}}root@n1:/home/cilium# \n", 4),
        (f'$ kubectl exec ds/cilium -- {COMMAND}\nDefaulted container "cilium-agent" out of: a, b\n{{}}$ ', 4),
        (f"# {COMMAND}\n\n```\n{{}}```\n", 4),
        (f"$ {COMMAND}\n{{}}", 2),
        # What was said instead of a listing, what is no number of tables, another command.
        (f"$ {COMMAND}\n{{}}Error: no such map\n", 0),
        (f"$ {COMMAND}\n\n{{}}$ \n", 0),
        ("$ cilium-dbg bpf nat list\n{}$ \n", 0),
    ],
)
def test_a_command_that_listed_nothing_but_empty_lines(around: str, tables: int, tmp_path: Path) -> None:
    text = around.format("\n" * (tables or 4))
    if not tables:
        with pytest.raises(DecodeError):
            read_text(tmp_path / "x", text)
        return
    with read_text(tmp_path / "x", text) as source:
        assert [table.name for table in source.tables] == list(pins.CT_TABLES[:tables])
        assert not source.partial
        assert sum(len(columns) for table in source.tables for columns in table.columns()) == 0


def test_indented_rows_with_an_empty_left_column(tmp_path: Path) -> None:
    path = tmp_path / "lb.txt"
    text = (case("11") / "lb.txt").read_text()
    path.write_text("".join(f"      {line}\n" for line in text.splitlines()))
    with read(path) as indented, read(case("11") / "lb.txt") as plain:
        assert indented.listings(None).services == plain.listings(None).services
        assert any(slot.slot for slot in indented.listings(None).services)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"\xff\xfe\x00", b"\xff\xfe" + b"\x00\xd8" * 50_000, b"\xfe\xff\xdc\x00T"]
)
def test_utf_16_that_is_no_listing(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(CtctlError):
        read(path)


@pytest.mark.parametrize("prefix", ["", "> ", "  "])
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_documents_in_the_middle_of_a_paste(prefix: str, form: str, tmp_path: Path) -> None:
    capture = captures.NAMES[0]
    whole = captures.text(capture, f"cli/ct-list-global.{form}")
    nat = captures.text(capture, "cli/nat-list.txt")
    path = tmp_path / "paste.txt"
    path.write_text(with_noise(whole, prefix) + "\n\nand the SNAT table:\n" + nat)
    with read(path) as source:
        assert len(listed(source)) == len(captures.conntrack(capture))
        assert len(source.listings(None).nat) == len(nat.split("\n")) - nat.count("\n\n") - 1
        assert not source.partial


PAIRS = """{
  "10.96.0.10:53 (0)": [
    "0.0.0.0:0 (2) (0) [ClusterIP, non-routable]"
  ],
  "10.96.0.10:53 (1)": [
    "10.0.0.14:53 (2) (1)"
  ]
}
"""


@pytest.mark.parametrize("mark", ["...", "[... 200 more ...]", "<snip>"])
@pytest.mark.parametrize("line", range(1, 8))
def test_what_was_left_out_of_a_json_listing_by_pairs(mark: str, line: int, tmp_path: Path) -> None:
    """The rest is read, what follows too, and it is not called damaged."""
    lines = PAIRS.splitlines(keepends=True)
    text = "".join([*lines[:line], f"    {mark}\n", *lines[line:]]) + "10.96.0.11:53 (1)   10.0.0.15:53 (3) (1)\n"
    with read_text(tmp_path / "pasted", text) as source:
        assert [slot.rev_nat for slot in source.listings(None).services] == [2, 2, 3]
        assert source.partial == ["1 mark(s) of lines left out by hand: what stood there is missing"]


def test_json_in_one_long_line(tmp_path: Path) -> None:
    """As ``jq -c`` writes it."""
    pairs = {f"10.96.{n >> 8}.{n & 255}:80 (1)": ["10.1.1.1:80 (1) (1)"] for n in range(25_000)}
    record = captures.document("cilium-1.16-snat-node1", "cli/ct-list-global.json")[0]
    entries = [record | {"Key": record["Key"] | {"SourcePort": n}} for n in range(3000)]
    text = f"{json.dumps(pairs)}\n{json.dumps(entries)}\n" + "10.96.255.255:53 (1)   10.0.0.15:53 (3) (1)\n"
    assert max(map(len, text.split("\n"))) > 1 << 20
    with read_text(tmp_path / "pasted", text) as source:
        assert len(source.listings(None).services) == 25_001
        assert len(listed(source)) == 3000
        assert not source.partial
