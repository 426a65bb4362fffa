"""``ctctl ui`` on a terminal: what a person sees and types, on files and on live tables."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctctl.kernel.clock import monotonic_s
from tests.support.children import PROGRAM, run_ctctl
from tests.support.gctables import CT, TableDir, contents, random_keys, random_values, table_dir
from tests.support.screen import FullScreen, full_screen

DUMP = Path(__file__).resolve().parents[1] / "data/samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"
LIVE = 100_000


def listed(*words: str) -> list[dict[str, object]]:
    done = run_ctctl("ct", "list", *words, "-o", "json")
    return list(json.loads(done.stdout)["entries"])


def rows_of(text: str) -> list[str]:
    """The rows on a screen, below the header."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith(("PROTO", "NODE"))), len(lines))
    return [line for line in lines[start + 1 : -1] if line]


def all_rows(text: str, pattern: str) -> bool:
    """Whether there are rows, and each of them has what the pattern says."""
    rows = rows_of(text)
    return bool(rows) and all(re.search(pattern, row) for row in rows)


def type_filter(screen: FullScreen, text: str) -> None:
    screen.press("/")
    screen.sees("done typing")
    screen.press(*text)


def field_of(screen: FullScreen) -> str:
    """What stands in the line to type in."""
    return screen.lines[3][7:].strip()


def leave(screen: FullScreen) -> None:
    screen.press("enter")
    screen.sees("q quit")


def test_a_dump_is_filtered_sorted_opened_and_left() -> None:
    with full_screen(PROGRAM, "ui", "--from", str(DUMP)) as screen:
        every = listed("--from", str(DUMP))
        screen.sees(f"row 1 of {len(every)} that match", "read once", "GC next run unknown")
        screen.until(lambda text: len(rows_of(text)) >= 15, "rows")
        assert all(len(line) <= 80 for line in screen.lines)

        type_filter(screen, "stat == new")
        screen.sees("did you mean 'state'?")
        screen.until(lambda _text: field_of(screen) == "stat == new", "all that was typed")
        screen.press("\x15")  # Ctrl-U: all that stands there
        screen.until(lambda _text: not field_of(screen), "an empty line")
        screen.press(*"state == new")
        new = listed("--from", str(DUMP), "state == new")
        screen.sees(f"row 1 of {len(new)} that match, of {len(every)}")
        screen.until(lambda text: all_rows(text, r"\bnew\b|related"), "rows that match")

        leave(screen)
        screen.press("s")
        screen.sees("sort by", "done typing")
        screen.press(*"remainin", "enter")
        screen.sees("did you mean 'remaining'?")
        screen.press("g", "enter")
        screen.sees("sorted by remaining", "q quit")
        screen.press("r")
        screen.sees("sorted by remaining, descending")

        first = listed("--from", str(DUMP), "state == new", "--sort", "-remaining", "--limit", "1")[0]
        screen.press("home", "enter")
        text = screen.sees("Esc: back", "ctctl ct get", f"{first['src_port']}")
        assert "ROLE" in text
        screen.press("esc")
        screen.sees("sorted by remaining, descending")
        screen.press("q")
        assert screen.ended() == 0


def test_the_other_pages_say_what_the_commands_say() -> None:
    top = run_ctctl("ct", "top", "--from", str(DUMP), "-o", "json")
    assert top.returncode == 0, top.stderr
    most = json.loads(top.stdout)["talkers"][0]
    doctor = run_ctctl("doctor", "--from", str(DUMP), "-o", "json")
    worst = json.loads(doctor.stdout)["findings"][0]
    with full_screen(PROGRAM, "ui", "--from", str(DUMP)) as screen:
        screen.sees("row 1 of")
        screen.press("3")
        screen.sees("most entries by src", most["key"], str(most["entries"]))
        screen.press("b")
        screen.sees("most entries by dst")
        screen.press("4")
        screen.sees("looks again", worst["check"])
        screen.press("2")
        screen.sees("a file does not change", "closing")
        screen.press("5")
        screen.sees("layout 1.16", "counted by reading all")
        screen.press("1")
        screen.sees("row 1 of")
        screen.press("q")
        assert screen.ended() == 0


def test_what_a_file_says_is_text_and_nothing_else(tmp_path: Path) -> None:
    hostile = tmp_path / "[red]x[@click=app.quit]y \x1b[31mz.txt"
    shutil.copy(DUMP, hostile)
    with full_screen(PROGRAM, "ui", "--from", str(hostile), columns=120) as screen:
        text = screen.sees("row 1 of", "[red]x[@click=app.quit]y")
        assert "\\x1b" in text
        screen.press("5")
        screen.sees("layout 1.16", "[red]x[@click=app.quit]y")
        screen.press("q")
        assert screen.ended() == 0


def test_several_files_have_their_node_as_a_column(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copy(DUMP, tmp_path / f"{name}.txt")
    words = ("--from", str(tmp_path / "one.txt"), "--from", str(tmp_path / "two.txt"))
    every = listed(*words)
    nodes = sorted({str(entry["node"]) for entry in every})
    assert len(nodes) == 2
    with full_screen(PROGRAM, "ui", *words, columns=160) as screen:
        screen.sees(f"row 1 of {len(every)}", "NODE", nodes[0])
        type_filter(screen, f'node == "{nodes[1]}"')
        screen.sees(f"of {len(every) // 2} that match")
        screen.until(lambda text: all_rows(text, f"^{re.escape(nodes[1])}"), "rows that match")


def test_a_terminal_that_is_gone_ends_it() -> None:
    with full_screen(PROGRAM, "ui", "--from", str(DUMP)) as screen:
        screen.sees("row 1 of")
        screen.hang_up()
        screen.ended()


def test_long_lines_have_the_state_first_and_move_sideways() -> None:
    with full_screen(PROGRAM, "ui", "family == 6", "--from", str(DUMP)) as screen:
        text = screen.sees("row 1 of", "→ for the rest of the line", "STATE")
        assert "DESTINATION" not in text
        screen.press(*["right"] * 6)
        screen.sees("DESTINATION")
        screen.press("r")
        screen.sees("nothing to reverse")
        screen.press("enter")
        screen.sees("Esc: back", "ctctl ct get")


def test_without_a_terminal_it_says_what_else_to_do() -> None:
    done = run_ctctl("ui", "--from", str(DUMP))
    assert done.returncode == 2
    assert "ct list" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def live(tmp_path: Path) -> Iterator[TableDir]:
    """A node of its own with a large table, no entry expired."""
    with table_dir(tmp_path) as made:
        made.create("cilium_ct4_global", 2 * LIVE)
        made.fill("cilium_ct4_global", LIVE, np.random.default_rng(1), expired=0.0, now=monotonic_s() + 3600)
        yield made


@pytest.mark.kernel
def test_a_live_table_is_followed_and_never_written(live: TableDir) -> None:
    table = live.maps["cilium_ct4_global"]
    before = contents(table)
    with full_screen(PROGRAM, "ui", "--from", str(live.path)) as screen:
        screen.sees(f"row 1 of {LIVE} that match", "every ", "pressure 50.0 %")
        screen.press("end")
        screen.sees(f"row {LIVE} of {LIVE}")
        screen.until(lambda text: "…" not in "".join(rows_of(text)), "the last rows")
        screen.press("home", "s")
        screen.sees("sort by", "done typing")
        screen.press(*"-dst_port", "enter")
        screen.sees("sorted by dst_port, descending", "q quit")
        screen.until(lambda text: len(rows_of(text)) >= 15, "rows")
        assert contents(table) == before

        more = random_keys(LIVE + 5, CT["cilium_ct4_global"], np.random.default_rng(2))[LIVE:]
        table.update_batch(more, random_values(5, np.random.default_rng(3), now=monotonic_s() + 3600, expired=0.0))
        screen.sees(f"row 1 of {LIVE + 5} that match", f"entries {LIVE + 5}")
        screen.press("2")
        screen.sees(f"least {LIVE}", f"most {LIVE + 5}")
        for key in more:
            table.delete(bytes(key))
        screen.sees(f"entries {LIVE} ")
        assert contents(table) == before
        screen.press("1", "enter")
        screen.sees("ctctl ct get", "ROLE")
        screen.press("q")
        assert screen.ended() == 0


def test_from_a_row_to_its_live_trace_and_back(live: TableDir) -> None:
    with full_screen(PROGRAM, "ui", "--from", str(live.path)) as screen:
        screen.sees("row 1 of")
        screen.press("enter")
        text = screen.sees("t: trace it live")
        flow = re.search(r"t: trace it live  (\S+ \S+ > )", text)
        assert flow is not None
        screen.press("t")
        screen.sees(f"ctctl trace '{flow[1]}", "Ctrl-C ends it")
        screen.press("\x03")
        screen.sees("Enter: back to the table")
        screen.press("enter")
        screen.sees("t: trace it live", "q quit")
        screen.press("q")
        assert screen.ended() == 0
