"""What ``--watch`` says: how many of how many, where, when, of what; nothing scrolls off unsaid."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctctl.cli.groups import FilterArgs
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


def test_a_filter_in_the_words_it_was_given() -> None:
    assert FilterArgs().words() == ()
    given = FilterArgs(ip=["10.0.0.1", "web"], state=["closing"], related=False, inverted=True, expired=False)
    assert " ".join(given.words(["tcp", "and", "dst_port == 80"])) == (
        "tcp and dst_port == 80 --ip 10.0.0.1 --ip web --state closing --no-related --not --live"
    )
    assert FilterArgs(expired=True, from_port=["80-90"]).words() == ("--from-port", "80-90", "--expired")
