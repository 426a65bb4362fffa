"""Every listing that ctctl prints is read back, or said by name: alone, and between others."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctctl.cli.main import app
from ctctl.errors import CtctlError
from ctctl.tables.sources.listings import KINDS
from ctctl.tables.sources.own_listings import LISTINGS, listing_of
from tests.support import captures
from tests.support.listings import listed, read_text

NODE = "cilium-1.19-snat-node1"
#: What that version's node lacks, or its bugtool has elsewhere.
MORE = (
    (NODE, "cmd/bpf-metrics-list.txt"),
    (NODE, "cmd/bpf-policy-get-all.txt"),
    ("cilium-1.14-snat-node1", "cli/tunnel-list.txt"),
)
ENTRIES = "cli/ct-list-global.txt"
FORMS = ("table", "wide", "csv", "json", "jsonl", "yaml")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "node1"
    folder.mkdir()
    for file, text in captures.files(NODE).items():
        if file.startswith("cli/") and file.endswith(".txt"):
            (folder / file.removeprefix("cli/")).write_bytes(text)
    for name, file in MORE:
        (folder / Path(file).name).write_bytes(captures.files(name)[file])
    (folder / "maglev.txt").write_text("SVC ID   LOOKUP TABLE\n[5]/v4   [1 2 3]\n")
    return folder


def printed(command: str, form: str, node: Path, columns: int = 200) -> str:
    words = [*command.split(), "-o", form, "--from", str(node)]
    done = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.stdout


@cache
def entries() -> str:
    return captures.text(NODE, ENTRIES)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", [one.command for one in LISTINGS])
def test_what_is_not_read_back_is_said(command: str, form: str, node: Path, tmp_path: Path) -> None:
    text = printed(command, form, node)
    if (command, form) == ("metrics drops", "json"):  # of one node it has all that the Cilium CLI's has
        (tmp_path / "back").write_text(text)
        assert printed(command, form, tmp_path / "back") == text
        return
    with pytest.raises(CtctlError, match=f"{command} as ctctl prints it, which is not read back; {command} -o cilium"):
        read_text(tmp_path / "alone", text)
    with read_text(tmp_path / "plain", entries()) as plain:
        wanted = sorted(listed(plain))
    for between in (f"{entries()}\n{text}", f"{text}\n{entries()}", f"{entries()}\n$ ctctl {command}\n{text}\n"):
        with read_text(tmp_path / "between", between) as found:
            assert [said.split(" as ctctl", 1)[0] for said in found.partial] == [command]
            assert sorted(listed(found)) == wanted


@pytest.mark.parametrize("front", ["", "> "])
@pytest.mark.parametrize("command", [one.command for one in LISTINGS])
def test_names_below_their_command_are_said(command: str, front: str, node: Path, tmp_path: Path) -> None:
    """An address or a number may be anybody's; the command above it says whose it is."""
    text = f"{entries()}\n$ ctctl {command} -o name\n{printed(command, 'name', node)}\n{entries()}"
    pasted = "".join(f"{front}{line}\n" for line in text.splitlines())
    with read_text(tmp_path / "plain", entries()) as plain, read_text(tmp_path / "x", pasted) as found:
        assert [said.split(" as ctctl", 1)[0] for said in found.partial][:1] == [command]
        assert sorted(listed(found)) == sorted(listed(plain))


@pytest.mark.parametrize("command", ["nat list", "policy list", "lb list --frontends"])
def test_names_that_say_whose_they_are_are_said(command: str, node: Path, tmp_path: Path) -> None:
    text = printed(command, "name", node)
    with pytest.raises(CtctlError, match=command.split(maxsplit=1)[0]):
        read_text(tmp_path / "alone", text)
    with read_text(tmp_path / "between", f"{entries()}\n{text}\n{entries()}") as found:
        assert len(found.partial) == 1
        assert command.partition(" --")[0] in found.partial[0]


@pytest.mark.parametrize(
    "line", ["$ ctctl ct list -o name", "$ ctctl lb list -o name | wc -l", "$ ctctl lb list -o wide", "10.0.0.1", "7"]
)
def test_what_names_nothing(line: str) -> None:
    assert listing_of(line) is None


@pytest.mark.parametrize("command", [one.command for one in LISTINGS])
def test_what_it_says_to_do_is_read(command: str, node: Path, tmp_path: Path) -> None:
    text = printed(command, "cilium", node)
    with read_text(tmp_path / "cilium.txt", text) as found:
        assert not found.partial
        listings = found.listings(None)
        assert sum(map(listings.count, KINDS)) == printed(command, "jsonl", node).count("\n") or command == "lb list"


def test_a_line_of_a_connection_is_no_listing(tmp_path: Path) -> None:
    """Such as programs write, and people above what they paste: ``-o name`` is not told by it."""
    with (
        read_text(tmp_path / "plain", entries()) as plain,
        read_text(tmp_path / "x", f"tcp 10.64.0.36:54260 > 10.64.0.64:8000\n{entries()}") as found,
    ):
        assert not found.partial
        assert sorted(listed(found)) == sorted(listed(plain))


def test_a_narrow_table_is_known_too(node: Path) -> None:
    """Columns that a screen has no room for are left out; those that tell the table are not."""
    for listing in LISTINGS:
        for columns in (60, 80, 120):
            head = printed(listing.command, "table", node, columns).partition("\n")[0]
            assert not head or listing_of(head) in (listing, None if head.startswith("No ") else listing), head


@pytest.mark.parametrize(
    "line",
    [
        "REASON   DIRECTION   PACKETS   BYTES   LINE   FILE",
        "TUNNEL   VALUE",
        "NAME   READY   STATUS   RESTARTS   AGE",
        "SERVICE ADDRESS   BACKEND ADDRESS (REVNAT_ID) (SLOT)",
        "PROTO  DIR  SOURCE         DESTINATION    STATE",
        "IP 10.0.0.1.80 > 10.0.0.2.4000: Flags [S]",
        '{"schema": "ctctl/doctor/v1", "findings": []}',
        '{"schema": "ctctl/ct-entry/v1", "map": "x"}',
    ],
)
def test_what_is_another_programs(line: str) -> None:
    assert listing_of(line) is None
