"""A misspelt word is answered in one line with the nearest right one: every command, every option, every choice."""

from __future__ import annotations

import pytest

from ctctl.cli.main import main
from tests.support.commands import commands

TREE = list(commands())
#: What they do not know is for the program that they start.
FOREIGN = [("lab", "exec")]


def misspelt(word: str) -> str:
    """Close to one word, and no word itself."""
    return f"{word}q"


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 2, words
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line.replace("Did", "did")


def test_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for path, _command in TREE:
        if path:
            assert f"id you mean '{path[-1]}" in said(capsys, *path[:-1], misspelt(path[-1])), path


def test_every_option_and_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    options = choices = 0
    for path, command in TREE:
        for param in command.params if path not in FOREIGN else ():
            longest = max(param.opts, key=len)
            if not longest.startswith("--") or getattr(param, "hidden", False):
                continue
            options += 1
            assert "did you mean '--" in said(capsys, *path, misspelt(longest)), (path, longest)
            words = [str(getattr(one, "value", one)) for one in getattr(param.type, "choices", ())]
            for word in words[:1]:
                choices += 1
                assert "did you mean '" in said(capsys, *path, longest, misspelt(word)), (path, longest)
    assert options > 300
    assert choices > 30
