#!/usr/bin/env python3
"""Run what the documentation shows, and compare it with what is printed now.

Usage: tools/run_pages.py [--write] [PAGE…]     --write: put what is printed now in its place

A fenced block marked `console` is a terminal: lines that begin with "$ " are commands, run by bash in the root of the
repository with a terminal of 100 columns; the lines behind one are what it prints, stdout and stderr. A line of just
"…" stands for any lines, a "…" within a line for any text. `console tutorial` marks the blocks of a page that is
followed from top to bottom, as root: a test in tests/lab does that. No other block may show commands, or what one
printed.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANY = "…"
#: A terminal's width, no colours, no pager, the same words everywhere.
ENVIRONMENT = {"COLUMNS": "100", "LINES": "50", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of a page: where it stands, and what the page says that it prints."""

    page: Path
    #: lines of the page: the first of the command, the first and the one behind the last of its output
    at: int
    begin: int
    end: int
    command: str
    output: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.at + 1}"


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shown(page: Path, mark: str = "console") -> Iterator[Shown]:
    """The commands of a page's blocks with this mark, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    inside = False
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            inside = not inside and line == f"```{mark}"
            at += 1
            continue
        if not inside or not line.startswith("$ "):
            at += 1
            continue
        first = at
        command = line[2:]
        while command.endswith("\\"):
            at += 1
            command = f"{command[:-1]} {lines[at].lstrip()}"
        begin = at = at + 1
        while not lines[at].startswith(("$ ", "```")):
            at += 1
        yield Shown(page, first, begin, at, command, tuple(lines[begin:at]))


def blocks(page: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """The fenced blocks of a page: the line each begins at (from 1), its mark, its lines."""
    mark, lines, begin = None, [], 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.lstrip().startswith("```"):
            lines.append(line)
        elif mark is None:
            mark, lines, begin = line.lstrip()[3:].strip(), [], number
        else:
            yield begin, mark, tuple(lines)
            mark = None
    if mark is not None:
        yield begin, "without an end", tuple(lines)


def printed(command: str, programs: Path = ROOT / ".venv/bin", place: Path = ROOT) -> list[str]:
    """What a command prints: stdout and stderr, in the order in which they come. ``programs``: where ctctl is."""
    environment = {**os.environ, **ENVIRONMENT, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return [line.rstrip() for line in done.stdout.splitlines()]


def matches(expected: tuple[str, ...], lines: list[str]) -> bool:
    """Whether what was printed is what a page shows."""
    parts = [
        r"(?:.*\n)*" if line == ANY else re.escape(line).replace(re.escape(ANY), ".*") + r"\n" for line in expected
    ]
    return re.fullmatch("".join(parts), "".join(f"{line}\n" for line in lines)) is not None


def check(place: Shown, lines: list[str] | None = None) -> str:
    """A difference to read, or an empty string. ``lines``: what was printed; None: as in the repository's root."""
    lines = printed(place.command) if lines is None else lines
    if matches(place.output, lines):
        return ""
    difference = difflib.unified_diff(place.output, lines, f"{place.name}: {place.command}", "printed now", lineterm="")
    return "\n".join(difference)


def write(page: Path) -> int:
    """Put what is printed now into the page, where it is not what the page shows. Returns how many outputs changed."""
    lines = page.read_text(encoding="utf-8").splitlines()
    changed = 0
    for place in reversed(list(shown(page))):
        now = printed(place.command)
        if not matches(place.output, now):
            lines[place.begin : place.end] = now
            changed += 1
    if changed:
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return changed


def main(words: list[str]) -> int:
    named = [Path(word).resolve() for word in words if not word.startswith("-")] or pages()
    if "--write" in words:
        for page in named:
            if changed := write(page):
                print(f"{page.relative_to(ROOT)}: {changed} outputs written")
        return 0
    failures = [difference for page in named for place in shown(page) if (difference := check(place))]
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
