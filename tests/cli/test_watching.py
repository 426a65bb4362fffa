"""What ``--watch`` says: how many of how many, where, when, of what; nothing scrolls off unsaid."""

from __future__ import annotations

import io
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.cli.groups import FilterArgs
from ctctl.cli.watching import Watched, watch_list, watch_top
from ctctl.ct.top import By
from ctctl.out.options import Format, OutputOptions
from ctctl.tables.open import open_source
from ctctl.tables.query.filter import EVERYTHING
from tests.bench.fill import fill, remove
from tests.support.children import CTCTL, line_of, started
from tests.support.names import unique_name
from tests.support.wait import PATIENCE_S


@pytest.fixture
def tables() -> Iterator[Path]:
    directory = Path("/sys/fs/bpf") / unique_name("watch")
    fill(directory, entries=500, capacity=1000)
    try:
        yield directory
    finally:
        remove(directory)


def first_screen(words: list[str]) -> list[str]:
    """The lines up to the first block's end, without a terminal."""
    with started(*CTCTL, *words) as process:
        lines = []
        while (line := line_of(process, process.stdout)) not in {"", "\n"}:
            lines.append(line.rstrip("\n"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    return lines


@pytest.mark.kernel
def test_the_head_says_what_is_shown(tables: Path) -> None:
    lines = first_screen(
        ["ct", "list", "--watch", "0.1", "--limit", "5", "--direction", "out", "tcp", "--from", str(tables)]
    )
    found = re.fullmatch(rf"\d\d:\d\d:\d\d  {tables}  5 of (\d+) entries that match tcp --direction out", lines[0])
    assert found is not None, lines[0]
    assert 100 < int(found[1]) < 400, "0.45 of 500 are OUT"
    assert len(lines) == 1 + 1 + 5
    lines = first_screen(["ct", "top", "--watch", "0.1", "--limit", "3", "--by", "port", "--from", str(tables)])
    assert re.fullmatch(rf"\d\d:\d\d:\d\d  {tables}  3 of \d+ groups by port", lines[0]), lines[0]


class Terminal(io.StringIO):
    """What a terminal is told, by line of the screen."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        shown = re.sub(r"\x1b\[K", "", self.getvalue().replace("\x1b[H\x1b[J", ""))
        return [line for line in re.split(r"\x1b\[\d+;1H", shown) if line]


@pytest.mark.kernel
@pytest.mark.parametrize("form", [Format.table, Format.wide])
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 10), (120, 12)], ids=str)
@pytest.mark.parametrize("limit", [None, 3, 300])
def test_what_a_screen_has_room_for(
    tables: Path, form: Format, size: tuple[int, int], limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row that is counted is on the screen, whole; the columns that are not are named."""
    columns, rows = size
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    with open_source(str(tables)) as source:
        watch_list(Watched(source, EVERYTHING), OutputOptions(form, limit=limit), 0, rounds=1)
        watched, talkers = screen.lines(), Terminal()
        monkeypatch.setattr(sys, "stdout", talkers)
        watch_top(Watched(source, EVERYTHING), By("port"), OutputOptions(form, limit=limit), 0, rounds=1)
    for lines in (watched, talkers.lines()):
        assert len(lines) < rows
        assert max(map(len, lines)) <= columns
        found = re.search(r"  (\d+) of (\d+) (entries|groups)", " ".join(lines[:2]))
        assert found is not None, lines[0]
        assert not any("more than this screen has" in line for line in lines)
        assert int(found[1]) > 0
        assert int(found[1]) <= (limit or rows) < 500 == (500 if found[3] == "groups" else int(found[2]))
    # A row of an entry starts with its mark's room and a protocol.
    assert len([line for line in watched if re.match(r"(MARK)?\s+(TCP|UDP|ICMP|SCTP)", line)]) == int(
        re.search(r"  (\d+) of", " ".join(watched[:2]))[1]  # type: ignore[index]
    )
    if form is Format.wide:
        assert any("no room at" in line for line in watched)


def test_a_filter_in_the_words_it_was_given() -> None:
    assert FilterArgs().words() == ()
    given = FilterArgs(ip=["10.0.0.1", "web"], state=["closing"], related=False, inverted=True, expired=False)
    assert " ".join(given.words(["tcp", "and", "dst_port == 80"])) == (
        "tcp and dst_port == 80 --ip 10.0.0.1 --ip web --state closing --no-related --not --live"
    )
    assert FilterArgs(expired=True, from_port=["80-90"]).words() == ("--from-port", "80-90", "--expired")
