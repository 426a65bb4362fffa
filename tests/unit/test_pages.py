"""Saved pages: what a browser shows of them is read, whatever stands around it."""

from __future__ import annotations

import gzip
import html
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from ctctl.tables.sources.listings import KINDS
from ctctl.tables.sources.pages import Page, shown
from ctctl.tables.sources.stream import EndedEarlyError
from tests.support import captures
from tests.support.listings import listed, read_text

CAPTURE = "cilium-1.19-dsr-node1"
LISTINGS = ("ct-list-global", "ipcache-list", "lb-list", "nat-list", "endpoint-list")


def lines_of(text: str, form: str) -> str:
    return "".join(form.format(html.escape(line), n) for n, line in enumerate(text.splitlines()))


PAGES: dict[str, Callable[[str], str]] = {
    "a comment, and its copy in an attribute": lambda text: (
        f'<div class="x" data-copy="{html.escape(text)}"><pre class="y"><code>{html.escape(text)}</code></pre></div>'
    ),
    "a file with numbers of its lines": lambda text: (
        "<table>" + lines_of(text, '<tr>\n<td data-n="{1}"></td>\n<td><span>{0}</span></td>\n</tr>\n') + "</table>"
    ),
    "lines in a cell": lambda text: "<table><tr><td>" + lines_of(text, "<div>{0}</div>") + "</td></tr></table>",
    "breaks": lambda text: f"<p>{lines_of(text, '{0}<br>')}</p>",
    "characters by number": lambda text: f"<pre>{text.replace('<', '&#60;').replace('>', '&#x3E;')}</pre>",
    "names in points": lambda text: f"<pre>{html.escape(text).replace('&lt;none&gt;', '<none>')}</pre>",
}


def page(body: str) -> str:
    return (
        "<!DOCTYPE html>\n<html><head><title>An issue</title><style>a > b {x: 1}</style>"
        '<script>if (a < b && "</x>") { c = "TCP OUT 1.1.1.1:1 -> 2.2.2.2:2 expires=1" }</script></head>\n'
        f"<body><!-- <pre> --><p>This is what it says:</p>\n{body}\n<p>And that was all.</p></body></html>\n"
    )


@pytest.mark.parametrize("way", PAGES)
@pytest.mark.parametrize("name", LISTINGS)
def test_a_page_is_what_it_shows(name: str, way: str, tmp_path: Path) -> None:
    text = captures.text(CAPTURE, f"cli/{name}.txt")
    with (
        read_text(tmp_path / "plain", text) as plain,
        read_text(tmp_path / "page", page(PAGES[way](text))) as found,
    ):
        assert sorted(listed(found)) == sorted(listed(plain))
        ours, theirs = found.listings(None), plain.listings(None)
        for kind in KINDS:
            assert sorted(map(repr, getattr(ours, kind))) == sorted(map(repr, getattr(theirs, kind))), kind
        assert not found.partial


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_pieces_of_any_size_are_one_text(size: int) -> None:
    """Tags, comments and characters are whole wherever a piece ends."""
    text = page(
        PAGES["a comment, and its copy in an attribute"](captures.text(CAPTURE, "cli/ipcache-list.txt"))
    ).encode()

    class Slow:
        def __init__(self) -> None:
            self.stream = io.BytesIO(text)

        def read(self, _size: int = 0, /) -> bytes:
            return self.stream.read(size)

    def whole(stream: io.BytesIO | Slow) -> bytes:
        reader, parts = shown(stream, lambda _work: None), []
        while part := reader.read(1 << 18):
            parts.append(part)
        return b"".join(parts)

    assert whole(Slow()) == whole(io.BytesIO(text))
    assert b"<none>" in whole(Slow())


def test_what_a_page_that_breaks_off_had_is_kept(tmp_path: Path) -> None:
    text = captures.text(CAPTURE, "cli/ct-list-global.txt")
    packed = gzip.compress(page(f"<pre>{html.escape(text)}</pre>").encode())
    with read_text(tmp_path / "x.gz", packed[:-400]) as found:
        assert len(listed(found)) > 10
        assert found.partial


def test_text_with_a_point_is_no_page(tmp_path: Path) -> None:
    """What stands in points is text, where nothing says that it is a page."""
    text = captures.text(CAPTURE, "cli/ipcache-list.txt")
    with read_text(tmp_path / "x", f"<b>see below</b>\n{text}") as found:
        assert {one.flags for one in found.listings(None).ipcache} != {None}
        assert not found.partial


@pytest.mark.parametrize(
    "piece",
    ["<html>\n<head><title>x</title>\n<script>\n", "<!DOCTYPE html>\n<!-- a comment \n", "<html>\n<table>\n<tr>\n"],
)
def test_a_piece_of_a_page_within_a_paste_swallows_nothing(piece: str, tmp_path: Path) -> None:
    lines = captures.text(CAPTURE, "cli/ct-list-global.txt").splitlines(keepends=True)
    half = len(lines) // 2
    text = f"{''.join(lines[:half])}$ curl -s http://web | head -4\n{piece}$ cilium bpf ct list global\n"
    with (
        read_text(tmp_path / "x", text + "".join(lines[half:])) as found,
        read_text(tmp_path / "plain", "".join(lines)) as plain,
    ):
        assert sorted(listed(found)) == sorted(listed(plain))


@pytest.mark.parametrize("tag", ["<a", "<b '", '<a x="', "<p\n"])
def test_where_a_tag_ends_is_looked_for_once(tag: str) -> None:
    """Tags without an end cost no more each however many there are: what is looked at is counted."""

    class Counted(bytes):
        looked = 0

        def find(self, what: bytes, start: int = 0, *rest: int) -> int:  # type: ignore[override]
            found = super().find(what, start, *rest)
            Counted.looked += (len(self) if found < 0 else found) - start
            return found

    page = Page(io.BytesIO(), lambda _work: None)
    page._plain_tags = True
    page._data = Counted(tag.encode() * 20_000 + b">")
    page._take(final=True)
    assert Counted.looked < 4 * len(page._data)


def test_who_reads_ahead_keeps_that_it_ended(tmp_path: Path) -> None:
    class Broken:
        def __init__(self) -> None:
            self.parts = [b"<html><pre>one &g", b"t; two"]

        def read(self, _size: int = 0, /) -> bytes:
            if not self.parts:
                raise EndedEarlyError("broken")
            return self.parts.pop(0)

    reader = shown(Broken(), lambda _work: None)
    assert reader.read(100) == b"one > two"
    with pytest.raises(EndedEarlyError):
        reader.read(100)
