"""Every ctctl command on a page, and every example of a help text, is one that this ctctl takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from ctctl.cli.cluster import command_of

ROOT = Path(__file__).parents[2]
_SHOWN = re.compile(r"^(?: {4,}|\$ )(ctctl .*)")
#: In a help text, which is on a page too.
_HELP = re.compile(r"^ {2,}(ctctl .*)")
#: What a shell does with the rest of a line, and placeholders of a page.
_END = re.compile(r"[|&;<>]+")


def commands(shown: re.Pattern[str] = _SHOWN) -> Iterator[tuple[str, list[str]]]:
    """Where it is shown, and its words without the first."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            if found := (_HELP if shown is _SHOWN and page.name == "cli.md" else shown).match(line):
                # A remark stands behind a command, two blanks or a # apart.
                text = re.split(r"\s{2,}|\s#\s", found[1].removesuffix("\\"))[0]
                yield f"{page.relative_to(ROOT)}:{number}", list(_words(text))


def _words(text: str) -> Iterator[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)[1:]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        # 2> is two words here.
        if _END.fullmatch(word) or word == "…" or (word in {"1", "2"} and following.startswith(">")):
            return
        yield word


@pytest.mark.parametrize(("place", "words"), list(commands()))
def test_a_command_on_a_page_is_one(place: str, words: list[str]) -> None:
    found = command_of(words)
    assert found is not None, f"{place}: no command {' '.join(words)}"
    command, rest = found
    try:
        command.make_context(command.name, list(rest))
    except typer.Exit:
        pass  # --help and --list say something and end
    except typer.TyperException as error:
        pytest.fail(f"{place}: {' '.join(words)}: {error.format_message()}")
