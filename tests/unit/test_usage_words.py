"""A misspelt word is answered in one line with the nearest right one: every command, every option, every choice."""

from __future__ import annotations

import pytest
import typer

from ctctl.cli import wrong
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
    return line


def test_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for path, _command in TREE:
        if path:
            assert f"did you mean '{path[-1]}" in said(capsys, *path[:-1], misspelt(path[-1])), path


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


@pytest.mark.parametrize("option", ["--no-pager", "--debug", "--version"])
def test_an_option_of_the_root_behind_a_command(capsys: pytest.CaptureFixture[str], option: str) -> None:
    line = said(capsys, "ct", "list", option)
    assert f"{option} stands before the command: ctctl {option}" in line


def test_a_group_by_itself_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    groups = [path for path, command in TREE if path and hasattr(command, "list_commands")]
    assert len(groups) > 8
    # What takes another command's words behind it is a group to who types it.
    for path in [*groups, ("cluster",), ("completion",)]:
        if path == ("gc",):
            continue  # collects
        assert main(list(path)) == 0, path
        by_itself = capsys.readouterr().out
        assert main([*path, "--help"]) == 0
        assert capsys.readouterr().out == by_itself, path


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        # Right somewhere else, and misspelt there.
        ("list", "ctctl ct list"),
        ("lst", "ctctl ct list"),
        ("flush", "ctctl ct flush"),
        ("simulate", "ctctl gc simulate"),
        ("nat gc", "ctctl gc"),
        # What others call it.
        ("service list", "ctctl lb list"),
        ("monitor", "ctctl trace"),
        ("help", "ctctl --help"),
        ("ct help", "--help"),
        ("ct dump", "list"),
        ("ct show", "list"),
        ("policy show", "list"),
        ("ipcache get", "list"),
        ("ct remove", "delete"),
        ("lab start", "up"),
        ("fleet query", "sql"),
        ("ct list --json", "-o json"),
        ("version --json", "-o json"),
        ("trace --jsonl", "-o jsonl"),
        ("ct list --src 10.0.0.1", "--from-ip"),
        ("ct list --no-color", "--color never"),
        ("gc --force", "--yes"),
    ],
)
def test_a_word_of_another_place_or_tool_is_answered_with_ours(
    capsys: pytest.CaptureFixture[str], line: str, ours: str
) -> None:
    assert f"; did you mean {ours!r}?" in said(capsys, *line.split())


@pytest.mark.parametrize(
    ("line", "says"),
    [
        # What is not like anything is no reason to guess, and what an option is for is not offered where it is not.
        ("xyzzy", "no command 'xyzzy' (see"),
        ("nat delete", "no command 'delete'; one of: list, stats (see"),
        ("lab up --json", "no option --json (see"),
    ],
)
def test_nothing_is_guessed(capsys: pytest.CaptureFixture[str], line: str, says: str) -> None:
    assert says in said(capsys, *line.split())


def test_every_word_of_ours_that_is_offered_is_one() -> None:
    paths = {" ".join(path): command for path, command in TREE}
    members = {path[-1] for path, _ in TREE if len(path) > 1}
    options = {name for command in paths.values() for param in command.params for name in param.opts}
    assert {line for line in wrong.ELSEWHERE if line not in paths} == {"--help"}
    assert {line for line in wrong.IN_GROUPS if line not in members} == {"--help"}
    assert {line.split()[0] for line in wrong.OPTIONS} <= options
    # None is a word of ours in the same place: it would never be looked up.
    roots = {path[0] for path, _ in TREE if len(path) == 1}
    assert not roots & {word for words in wrong.ELSEWHERE.values() for word in words}


def test_help_of_a_group_says_what_each_command_does_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    for path, command in TREE:
        if path and hasattr(command, "list_commands"):
            assert main([*path, "--help"]) == 0
            shown = " ".join(capsys.readouterr().out.split())
            for name in command.list_commands(typer.Context(command)):
                sentence = " ".join(command.get_command(None, name).help.replace("\b", " ").split()).split(". ")[0]
                assert f" {name} {sentence.rstrip('.')}." in shown, (path, name)
