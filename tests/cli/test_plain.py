"""A plain ``ct list`` or ``ct get`` is read without typer: what it makes of a command line is what typer makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctctl.cli import plain, start
from ctctl.cli.groups import SourceArgs
from ctctl.cli.main import main
from ctctl.out.options import Format
from tests.support.children import CTCTL

ROOT = Path(__file__).resolve().parents[2]
DUMP = "tests/data/samples/cilium-dbg-1.16.4/ct-list-global.time-diff-ktime.txt"
FLOW = "tcp 10.64.2.110:45641 > 10.64.0.153:9090"
BUGTOOL = "examples/cilium-bugtool.tar.xz"
WORDS = (
    *("--from", "-o", "--output", "--", "-", "", "--limit", "--not", "-h", "-A", "--from=x", "-ojson", "-f", "--fro"),
    *(form.value for form in Format),
    *("JSON", "x.txt", "nf", "auto", "tcp", "proto == tcp", "and", "state == new", "10.0.0.0/8", "list", "-w", "9"),
    *("tcp 10.0.0.1:1 > 10.0.0.2:80", "--raw", "ns/pod > web:80"),
)


class AskedError(Exception):
    """What a listing was asked for."""


@pytest.fixture(scope="module")
def told() -> Any:
    """The arguments of the function that both end in, for a command line read in one of the two ways."""

    def show(where: Any, wanted: Any, options: Any, *, raw: bool = False, time_diff: bool = False) -> None:
        raise AskedError(where, wanted, options, raw, time_diff)

    def show_connections(where: Any, flow: str, options: Any, node: str | None = None, *, raw: bool = False) -> None:
        raise AskedError(where, flow, options, node, raw)

    def of(words: list[str], *, lean: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain, "show", show)
            patch.setattr(plain, "show_connections", show_connections)
            patch.setenv("CTCTL_DEBUG", "1")  # nothing is made a message of
            try:
                if lean:
                    asked = plain.read(words)
                    return None if asked is None else asked.run()
                return main(words)
            except AskedError as asked:
                where, *rest = asked.args
                return (where if isinstance(where, SourceArgs) else SourceArgs(source=where.source), *rest)
            except (Exception, SystemExit) as error:
                return type(error), str(error)

    return of


@settings(max_examples=200, deadline=None)
@given(command=st.sampled_from(["list", "get"]), words=st.lists(st.sampled_from(WORDS), max_size=7))
def test_whatever_is_typed(told: Any, command: str, words: list[str]) -> None:
    line = ["ct", command, *words]
    lean = told(line, lean=True)
    if lean is not None:
        assert lean == told(line, lean=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list"], plain.Plain("list", [], None, Format.table)),
        (["list", "--from", "x"], plain.Plain("list", [], ["x"], Format.table)),
        (
            ["list", "tcp", "--from", "-", "and", "-o", "csv", "new"],
            plain.Plain("list", ["tcp", "and", "new"], ["-"], Format.csv),
        ),
        (["list", "--output", "yaml"], plain.Plain("list", [], None, Format.yaml)),
        (["get", "a > b", "-o", "json"], plain.Plain("get", ["a > b"], None, Format.json)),
        (["get"], None),
        (["get", "a", ">", "b"], None),
        *(
            (["list", *words.split(" ")], None)
            for words in ("--from", "--from x --from y", "-o json -o json", "-o JSON", "-o", "-- tcp", "--limit 1", "")
        ),
    ],
    ids=str,
)
def test_what_is_plain(words: list[str], expected: plain.Plain | None) -> None:
    assert plain.read(["ct", *words]) == expected


@pytest.mark.parametrize("words", [["ct"], ["ct", "stats"], ["nat", "list"], ["--debug", "ct", "list"], []])
def test_no_other_command_is(words: list[str]) -> None:
    assert plain.read(words) is None


@pytest.mark.parametrize("name", ["_CTCTL_COMPLETE", "CTCTL_NODE"])
def test_what_is_said_elsewhere_is_heard(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ctctl", "ct", "list"])
    assert plain.asked() is not None
    monkeypatch.setenv(name, "a")
    assert plain.asked() is None


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--from", BUGTOOL],
        ["list", "--from", DUMP, "-o", "cilium"],
        ["list", "--from", BUGTOOL, "-o", "jsonl", "state == closed"],
        ["list", "--from", "no-such-file"],
        ["list", "--from", DUMP, "no_such_field == 1"],
        ["list", "--from", "README.md"],
        ["list", "--from", "docs", "-o", "json"],
        ["list", "--from", "tests/data/captures", "packets", ">", "0"],
        ["get", "--from", BUGTOOL, FLOW],
        ["get", "--from", DUMP, "tcp 10.64.2.110 > 10.64.0.153", "-o", "json"],
        ["get", "--from", DUMP, "tcp 1.2.3.4 > 5.6.7.8"],
        ["get", "--from", DUMP, "nothing"],
        ["get", "--from", DUMP, "tcp no-such-pod > 10.64.0.64"],
    ],
    ids=" ".join,
)
def test_it_lists_the_same_and_ends_the_same(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["ctctl", "ct", *words])
    monkeypatch.setattr(start, "_leave", lambda _status: None)
    assert plain.asked() is not None
    lean = start.main(), *capfd.readouterr()
    assert lean == (main(["ct", *words]), *capfd.readouterr())


@pytest.mark.parametrize("words", [["list", "-o", "name"], ["get", FLOW, "-o", "jsonl"]])
def test_it_comes_without_typer(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *CTCTL[1:], "ct", *words, "--from", DUMP],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()
    assert "ctctl.cli.plain" in done.stderr
    assert "typer" not in done.stderr


def test_a_reader_that_leaves_and_a_full_disk_end_as_ever() -> None:
    words = [*CTCTL, "ct", "list", "--from", DUMP, "-o", "cilium"]
    left = subprocess.run(
        ["bash", "-c", '"$@" | head -1; echo ${PIPESTATUS[0]}', "-", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.stdout.splitlines()[1:] == ["0"]
    assert "Traceback" not in left.stderr
    with Path("/dev/full").open("w") as full:
        failed = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ctctl: cannot write: No space left on device")
