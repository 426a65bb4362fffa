"""Listings and documents as people paste them say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import KINDS
from tests.support import captures
from tests.support.listings import read_text

FILES = (
    "cli/ct-list-global.txt",
    "cli/nat-list.txt",
    "cli/lb-list.txt",
    "cli/lb-list.frontends.txt",
    "cli/lb-list.backends.txt",
    "cli/lb-list.revnat.txt",
    "cli/lb-list.source-ranges.txt",
    "cli/ipcache-list.txt",
    "cli/endpoint-list.txt",
    "cli/policy-all.txt",
    "cli/tunnel-list.txt",
    "cli/socknat-list.txt",
    "cmd/bpf-metrics-list.txt",
    "cmd/bpf-policy-get-all.txt",
    "cmd/service-list.txt",
)


def said(source: Source) -> dict[str, list[Any]]:
    """Everything a source shows, in no order."""
    found = source.listings(None)
    whole: dict[str, list[Any]] = {kind: sorted(map(repr, getattr(found, kind))) for kind in KINDS}
    for table in source.tables:
        whole[table.name] = sorted(
            bytes(k) + bytes(v) for keys, values in table.read() for k, v in zip(keys, values, strict=True)
        )
    return {name: rows for name, rows in whole.items() if rows}


#: The oldest form, and one that has every listing.
CAPTURES = ("cilium-1.14-snat-node1", "cilium-1.19-snat-node1")


@cache
def texts() -> dict[str, str]:
    return {
        f"{name} {file}": captures.text(name, file)
        for name in CAPTURES
        for file in FILES
        if file in captures.files(name)
    }


def _before(prefix: Callable[[int], str]) -> Callable[[str], str]:
    return lambda text: "".join(prefix(n) + line for n, line in enumerate(text.splitlines(keepends=True)))


def _broken(width: int) -> Callable[[str], str]:
    def broken(text: str) -> str:
        lines = text.splitlines()
        return "\n".join(line[at : at + width] for line in lines for at in range(0, len(line) or 1, width)) + "\n"

    return broken


FORMS: dict[str, Callable[[str], str | bytes]] = {
    "indented": _before(lambda _n: "    "),
    "tabbed": _before(lambda _n: "\t"),
    "fenced": lambda text: f"```\n{text}```\n",
    "with a mark": lambda text: "\ufeff" + text,
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 BE": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "ends of lines of another system": lambda text: text.replace("\n", "\r\n"),
    "tabs between columns": lambda text: re.sub(" {3,}", "\t", text),
    "one blank between columns": lambda text: re.sub(" +", " ", text),
    "wide columns": lambda text: re.sub(" {3,}", " " * 12, text),
    "colours": _before(lambda _n: "\x1b[1;32m"),
    "quoted": _before(lambda _n: "> "),
    "in a chat": lambda text: f"Hi, this is from node-7:\n\n```text\n{text}```\n\nany idea?\n",
    "kubectl logs --prefix": _before(lambda _n: "[pod/cilium-7xk2p/cilium-agent] "),
    "stern": _before(lambda _n: "cilium-7xk2p cilium-agent "),
    "a name in front": _before(lambda _n: "node1: "),
    "times in front": _before(lambda n: f"2026-11-25T19:14:{n % 60:02d}.40{n % 10}123Z "),
    "kubectl exec": lambda text: (
        "$ kubectl -n kube-system exec ds/cilium -- cilium-dbg bpf list\n"
        'Defaulted container "cilium-agent" out of: cilium-agent, config (init)\n'
        f"{text}command terminated with exit code 0\n$ \n"
    ),
    "sudo": lambda text: f"[sudo] password for ops: \n{text}",
    "a system's log": _before(lambda n: f"Nov 25 19:14:{n % 60:02d} node1 cilium-agent[1234]: "),
    "a container's log": _before(lambda n: f"2026-11-25T19:14:{n % 60:02d}.402123456+00:00 stdout F "),
    "a log of objects": lambda text: "".join(
        json.dumps({"log": line + "\n", "stream": "stdout"}) + "\n" for line in text.splitlines()
    ),
    "what a tool reports": lambda text: json.dumps({"changed": True, "rc": 0, "stdout": text}),
    "lines that a tool reports, packed": lambda text: json.dumps({"stdout_lines": text.splitlines()}),
    "lines that a tool reports": lambda text: json.dumps({"stdout_lines": text.splitlines()}, indent=4),
    "numbered by grep": _before(lambda n: f"{n + 1}:"),
    "named by grep": _before(lambda _n: "ct-list.txt:"),
    "named and numbered by grep": _before(lambda n: f"dump/1.txt{'-' if n % 5 == 2 else ':'}{n + 1}:"),
    "numbered by cat": _before(lambda n: f"{n + 1:6d}\t"),
    "found by a coloured grep": lambda text: text.replace("10.61", "\x1b[01;31m\x1b[K10.61\x1b[m\x1b[K"),
    "a window's title": _before(lambda _n: "\x1b]0;node1\x07\x1b(B"),
    "a page's text": lambda text: text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
    "a page": lambda text: f"<details><summary>list</summary>\n<pre><code>{text}</code></pre>\n</details>\n",
    "a ticket": lambda text: f"{{noformat}}\n{text}{{noformat}}\n",
    "blanks that do not break": lambda text: text.replace(" ", "\u00a0"),
    "blanks without width": _before(lambda _n: "\u200b"),
    "code, line by line": lambda text: "".join(f"`{line}`\n" for line in text.splitlines()),
    "strings, line by line": lambda text: "".join(f"{json.dumps(line)},\n" for line in text.splitlines()),
    "in quotes": lambda text: f"\u201c{text}\u201d\n",
    "ends of lines of an old system": lambda text: text.replace("\n", "\r"),
    "a terminal's recording": lambda text: (
        "Script started on 2026-11-25\n\x1b[?2004hroot@n:~# \x1b[?2004lcilium bpf list\r\r\n"
        + text.replace("\n", "\r\n")
        + "\x1b[?2004hroot@n:~# exit\r\n\nScript done on 2026-11-25\n"
    ),
    "PowerShell": lambda text: "PS C:\\> kubectl exec ds/cilium -- cilium bpf list\n" + text + "PS C:\\> \n",
    "a pager": lambda text: text.replace("\n", "\n--More--\n", 3) + "(END)\n",
    "an empty line after each": lambda text: text.replace("\n", "\n\n"),
    "twice": lambda text: f"$ cilium bpf list\n{text}$ cilium bpf list\n{text}",
    "80 columns": _broken(80),
    "132 columns": _broken(132),
    "80 coloured columns": lambda text: "".join(f"\x1b[0m{line}\x1b[K\n" for line in _broken(80)(text).splitlines()),
}


@pytest.mark.parametrize("form", FORMS)
def test_however_it_was_pasted_it_says_the_same(form: str, tmp_path: Path) -> None:
    for name, text in texts().items():
        whole = said(read_text(tmp_path / "whole", text))
        source = read_text(tmp_path / "pasted", FORMS[form](text))
        assert said(source) == whole, f"{name}, {form}"
        assert source.partial == [], f"{name}, {form}"


_DOCUMENTS = ("ct-list-global", "nat-list", "lb-list", "ipcache-list", "endpoint-list")
DRESSED: dict[str, Callable[[str], str | bytes]] = {
    "compact": lambda text: json.dumps(json.loads(text)),
    "quoted": _before(lambda _n: "> "),
    "coloured": lambda text: text.replace('"Key"', '\x1b[34;1m"Key"\x1b[0m').replace(": ", ":\x1b[0;39m "),
    "blanks that do not break": lambda text: text.replace(" ", "\u00a0"),
    "a page": lambda text: f"<pre>\n{text}</pre>\n",
    "an empty line after each": lambda text: text.replace("\n", "\n\n"),
    "PowerShell's encoding": lambda text: text.encode("utf-16"),
    "the same without its mark": lambda text: text.encode("utf-16-le"),
    "and the other way round": lambda text: text.encode("utf-16-be"),
    "twice": lambda text: f"$ list -o json\n{text}\n$ list -o json\n{text}",
    "one by one": lambda text: "\n".join(map(json.dumps, json.loads(text))) if text[0] == "[" else text,
    "kubectl logs --prefix": FORMS["kubectl logs --prefix"],
    "times in front": FORMS["times in front"],
    "a system's log": FORMS["a system's log"],
    "numbered by cat": FORMS["numbered by cat"],
    "named and numbered by grep": _before(lambda n: f"dump/1.json{'-:'[n % 5 == 2]}{n + 1}{'-:'[n % 5 == 2]}"),
    "a name before all of it": lambda text: f"node1: {json.dumps(json.loads(text))}\n",
    "one by one, in lines": lambda text: (
        "\n".join(json.dumps(item, indent=2) for item in json.loads(text)) if text[0] == "[" else text
    ),
}


@pytest.mark.parametrize("form", DRESSED)
def test_however_a_document_was_pasted_it_says_the_same(form: str, tmp_path: Path) -> None:
    for capture in CAPTURES:
        for name in _DOCUMENTS:
            text = captures.text(capture, f"cli/{name}.json")
            if form == "blanks that do not break" and name != "ct-list-global":
                continue  # they stand in its strings, too
            whole = said(read_text(tmp_path / "whole", text))
            source = read_text(tmp_path / "pasted", DRESSED[form](text))
            assert said(source) == whole, f"{capture} {name}, {form}"
            assert source.partial == [], f"{capture} {name}, {form}"


_FIELDS = (
    "expires=1000 Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=0 TxFlagsSeen=0x02 LastTxReport=100 Flags=0x0010 [ ] "
    "RevNAT=0 SourceSecurityID=3 BackendID=0 "
)


@pytest.mark.parametrize("rest", [_FIELDS, "XLATE_SRC 10.0.0.3:4000 Created=1sec ago NeedsCT=0"])
def test_several_entries_in_one_line_are_said_and_none_is_made_of_them(rest: str, tmp_path: Path) -> None:
    ends = "10.0.0.1:4000 -> 10.0.0.2:80"
    source = read_text(tmp_path / "joined", f"TCP OUT {ends} {rest} TCP IN {ends} {rest}\nUDP OUT {ends} {rest}\n")
    assert sum(map(len, said(source).values())) == 1
    assert any("no entry" in part for part in source.partial)


def test_a_word_in_front_is_no_protocol(tmp_path: Path) -> None:
    """And what names the file and the line is no part of it: an entry of protocol 0 would be made of ``7:TCP``."""
    line = f"OUT 10.0.0.1:4000 -> 10.0.0.2:80 {_FIELDS}\n"
    (table,) = read_text(tmp_path / "named", f"7:TCP {line}").tables
    assert table.name == "cilium_ct4_global"
    with pytest.raises(CtctlError, match="no entry"):
        read_text(tmp_path / "odd", f"TCP- {line}")


def test_a_line_that_is_cut_off_is_said_and_not_believed(tmp_path: Path) -> None:
    for name, text in texts().items():
        rows = text.rstrip("\n").split("\n")
        if len(rows) < 4 or not rows[-1].rstrip():
            continue
        last = rows[-1].rstrip()
        for cut in (len(last) // 3, len(last) // 2, len(last) - 1):
            try:
                source = read_text(tmp_path / "cut", "\n".join([*rows[:-1], last[:cut]]))
            except CtctlError:
                continue
            whole = said(read_text(tmp_path / "whole", text))
            wrong = [row for kind, found in said(source).items() for row in found if row not in whole.get(kind, [])]
            shorter = sum(map(len, said(source).values())) < sum(map(len, whole.values()))
            # A last number that is cut short looks like a whole one where nothing stands behind it.
            open_ended = "metrics" in name or "policy" in name or "nat-list" in name or "service-list" in name
            assert not wrong or open_ended, f"{name}: {wrong[:1]}"
            assert not shorter or source.partial or open_ended, name


def test_a_mapped_address_is_of_its_table_where_the_listing_is_whole(tmp_path: Path) -> None:
    def line(ends: str, proto: str = "TCP") -> str:
        return (
            f"{proto} OUT {ends} expires=100 Packets=0 Bytes=0 RxFlagsSeen=0x02 LastRxReport=40 TxFlagsSeen=0x00"
            " LastTxReport=0 Flags=0x0000 [ ] RevNAT=0 SourceSecurityID=2 BackendID=0 \n"
        )

    first, any4 = line("10.0.0.1:1 -> 10.0.0.2:80"), line("10.0.0.1:1 -> 10.0.0.2:53", "UDP")
    six, mapped = line("fd00::1:1 -> fd00::2:80"), line("10.0.0.3:1 -> 10.0.0.4:80")
    whole = f"{first}\n{any4}\n{six}{mapped}\n\n"
    counts = {table.name: table.count for table in read_text(tmp_path / "a", whole).tables if table.count}
    assert counts["cilium_ct6_global"] == 2
    for noise in ("$ cilium bpf ct list global\n", "Defaulted container x\n"):  # what stands around it changes nothing
        around = {
            table.name: table.count
            for table in read_text(tmp_path / "b", f"{noise}{whole}{noise}").tables
            if table.count
        }
        assert around == counts
    # Another order is not the program's: each line is what it shows.
    mixed = {
        table.name: table.count for table in read_text(tmp_path / "c", f"{six}{mapped}\n\n{first}\n{any4}\n").tables
    }
    assert (mixed["cilium_ct4_global"], mixed["cilium_ct6_global"], mixed["cilium_ct_any4_global"]) == (2, 1, 1)


LEFT_OUT = (
    *("...", "…", "[...]", "<snip>", "[... 240 lines omitted ...]", "(12,345 more lines)", "-- snip --", ". . ."),
    *("and 7 more entries", "... 12 more", "[truncated]", "# output truncated", "// ...", "{... many more like this}"),
    *("<lines skipped>", "... and many more ..."),
)


_MISSING = ["1 mark(s) of lines left out by hand: what stood there is missing"]


@pytest.mark.parametrize("mark", LEFT_OUT)
def test_lines_left_out_by_hand_are_said_to_be_missing(mark: str, tmp_path: Path) -> None:
    for name in ("cli/ct-list-global.txt", "cli/ipcache-list.txt"):
        text = captures.text(CAPTURES[1], name)
        lines = text.splitlines()
        source = read_text(tmp_path / "pasted", "\n".join([*lines[:5], mark, *lines[5:], ""]))
        assert said(source) == said(read_text(tmp_path / "whole", text)), name
        assert source.partial == _MISSING, name


@pytest.mark.parametrize("form", ["80 columns", "132 columns", "quoted", "ends of lines of another system"])
def test_lines_left_out_of_any_listing_in_any_form(form: str, tmp_path: Path) -> None:
    for name, text in texts().items():
        lines = text.splitlines()
        whole = said(read_text(tmp_path / "whole", text))
        for at in (max(len(lines) // 2, 1), len(lines)):
            source = read_text(tmp_path / "pasted", FORMS[form]("\n".join([*lines[:at], "...", *lines[at:], ""])))
            assert said(source) == whole, (name, at)
            assert source.partial == _MISSING, (name, at)


@pytest.mark.parametrize("name", ["ct-list-global.json", "nat-list.json", "lb-list.json", "ct-list-global.yaml"])
@pytest.mark.parametrize("mark", ["...", "# ... 12 more"])
def test_elements_left_out_of_a_document(name: str, mark: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURES[1], f"cli/{name}")
    rows = re.split(r"(?m)(?<=^  \},\n)|(?<=^  \],\n)|^(?=- key)", text)
    source = read_text(tmp_path / "pasted", "".join([*rows[:3], f"{mark}\n", *rows[3:]]))
    assert said(source) == said(read_text(tmp_path / "whole", text))
    assert "lb" in name or any("left out by hand" in part for part in source.partial)
    assert source.partial
    if name in ("ct-list-global.json", "nat-list.json"):
        cut = read_text(tmp_path / "cut", "".join([*rows[:3], f"{mark}\n"]))
        assert said(cut)
        assert len(cut.partial) == 2


def test_words_in_front_of_a_yaml_document(tmp_path: Path) -> None:
    text = captures.text(CAPTURES[1], "cli/ct-list-global.yaml")
    for form in ("kubectl logs --prefix", "named and numbered by grep", "numbered by cat", "a name in front"):
        source = read_text(tmp_path / "pasted", FORMS[form](text))
        assert said(source) == said(read_text(tmp_path / "whole", text)), form
        assert source.partial == [], form


def test_three_dots_in_the_talk_around_a_listing_are_no_gap(tmp_path: Path) -> None:
    for name, text in texts().items():
        source = read_text(tmp_path / "a", f"...\nHi all,\n...\nthis is what I get:\n\n{text}\nAny idea?\n...\n")
        assert source.partial == [], name
