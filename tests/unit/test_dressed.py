"""Listings as mails, editors, pages and terminals make them of what a program printed."""

from __future__ import annotations

import contextlib
import gzip
import quopri
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ctctl.errors import CtctlError
from ctctl.tables.sources.base import Source
from ctctl.tables.sources.listings import KINDS
from tests.support import captures
from tests.support.listings import listed, read_text

CAPTURE = "cilium-1.19-dsr-node1"
LISTINGS = (
    *("cli/ct-list-global.txt", "cli/nat-list.txt", "cli/lb-list.txt", "cli/lb-list.source-ranges.txt"),
    *("cli/endpoint-list.txt", "cli/ipcache-list.txt", "cmd/service-list.txt", "cmd/bpf-policy-get-all.txt"),
)


def each(of_line: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(f"{of_line(line)}\n" for line in text.splitlines())


def wrapped(text: str, *, indent: str = "") -> str:
    """As mails are: between words."""
    lines = (
        textwrap.wrap(line, 72, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]
        for line in text.splitlines()
    )
    return "".join(f"{line}\n" for pieces in lines for line in pieces)


def shown_colours(text: str, escape: str) -> str:
    """What ``grep --color`` writes, its escape character lost or shown."""
    mark = rf"{escape}[01;31m{escape}[K\1{escape}[m{escape}[K"
    return re.sub(r"(\d+\.\d+\.\d+\.\d+)", mark, text)


DRESS: dict[str, Callable[[str], str]] = {
    "an editor's arrows": lambda text: text.replace("->", "→").replace("=>", "⇒"),
    "a dash and its point": lambda text: text.replace("->", "–>"),
    "Markdown's strokes": lambda text: re.sub(r"([\[\]_*<>#|])", r"\\\1", text),
    "colours without their escape": lambda text: shown_colours(text, ""),
    "colours as they are shown": lambda text: shown_colours(text, "^["),
    "a mail as it was sent": lambda text: quopri.encodestring(text.encode()).decode(),
    "a mail's lines": wrapped,
    "a mail's lines, indented": lambda text: wrapped(text, indent="    "),
    "a mail's lines in an answer": lambda text: each(lambda line: f"> {line}")(wrapped(text)),
    "cat -A": each(lambda line: f"{line}$"),
    "columns two blanks apart": each(lambda line: re.sub(r"(?<=\S) +(?=\S)", "  ", line)),
    "a table of a page": each(lambda line: f"| {line.strip()} |"),
    "a box": each(lambda line: f"│{line:<150}│"),
    "new lines of a diff": each(lambda line: f"+{line}"),
    "ends written as characters": lambda text: text.replace("\n", "\\n"),
    "a literal of Python": lambda text: repr(text.encode()),
    "code of a forum": lambda text: f"[code]\n{text}[/code]\n",
}


def holds(source: Source) -> dict[str, list[str]]:
    found = source.listings(None)
    lists = {kind: found.nat if kind == "nat" else getattr(found, kind) for kind in KINDS}
    return {"ct": sorted(listed(source)), **{kind: sorted(map(repr, records)) for kind, records in lists.items()}}


@pytest.mark.parametrize("dress", DRESS)
@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_is_what_was_printed(name: str, dress: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, name)
    with read_text(tmp_path / "plain", text) as plain, read_text(tmp_path / "dressed", DRESS[dress](text)) as dressed:
        assert holds(dressed) == holds(plain)
        assert not dressed.partial
        assert any(holds(plain).values())


@pytest.mark.parametrize(("form", "what"), [("json", '"Key'), ("yaml", "- key")])
def test_an_element_whose_beginning_was_not_copied_is_missing(form: str, what: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, f"cli/ct-list-global.{form}")
    with read_text(tmp_path / "x", text[text.index(what) + len(what) :]) as source:
        assert len(listed(source)) == len(captures.conntrack(CAPTURE)) - 1
        assert "without their beginning" in source.partial[0]


@pytest.mark.parametrize("front", ["+", "'", 'msg="', "x="])
def test_words_that_may_be_of_an_address_are_not_taken_off(front: str, tmp_path: Path) -> None:
    """``fd10:`` of ``fd10:61::1`` is no file's name, whatever stands in front of it."""
    rows = [f"fd10:61:{n}::1/128   identity={n} encryptkey=0 tunnelendpoint=0.0.0.0 flags=<none>" for n in (1, 2, 3)]
    known: set[str] = set()
    with (
        contextlib.suppress(CtctlError),
        read_text(tmp_path / "x", "".join(f"{front}{row}\n" for row in rows)) as source,
    ):
        known = {one.prefix for one in source.listings(None).ipcache}
    assert known <= {row.split()[0] for row in rows}


def test_a_row_that_lacks_a_column_of_its_table_is_none(tmp_path: Path) -> None:
    """A policy's last row, cut off: what is left looks like an older version's."""
    text = captures.text(CAPTURE, "cmd/bpf-policy-get-all.txt").rstrip()
    with read_text(tmp_path / "x", text[: text.rindex("0") - 3].rstrip() + "\n") as source:
        assert len(source.listings(None).policy) == text.count("Allow") - 1
        assert source.partial


def test_rows_of_services_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    text = captures.text(CAPTURE, "cmd/service-list.txt").replace("/TCP (active)", "/TCP ?active?")
    with read_text(tmp_path / "x", text) as source:
        assert "line(s) of a listing that are no entry" in source.partial[0]


@pytest.mark.parametrize("name", ["cmd/service-list.txt", "cmd/bpf-policy-get-all.txt"])
def test_rows_behind_words_without_their_head(name: str, tmp_path: Path) -> None:
    """The first row too, be it one without a backend."""
    rows = [row for row in captures.text(CAPTURE, name).splitlines() if re.search(r"^(?:\d| +\d|Allow|Deny)", row)]
    plain, worded = "".join(f"{row}\n" for row in rows), "".join(f"node1: {row}\n" for row in rows)
    with read_text(tmp_path / "a", plain) as source, read_text(tmp_path / "b", worded) as found:
        assert holds(found) == holds(source)
        assert not found.partial
        assert len(source.listings(None).services) + len(source.listings(None).policy) >= 6


def test_a_stream_that_breaks_off_early_says_so(tmp_path: Path) -> None:
    """Also within what tells a mail."""
    lines = captures.text(CAPTURE, "cli/ct-list-global.txt").splitlines(keepends=True)[:10]
    with read_text(tmp_path / "x.gz", gzip.compress("".join(lines).encode())[:-12]) as source:
        assert listed(source)
        assert "cut off" in source.partial[0]
