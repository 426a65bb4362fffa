"""What a command cannot use is said before it prints anything, and as what it is."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctctl.cli.main import app
from ctctl.errors import CtctlError, DecodeError, UsageError
from ctctl.fleet import collect
from tests.support import captures
from tests.support.commands import commands

NODE = "cilium-1.19-snat-node1"
#: Of each kind that some commands cannot use.
SOURCES = {
    "entries": lambda: captures.files(NODE)["cli/ct-list-global.txt"],
    "services": lambda: captures.files(NODE)["cli/lb-list.txt"],
    "status": lambda: captures.files(NODE)["cmd/status-verbose.txt"],
    "talk": lambda: b"hello\nworld\n",
    "nothing": lambda: b"",
    "another document": lambda: b'{"a": 1}\n',
    "bytes": lambda: bytes(range(256)) * 8,
    "cut off": lambda: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
#: What needs more than a source says so instead; a finding is an answer.
_MORE = {("ct", "get"): ["10.61.1.101"], ("policy", "get"): ["10.61.1.101"], ("gc",): ["--dry-run"]}
_ANSWERS = (0, 3, 5)
#: What goes on until it is ended.
_ENDLESS = (("metrics", "serve"), ("ui",))
READING = sorted(
    path
    for path, command in commands()
    if path and not hasattr(command, "list_commands") and any("--from" in option.opts for option in command.params)
    if path not in _ENDLESS
)


def run(*words: str) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "120"})
    code = done.exception.exit_code if isinstance(done.exception, CtctlError) else done.exit_code
    return code, done.stdout, done.exception


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("path", READING, ids=" ".join)
def test_a_refusal_prints_nothing(
    path: tuple[str, ...], source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a report is a file where it is asked for
    (tmp_path / "source").write_bytes(SOURCES[source]())
    code, shown, _ = run(*path, *_MORE.get(path, ()), "--from", str(tmp_path / "source"))
    assert code in _ANSWERS or not shown


def test_events_of_a_file_are_refused_before_their_titles(tmp_path: Path) -> None:
    (tmp_path / "ct").write_bytes(SOURCES["entries"]())
    for form in ("table", "wide", "csv", "jsonl", "name"):
        code, shown, error = run("ct", "events", "--from", str(tmp_path / "ct"), "-o", form)
        assert (code, shown, type(error)) == (2, "", UsageError)


def test_a_source_that_breaks_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as stdout, which nothing was written to."""
    (tmp_path / "ct").write_bytes(SOURCES["entries"]())

    def broken(*_words: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(collect, "collect_source", broken)
    code, shown, error = run("ct", "sql", "SELECT 1", "--from", str(tmp_path / "ct"))
    assert (code, shown, type(error)) == (1, "", DecodeError)
    assert str(error) == f"{tmp_path / 'ct'}: Input/output error"


def test_an_option_of_nobody_is_no_member_of_the_lab() -> None:
    code, shown, error = run("lab", "exec", "--nam", "pod1", "--", "true")
    assert (code, shown, type(error)) == (2, "", UsageError)
    assert "--nam" in str(error)
    assert "--name" in str(error)
    code, shown, error = run("lab", "exec", "--UNKNOWN", "X")
    assert (code, type(error)) == (2, UsageError)


def test_what_is_missing_is_said_once(tmp_path: Path) -> None:
    """Of a file that two readers found cut off, and of nodes that lack the same."""
    packed = gzip.compress(captures.files(NODE)["cli/ct-list-global.json"])
    (tmp_path / "ct.json.gz").write_bytes(packed[: len(packed) // 2])
    _, _, error = run("ct", "list", "--from", str(tmp_path / "ct.json.gz"))
    assert str(error) == "partial data: ct.json.gz: the gzip data is cut off"
    for node in ("n1", "n2", "n3", "n4", "n5"):
        (tmp_path / "all" / node).mkdir(parents=True)
        (tmp_path / "all" / node / "ct.txt").write_bytes(SOURCES["entries"]() + b"...\n")
    _, shown, error = run("ct", "list", "--from", str(tmp_path / "all"), "-o", "name")
    assert shown.count("\n") > 5 * 20
    assert str(error) == (
        "partial data: n1, n2, n3 and 2 more: ct.txt: 1 mark(s) of lines left out by hand: what stood there is missing"
    )
